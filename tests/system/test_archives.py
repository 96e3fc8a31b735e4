"""The archive of a batch through nginx: the same bytes as from the service, in parts and after an interruption."""

import asyncio
import io
import random
import shutil
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.http.batch_requests import created, ended, video
from tests.system.behind_nginx import BehindNginx, behind_nginx

TRACKS, TRACK_BYTES = 4, 1_500_000


@asynccontextmanager
async def archived(folder: Path) -> AsyncIterator[tuple[BehindNginx, str, bytes]]:
    """Yield a site, the URL of an archive through nginx, and its content as the service itself sends it."""
    async with behind_nginx(folder) as site:
        site.service.converter.size_bytes = TRACK_BYTES
        batch = await ended(site.service, await created(site.service, [video(number) for number in range(TRACKS)]))
        async with site.service.client.get(site.service.url + batch["archive_url"]) as response:
            assert response.status == 200
            whole = await response.read()
        yield site, site.url + batch["archive_url"], whole


async def test_an_archive_arrives_whole_and_in_parts_and_is_not_buffered_in_files(tmp_path: Path) -> None:
    chance = random.Random(20261126)
    async with archived(tmp_path) as (site, url, whole):
        async with site.service.client.get(url) as response:
            assert (response.status, response.content_length) == (200, len(whole))
            assert await response.read() == whole
            etag = response.headers["ETag"]
        assert not etag.startswith("W/")
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            assert archive.testzip() is None
        for _ in range(50):
            first, last = sorted(chance.randrange(len(whole)) for _ in range(2))
            part = {"Range": f"bytes={first}-{last}", "If-Range": etag}
            async with site.service.client.get(url, headers=part) as response:
                assert (response.status, await response.read()) == (206, whole[first : last + 1])
                assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
        async with site.service.client.get(url, headers={"Range": "bytes=5-9", "If-Range": '"other"'}) as response:
            assert (response.status, await response.read()) == (200, whole)
        async with site.service.client.get(url, headers={"Range": f"bytes={len(whole)}-"}) as response:
            assert (response.status, response.content_type) == (416, "application/problem+json")
        async with site.service.client.head(url) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(whole)))
        assert "temporary file" not in site.nginx.error_log()
        assert site.complaints() == []


async def interrupted(site: BehindNginx, url: str, path: Path, size_bytes: int) -> str:
    """Save the beginning of an archive, and close the connection. Returns its ETag."""
    async with site.service.client.get(url) as response:
        path.write_bytes(await response.content.readexactly(size_bytes))
        response.close()
        return response.headers["ETag"]


@pytest.mark.parametrize(
    "command", [("curl", "-fsS", "-C", "-", "-o"), ("wget", "-q", "--no-proxy", "-c", "-O")], ids=["curl", "wget"]
)
async def test_an_interrupted_archive_is_resumed(tmp_path: Path, command: Sequence[str]) -> None:
    """With the programs that this machine has, and in every case with a request of the test's own."""
    async with archived(tmp_path) as (site, url, whole):
        path = tmp_path / "archive.zip"
        size_bytes = 2_000_001
        etag = await interrupted(site, url, path, size_bytes)
        part = {"Range": f"bytes={size_bytes}-", "If-Range": etag}
        async with site.service.client.get(url, headers=part) as response:
            assert (response.status, path.read_bytes() + await response.read()) == (206, whole)
        if shutil.which(command[0]) is not None:
            process = await asyncio.create_subprocess_exec(*command, path, url)
            assert await process.wait() == 0
            assert path.read_bytes() == whole
