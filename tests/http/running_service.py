"""Starts the service in the test's own process: the real application on a real socket, with the real embedded store.

Only three things are not as in production: a fake converter makes small tracks at once, tests can make calls to the
store fail, and tests can move the store's clock.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

from tests.fakes import FakeConverter, FaultyStore
from tests.stand.raw_http import exchange
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.app import Service, running
from ytmp3.config import Config, load
from ytmp3.core.ids import InstanceId
from ytmp3.http.connections import TIMEOUTS, Runner, Timeouts
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.serve import BACKLOG

TITLE: Final = 'Rock "n" Roll / Tür 100%'
"""The title of every video: a hostile one, so that every test meets it."""
POLL_SECONDS: Final = 0.03


class ShiftedClock:
    """The system's clock plus a shift that tests set: a store whose clock differs from this machine's."""

    def __init__(self) -> None:
        self.shift_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A service, its address, a client, and what a test may change below it."""

    parts: Service
    converter: FakeConverter
    store: FaultyStore
    store_clock: ShiftedClock
    client: ClientSession
    host: str
    port: int
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def raw(self, request: bytes, *, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Send bytes, and return all that comes until the service closes the connection or `seconds` have passed."""
        return await exchange(self.host, self.port, request, seconds=seconds)

    async def submit(self, video_id: str, **fields: str) -> dict[str, Any]:
        """POST a link that must be accepted; return the job."""
        body = {"url": f"https://youtu.be/{video_id}"} | fields
        async with self.client.post(f"{self.url}/extract", json=body) as response:
            assert response.status in {200, 202}, await response.text()
            job: dict[str, Any] = await response.json()
            return job

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended; return it."""
        job: dict[str, Any] = {}

        async def has_ended() -> bool:
            async with self.client.get(f"{self.url}/status/{job_id}") as response:
                job.update(await response.json())
            return job["status"] in {"completed", "failed", "cancelled"}

        await until(has_ended, f"job {job_id} has ended", poll_seconds=POLL_SECONDS)
        return job

    async def completed(self, video_id: str) -> dict[str, Any]:
        """Have a video converted; return its completed job."""
        job = await self.ended((await self.submit(video_id))["job_id"])
        assert job["status"] == "completed", job
        return job


@asynccontextmanager
async def running_service(
    data_dir: Path, timeouts: Timeouts = TIMEOUTS, engine: Mapping[str, float] | None = None, /, **settings: str
) -> AsyncIterator[RunningService]:
    """Start a service with `settings` as its environment variables, and with these fields of its EngineSettings.

    Without a PORT, the system chooses a free one.
    """
    converter, clock = FakeConverter(), ShiftedClock()
    converter.title = TITLE
    stores: list[FaultyStore] = []

    async def open_store(config: Config, instance: InstanceId) -> JobStore:
        store = SqliteJobStore(config.data_dir / "ytmp3.sqlite3", config.store, instance, clock=clock)
        await store.open()
        stores.append(FaultyStore(store))
        return stores[0]

    unlimited = {"REQUESTS_PER_SECOND": "100000", "BURST_SIZE": "100000", "EGRESS_VIDEOS_PER_HOUR": "0"}
    config = load({"DATA_DIR": str(data_dir), "DRAIN_SECONDS": "1"} | unlimited | settings)
    config = replace(config, engine=msgspec.structs.replace(config.engine, **(engine or {})))
    async with running(config, lambda *_: converter, open_store) as parts:
        runner = Runner(parts.app, shutdown_seconds=1.0, limit=parts.connections, timeouts=timeouts)
        await runner.setup()
        try:
            port = int(settings.get("PORT", "0"))
            await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
            host, port = runner.addresses[0][:2]
            async with ClientSession(timeout=ClientTimeout(PATIENCE_SECONDS), cookie_jar=DummyCookieJar()) as client:
                await until(lambda: parts.health.readiness == "ok", "the service is ready", poll_seconds=POLL_SECONDS)
                yield RunningService(
                    parts=parts,
                    converter=converter,
                    store=stores[0],
                    store_clock=clock,
                    client=client,
                    host=host,
                    port=port,
                    data_dir=data_dir,
                )
        finally:
            await runner.cleanup()
