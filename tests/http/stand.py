"""The real app on a real socket with the real embedded store; only the converter is a stand-in: tiny tracks at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

from tests.fakes import FakeConverter
from tests.stand.raw_http import exchange
from ytmp3.app import MakeConverter, Service, running
from ytmp3.config import load
from ytmp3.http.connections import Runner
from ytmp3.serve import BACKLOG

TITLE = 'Rock "n" Roll / Tür 100%'


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A service, its address, and a client."""

    service: Service
    converter: FakeConverter
    client: ClientSession
    host: str
    port: int
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def raw(self, request: bytes, *, seconds: float = 5.0) -> bytes:
        """Send bytes, and return all that comes until the service closes or `seconds` have passed."""
        return await exchange(self.host, self.port, request, seconds=seconds)

    async def submit(self, video_id: str, **fields: str) -> dict[str, Any]:
        """POST a link, expecting it to be taken."""
        async with self.client.post(
            f"{self.url}/extract", json={"url": f"https://youtu.be/{video_id}"} | fields
        ) as response:
            assert response.status in {200, 202}, await response.text()
            job: dict[str, Any] = await response.json()
            return job

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Follow a job to its end."""
        async with asyncio.timeout(30):
            while True:
                async with self.client.get(f"{self.url}/status/{job_id}") as response:
                    job: dict[str, Any] = await response.json()
                if job["status"] in {"completed", "failed", "cancelled"}:
                    return job
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stand(data_dir: Path, **settings: str) -> AsyncIterator[Stand]:
    """Start the service with `settings` as its environment."""
    converter = FakeConverter()
    converter.title = TITLE
    make: MakeConverter = lambda _settings, _limits, _folder: converter  # noqa: E731
    plenty = {"REQUESTS_PER_SECOND": "100000", "BURST_SIZE": "100000"}
    config = load({"DATA_DIR": str(data_dir), "DRAIN_SECONDS": "1"} | plenty | settings)
    async with running(config, make) as service:
        runner = Runner(service.app, shutdown_seconds=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
            host, port = runner.addresses[0][:2]
            async with ClientSession(timeout=ClientTimeout(20), cookie_jar=DummyCookieJar()) as client:
                async with asyncio.timeout(20):
                    while service.health.readiness != "ok":
                        await asyncio.sleep(0.01)
                yield Stand(
                    service=service, converter=converter, client=client, host=host, port=port, data_dir=data_dir
                )
        finally:
            await runner.cleanup()
