"""Idle connections up to the limit of descriptors take none from the conversions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.service_process import egress, service_process
from tests.stand.slow_clients import allow_descriptors

DESCRIPTORS: Final = 1400
"""The limit of descriptors of the service. It reserves 872 of them for 20 workers and their like."""
CONNECTIONS: Final = 1500
"""More than the service may have."""
CONVERSIONS: Final = 10
AGAIN_SECONDS: Final = 0.5
LIMITED: Final = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")


async def idle_connection(host: str, port: int, source: str) -> None:
    """Connect and send nothing; whenever the connection is closed, connect again."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
            try:
                await reader.read()
            finally:
                writer.close()
        await asyncio.sleep(AGAIN_SECONDS)


@asynccontextmanager
async def idle_connections(port: int) -> AsyncIterator[None]:
    """Keep many idle connections of three addresses open."""
    allow_descriptors(2 * CONNECTIONS)
    tasks = [
        asyncio.create_task(idle_connection("127.0.0.1", port, f"127.0.0.{2 + n % 3}")) for n in range(CONNECTIONS)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.attack
async def test_conversions_succeed_while_others_open_as_many_connections_as_they_can(
    youtube: Spawned, tmp_path: Path
) -> None:
    youtube.reset()
    async with service_process(tmp_path, LIMITED, **egress(youtube)) as service:
        port = int(service.url.rsplit(":", 1)[1])
        async with idle_connections(port):
            await asyncio.sleep(AGAIN_SECONDS)
            jobs = [(await service.post(watch_url(video_id(Kind.SHORT, n))))[1]["job_id"] for n in range(CONVERSIONS)]
            for job_id in jobs:
                assert (await service.until(job_id))["status"] == "completed"
        assert "Too many open files" not in service.log()
