"""The access log: one line for each request, without the query; off by default."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.http.running_service import running_service


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == "request"]


async def test_each_request_is_logged_where_that_is_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running_service(tmp_path / "data", ACCESS_LOG="on") as service:
        await service.client.get(f"{service.url}/stats?signature=secret")
        await service.client.post(f"{service.url}/extract", data="{}")
    stats, extract = requests(caplog)
    assert (stats["method"], stats["path"], stats["status"]) == ("GET", "/stats", 200)
    assert stats["client"] == "addr:127.0.0.1"
    assert (extract["path"], extract["status"], extract["code"]) == ("/extract", 415, "unsupported_media_type")
    assert extract["seconds"] >= 0


@pytest.mark.parametrize(("level", "count"), [(logging.INFO, 0), (logging.DEBUG, 1)])
async def test_requests_are_otherwise_logged_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, level: int, count: int
) -> None:
    caplog.set_level(level)
    async with running_service(tmp_path / "data") as service:
        await service.client.get(f"{service.url}/stats")
    assert len(requests(caplog)) == count
