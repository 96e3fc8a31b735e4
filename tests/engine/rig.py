"""Intake, pool and janitor around the real store and the real storage, without HTTP; a test is the janitor's clock."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fakes import Clock, FakeConverter, FaultyStore, content_of
from ytmp3.core.client import Client
from ytmp3.core.errors import StoreError
from ytmp3.core.ids import ClientId, InstanceId
from ytmp3.core.job import Conversion, Job, Status, Ticket
from ytmp3.core.recipe import DEFAULT_QUALITY, Quality, Recipe
from ytmp3.engine import assembly
from ytmp3.engine.assembly import Outside, assemble
from ytmp3.engine.event_log import log_event
from ytmp3.engine.events import Events
from ytmp3.engine.health import Check
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.metrics import Metrics
from ytmp3.storage import Space
from ytmp3.storage.local import LocalStorage

LEASE_SECONDS: Final = 30.0
RETENTION_SECONDS: Final = 3600.0
IDLE_POLLS: Final = 15
"""Looks at an engine that does nothing, before its leases are made to run out."""

SOMEONE: Final = Client(owner=ClientId("addr:192.0.2.1"))
MUCH_SPACE: Final = Space(total_bytes=10**12, free_bytes=10**12)


def video(number: int) -> str:
    return f"video{number:06d}"


def link(video_id: str) -> str:
    return f"https://youtu.be/{video_id}"


async def until(is_so: Callable[[], object]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One instance."""

    folder: Path
    store: FaultyStore
    records: SqliteJobStore
    """The store itself: for looking, past every fault."""
    storage: LocalStorage
    converter: FakeConverter
    parts: assembly.Engine
    metrics: Metrics
    clock: Clock
    """The store's."""
    ticks: Clock
    """The pool's."""

    async def submit(self, video_id: str, client: Client = SOMEONE, quality: Quality = DEFAULT_QUALITY) -> Job:
        return (await self.parts.intake.submit(link(video_id), Recipe(quality=quality), client)).job

    async def ticket(self, job: Job) -> Ticket:
        ticket = await self.records.get(job.job_id)
        assert ticket is not None
        return ticket

    async def conversion(self, job: Job) -> Conversion:
        return (await self.ticket(job)).conversion

    async def ended(self, job: Job) -> Ticket:
        """Follow a job to its end, adopting what is due; a lease that nobody uses any more runs out."""
        idle = 0
        async with asyncio.timeout(10):
            while True:
                ticket = await self.ticket(job)
                if ticket.status not in {Status.PENDING, Status.PROCESSING}:
                    # The worker counts and tidies up after the record is written.
                    await until(lambda: self.parts.runs.get(job.conversion_id) is None)
                    return ticket
                idle = 0 if self.parts.runs.active or self.parts.queue.qsize() else idle + 1
                if idle % 5 == 1:
                    with contextlib.suppress(StoreError):
                        await self.parts.janitor.adopt()
                if idle > IDLE_POLLS:
                    self.clock.advance(LEASE_SECONDS + 1)
                    idle = 0
                await asyncio.sleep(0.001)

    def tracks(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.storage.tracks.iterdir()}

    def scratch(self) -> list[Path]:
        """What attempts have left behind."""
        return [path for path in (self.folder / "scratch").glob("*/*") if path.name != ".lock"]

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def check_completed(self, job: Job) -> None:
        """Hold a completed job to what was promised: one whole file, the right one."""
        ticket = await self.ticket(job)
        assert ticket.status is Status.COMPLETED, ticket
        track = ticket.conversion.track
        assert track is not None
        content = content_of(ticket.conversion.video_id)
        assert self.storage.path(track.file_name).read_bytes() == content
        assert track.size_bytes == len(content)

    async def kill(self) -> None:
        """End as by SIGKILL: nothing more reaches the store, nothing is tidied up."""
        self.store.crashed.set()
        await self.parts.workers.close()
        await self.records.close()
        if self.storage._lock is not None:
            os.close(self.storage._lock)
            self.storage._lock = None


@asynccontextmanager
async def engine(  # noqa: PLR0913  one argument for each number that a test changes
    folder: Path,
    *,
    instance: str = "a",
    workers: int = 3,
    capacity: int = 10,
    max_retries: int = 3,
    client_max_jobs: int = 0,
    converter: FakeConverter | None = None,
    clock: Clock | None = None,
    random: Callable[[], float] = lambda: 0.0,
    progress_seconds: float = 0.005,
    stray_file_seconds: float = 3600.0,
) -> AsyncIterator[Engine]:
    """Start an instance on `folder`."""
    clock = Clock() if clock is None else clock
    ticks = Clock(0.0)
    converter = FakeConverter() if converter is None else converter
    storage = LocalStorage(folder, instance=InstanceId(instance))
    await storage.open()
    policy = Policy(lease_seconds=LEASE_SECONDS, retention_seconds=RETENTION_SECONDS, crash_limit=3)
    records = SqliteJobStore(folder / "jobs.sqlite3", policy, InstanceId(instance), clock=clock, lock_wait_seconds=0.0)
    await records.open()
    store = FaultyStore(records)
    metrics = Metrics()
    parts = assemble(
        EngineSettings(
            workers=workers,
            queue_capacity=capacity,
            max_retries=max_retries,
            client_max_jobs=client_max_jobs,
            progress_seconds=progress_seconds,
            store_pause_seconds=0.001,
            upstream_poll_seconds=0.001,
            stray_file_seconds=stray_file_seconds,
        ),
        Outside(store=store, storage=storage, converter=converter, clock=ticks, random=random),
        Events(log_event, metrics.on_event),
    )
    parts.health.store = Check(ok=True, detail="")
    parts.health.tools = list(converter.tools)
    parts.health.space = MUCH_SPACE
    parts.keeper.start()
    parts.workers.start()
    running = Engine(
        folder=folder,
        store=store,
        records=records,
        storage=storage,
        converter=converter,
        parts=parts,
        metrics=metrics,
        clock=clock,
        ticks=ticks,
    )
    try:
        yield running
    finally:
        await parts.close()
        await records.close()
        await storage.close()
