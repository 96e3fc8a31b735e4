"""Sound through nginx with the production files: it arrives while it is encoded, and what breaks it stays visible."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError

from tests.http.played_encoder import FRAME_BYTES, INFO_BYTES, PlayedEncoder, encoder_of, frames
from tests.stand.waiting import until
from tests.system.behind_nginx import BehindNginx, behind_nginx
from ytmp3.core.errors import FailureCode

VIDEO = "dQw4w9WgXcQ"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[BehindNginx]:
    async with behind_nginx(tmp_path) as running:
        yield running


async def begun(site: BehindNginx, folder: Path) -> tuple[str, PlayedEncoder]:
    site.service.converter.hold(VIDEO)
    job = await site.service.submit(VIDEO)
    encoder = await encoder_of(site.service, VIDEO, folder)
    encoder.begin()
    encoder.write(1)
    return site.url + job["listen_url"], encoder


async def test_each_frame_arrives_at_once_and_the_end_redirects_to_the_track(site: BehindNginx, tmp_path: Path) -> None:
    url, encoder = await begun(site, tmp_path)
    client = site.service.client
    async with client.get(url) as response:
        assert response.headers["Cache-Control"] == "no-store"
        await response.content.readexactly(INFO_BYTES)
        for number in range(3):
            # The next frame is written only when this one has arrived.
            assert await response.content.readexactly(FRAME_BYTES) == frames(1, number)
            encoder.write(1)
        async with client.get(url) as other:
            await other.content.readexactly(INFO_BYTES)
        await until(lambda: site.service.parts.listeners.active == 1, "the listener that left is not counted")
        site.service.converter.held[VIDEO].set()
        assert await response.read() == frames(1, 3)
    async with client.get(url, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (
            307,
            url.removeprefix(site.url).replace("listen", "download"),
        )


async def test_a_failed_conversion_is_no_complete_response(site: BehindNginx, tmp_path: Path) -> None:
    url, _ = await begun(site, tmp_path)
    async with site.service.client.get(url) as response:
        await response.content.readexactly(INFO_BYTES + FRAME_BYTES)
        site.service.converter.fail(VIDEO, FailureCode.OUTPUT_TRUNCATED)
        site.service.converter.held[VIDEO].set()
        with pytest.raises(ClientPayloadError):
            await response.read()
