"""Three instances with one Valkey and one bucket, and no folder in common, are one service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession, DummyCookieJar, web

from tests.fakes import FakeConverter, content_of
from tests.stand.s3_server import S3Server
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.app import Service, running
from ytmp3.config import load
from ytmp3.http.connections import Runner
from ytmp3.http.keys import key_line, new_secret

pytestmark = pytest.mark.xdist_group("s3")

KEY = new_secret(b"a" * 24)
SIGNED = {"DOWNLOAD_LINK_SECONDS": "600", "LINK_SECRET": "x" * 40, "BURST_SIZE": "100000"}


def is_ready(part: Service) -> bool:
    return part.health.is_ready


@asynccontextmanager
async def instances(
    folder: Path, server: S3Server, count: int = 3
) -> AsyncIterator[tuple[list[str], list[Service], FakeConverter]]:
    """Start instances, each in a folder of its own; yield their URLs, their parts, and what converts for all."""
    (folder / "valkey").mkdir()
    (folder / "keys").write_text(key_line("alice", KEY))
    valkey = Valkey(folder / "valkey", settings={"maxmemory-policy": "noeviction"})
    converter = FakeConverter()
    shared = SIGNED | server.environment(uuid4().hex) | {"API_KEYS_FILE": str(folder / "keys")}
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(valkey.start)
        stack.callback(valkey.stop)
        urls, parts = [], []
        for number in range(count):
            settings = shared | {"REDIS_ADDR": valkey.address, "DATA_DIR": str(folder / f"data-{number}")}
            parts.append(await stack.enter_async_context(running(load(settings), lambda *_: converter)))
            runner = Runner(parts[-1].app, shutdown_seconds=1.0, limit=parts[-1].connections)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        for part in parts:
            await until(partial(is_ready, part), "every instance is ready")
        yield urls, parts, converter


async def test_a_track_of_one_instance_is_downloaded_from_another(s3_server: S3Server, tmp_path: Path) -> None:
    headers = {"X-API-Key": KEY}
    async with (
        instances(tmp_path, s3_server) as (urls, parts, converter),
        ClientSession(headers=headers, cookie_jar=DummyCookieJar()) as client,
        ClientSession(cookie_jar=DummyCookieJar()) as stranger,
    ):

        async def completed(number: int) -> dict[str, Any]:
            """Have a video converted by one instance, and return its job as the next one shows it."""
            link = {"url": f"https://youtu.be/video{number:06d}"}
            async with client.post(f"{urls[number % 3]}/extract", json=link) as response:
                assert response.status in {200, 202}, await response.text()
                job: dict[str, Any] = await response.json()

            async def is_completed() -> bool:
                async with client.get(f"{urls[(number + 1) % 3]}/status/{job['job_id']}") as response:
                    job.update(await response.json())
                    return bool(job["status"] == "completed")

            await until(is_completed, "the job is completed")
            return job

        jobs = await asyncio.gather(*map(completed, range(6)))
        for number, job in enumerate(jobs):
            for url in urls:
                # A signed link of one instance is valid at all others.
                async with stranger.get(url + job["download_url"]) as response:
                    assert (response.status, await response.read()) == (200, content_of(f"video{number:06d}"))
                    assert response.headers["ETag"] == f'"{job["file"]["sha256"]}"'
        await asyncio.gather(*map(completed, range(6)))
        assert converter.started.total() == 6, "no instance converts what another one has converted"
        for part in parts:
            assert not (part.config.data_dir / "tracks").exists()
            assert not (part.config.data_dir / "link-secret").exists()
        # An instance on another prefix would not find these tracks: it takes no jobs.
        other = {"STORAGE_URL": "s3://tracks/another", "DATA_DIR": str(tmp_path / "stray")}
        redis = parts[0].config.redis
        assert redis is not None
        settings = SIGNED | s3_server.environment("x") | {"REDIS_ADDR": redis.address} | other
        async with running(load(settings), lambda *_: FakeConverter()) as stray:
            await until(lambda: stray.health.shelf_error is not None, "the other prefix is noticed")
            assert "the same STORAGE_URL" in stray.health.checks["storage"].detail
            assert not stray.health.is_ready
