"""Identities from IDENTITIES_FILE: shown by name, reloaded while the service runs, and never with their secrets."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until
from ytmp3.app import Service
from ytmp3.config import Config, ConfigError
from ytmp3.serve import Signals, reload_identities, run

SECRET = "hunter2"
TWO = f"home videos_per_hour=24\nvpn proxy=http://user:{SECRET}@127.0.0.1:1 videos_per_hour=0\n"


async def identities_of(service: RunningService) -> list[dict[str, Any]]:
    async with service.client.get(f"{service.url}/stats") as response:
        text = await response.text()
        assert SECRET not in text
        return list((await response.json())["identities"])


async def test_identities_are_shown_by_name_and_reloaded(tmp_path: Path) -> None:
    file = tmp_path / "identities"
    file.write_text(TWO)
    file.chmod(0o600)
    async with running_service(tmp_path / "data", IDENTITIES_FILE=str(file)) as service:
        shown = await identities_of(service)
        assert [(each["name"], each["state"], each["videos_per_hour"]) for each in shown] == [
            ("home", "ok", 24),
            ("vpn", "ok", 0),
        ]
        await service.completed("video000001")
        async with service.client.get(f"{service.url}/metrics") as response:
            metrics = await response.text()
        assert 'ytmp3_identity_paused{identity="vpn"} 0.0' in metrics
        assert 'ytmp3_identity_pace{identity="home"} 1.0' in metrics
        assert SECRET not in metrics
        file.write_text("office videos_per_hour=12\n")
        await reload_identities(service.parts)
        assert [each["name"] for each in await identities_of(service)] == ["office"]
        file.write_text(f"office proxy={SECRET}\n")
        await reload_identities(service.parts)
        assert [each["name"] for each in await identities_of(service)] == ["office"]


async def test_a_wrong_line_prevents_the_start_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "identities"
    file.write_text(f"home\nvpn proxy=ftp://user:{SECRET}@proxy\n")
    with pytest.raises(ConfigError, match=r"IDENTITIES_FILE: .*: line 2: proxy: expected") as refused:
        async with running_service(tmp_path / "data", IDENTITIES_FILE=str(file)):
            pass
    assert SECRET not in str(refused.value)


async def test_without_the_file_there_is_one_identity_with_the_budget_of_the_settings(tmp_path: Path) -> None:
    async with running_service(tmp_path, EGRESS_VIDEOS_PER_HOUR="60") as service:
        (only,) = await identities_of(service)
        assert (only["name"], only["videos_per_hour"], only["tokens"]) == ("default", 60, 5.0)
        await service.completed("video000001")
        (only,) = await identities_of(service)
        assert only["tokens"] < 5.0


class FailingService:
    """A service whose files cannot be reloaded, because of a bug."""

    def __init__(self) -> None:
        self.reloads = 0

    @property
    def config(self) -> Config:
        self.reloads += 1
        raise RuntimeError


async def test_a_reload_that_fails_does_not_prevent_later_ones() -> None:
    service, signals = FailingService(), Signals()
    running = asyncio.create_task(run(cast(Service, service), signals))
    for _ in range(2):
        service.reloads = 0
        signals.reload.set()
        await until(lambda: service.reloads == 3, "all three files were tried", poll_seconds=0.01)
    signals.stopped.set()
    await running
