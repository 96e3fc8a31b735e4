"""The engine around the real embedded store and real folders, without HTTP, on virtual time.

Only the converter is a fake. The store is reached through a wrapper that can fail, and its clock runs with the loop's.
The janitor and the watcher do not run by themselves: a test calls them, or starts them.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypedDict, TypeVar, Unpack

import msgspec

from tests.fakes import FakeConverter, FaultyStore, content_of
from tests.virtual_time import seconds, settled
from ytmp3.core.client import Client
from ytmp3.core.errors import StoreError
from ytmp3.core.ids import ClientId, InstanceId
from ytmp3.core.job import Conversion, Job, Status, Ticket
from ytmp3.core.recipe import DEFAULT_QUALITY, Quality, Recipe
from ytmp3.engine import assembly, events
from ytmp3.engine.assembly import Outside, assemble
from ytmp3.engine.event_log import log_event
from ytmp3.engine.events import Events
from ytmp3.engine.health import Check
from ytmp3.engine.janitor import ADOPT_SECONDS
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.storage import Space
from ytmp3.storage.files import Files
from ytmp3.storage.local import LocalShelf
from ytmp3.storage.scratch import Scratch
from ytmp3.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

LEASE_SECONDS: Final = 30.0
RETENTION_SECONDS: Final = 3600.0
EPOCH_SECONDS: Final = 1_700_000_000.0

SOMEONE: Final = Client(owner=ClientId("addr:192.0.2.1"))
OTHER: Final = Client(owner=ClientId("addr:198.51.100.9"))
SETTINGS: Final = EngineSettings(workers=3, queue_capacity=10, max_retries=3, client_max_jobs=0)
MUCH_SPACE: Final = Space(total_bytes=10**12, free_bytes=10**12)


def video(number: int) -> str:
    return f"video{number:06d}"


def never() -> asyncio.Event:
    """Return an event that is never set: for a drain that is not forced."""
    return asyncio.Event()


def link(video_id: str) -> str:
    return f"https://youtu.be/{video_id}"


class StoreClock:
    """The store's clock: it runs with the loop's, and can be set forward, as if this instance had been suspended."""

    def __init__(self) -> None:
        self._offset_seconds = EPOCH_SECONDS - seconds()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> float:
        return self._offset_seconds + self._loop.time()

    def advance(self, by_seconds: float) -> None:
        self._offset_seconds += by_seconds


class HangingThreads(Threads):
    """Threads whose calls begin only while `answers` is set: as on a disk that hangs in between."""

    def __init__(self) -> None:
        super().__init__("hanging", 1)
        self.answers = asyncio.Event()
        self.answers.set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self.answers.wait()
        return await super().run(function, *args, **kwargs)


@contextlib.contextmanager
def slow_disk(rig: "Rig") -> Iterator[threading.Event]:
    """Let no call begin that writes to the disk, until the returned event is set."""
    answers = threading.Event()
    loop = asyncio.get_running_loop()
    for threads in (rig.scratch.writers, rig.shelf.writers):
        for _ in range(threads.count):
            loop.run_in_executor(threads.executor, answers.wait)
    try:
        yield answers
    finally:
        answers.set()


async def some_turns() -> None:
    """Let every task run, also while a thread holds the clock."""
    for _ in range(100):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """One instance."""

    folder: Path
    parts: assembly.Engine
    store: FaultyStore
    """The store as the engine reaches it."""
    records: FaultyStore
    """The same store without faults: for checks, and for the calls of another instance."""
    shelf: LocalShelf
    scratch: Scratch
    converter: FakeConverter
    clock: StoreClock
    happened: list[events.Event]
    """All events so far, but progress."""

    async def submit(self, video_id: str, client: Client = SOMEONE, quality: Quality = DEFAULT_QUALITY) -> Job:
        return (await self.parts.intake.submit(link(video_id), Recipe(quality=quality), client)).job

    async def running(self, video_id: str) -> Job:
        """Submit a video whose conversion is held, and return once a worker has it."""
        self.converter.hold(video_id)
        job = await self.submit(video_id)
        await settled()
        assert video_id in self.converter.running
        return job

    async def ticket(self, job: Job) -> Ticket:
        ticket = await self.records.get(job.job_id)
        assert ticket is not None
        return ticket

    async def conversion(self, job: Job) -> Conversion:
        return (await self.ticket(job)).conversion

    async def ended(self, job: Job) -> Ticket:
        """Let time pass, adopting due conversions, until a job has ended and its worker has tidied up."""
        deadline = seconds() + RETENTION_SECONDS
        while True:
            await settled()
            ticket = await self.ticket(job)
            if ticket.status not in {Status.PENDING, Status.PROCESSING}:
                return ticket
            assert seconds() < deadline, "the job does not end"
            with contextlib.suppress(StoreError):
                await self.parts.janitor.adopt()
            await asyncio.sleep(ADOPT_SECONDS)

    def seen(self, *kinds: type[events.Event]) -> list[events.Event]:
        """Return the events of some kinds."""
        return [event for event in self.happened if isinstance(event, kinds)]

    def tracks(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.shelf.folder.glob("[!.]*")}

    def leftovers(self) -> list[Path]:
        """Return the files that attempts have left behind."""
        return [path for path in (self.folder / "scratch").glob("*/*") if path.name != ".lock"]

    async def check_completed(self, job: Job) -> None:
        """Check a completed job: one whole file, the right one."""
        ticket = await self.ticket(job)
        assert ticket.status is Status.COMPLETED, ticket
        track = ticket.conversion.track
        assert track is not None
        content = content_of(ticket.conversion.video_id)
        assert (self.shelf.folder / track.file_name).read_bytes() == content
        assert track.size_bytes == len(content)

    async def check_released(self, job: Job) -> None:
        """Check that a conversion is queued without a holder, and that no attempt was counted."""
        conversion = await self.conversion(job)
        assert (conversion.state, conversion.holder) == ("queued", None)
        assert (conversion.attempts, conversion.crashes) == (0, 0)
        assert conversion.due_at <= self.clock()

    async def kill(self) -> None:
        """End as by SIGKILL: nothing more reaches the store, nothing is tidied up."""
        self.store.crashed.set()
        await self.parts.close()
        await self.records.close()
        self.scratch.release_lock()


class Changed(TypedDict, total=False):
    """The settings that a test changes: fields of EngineSettings."""

    workers: int
    queue_capacity: int
    max_retries: int
    client_max_jobs: int
    client_max_kept_jobs: int
    progress_seconds: float
    stray_file_seconds: float


@asynccontextmanager
async def engine(
    folder: Path,
    *,
    instance: str = "a",
    converter: FakeConverter | None = None,
    clock: StoreClock | None = None,
    random: Callable[[], float] = lambda: 0.0,
    checkers: Threads | None = None,
    is_shared: bool = False,
    **changed: Unpack[Changed],
) -> AsyncIterator[Rig]:
    """Start an instance on `folder`. `checkers` are the threads of the check of the disk."""
    clock = StoreClock() if clock is None else clock
    converter = FakeConverter() if converter is None else converter
    shelf, scratch = LocalShelf(folder / "tracks"), Scratch(folder / "scratch", instance=InstanceId(instance))
    await shelf.open()
    await scratch.open()
    policy = Policy(lease_seconds=LEASE_SECONDS, retention_seconds=RETENTION_SECONDS, crash_limit=3)
    sqlite = SqliteJobStore(folder / "jobs.sqlite3", policy, InstanceId(instance), clock=clock, lock_wait_seconds=0.0)
    await sqlite.open()
    store, records = FaultyStore(sqlite, is_shared=is_shared), FaultyStore(sqlite)
    happened: list[events.Event] = []
    files = Files(shelf=shelf, scratch=scratch, checkers=checkers or Threads("disk-check", 1))
    parts = assemble(
        msgspec.structs.replace(SETTINGS, **changed),
        Outside(store=store, files=files, converter=converter, clock=seconds, random=random),
        Events(log_event, happened.append),
    )
    parts.health.store = Check(ok=True, detail="")
    parts.health.tools = list(converter.tools)
    parts.health.space = MUCH_SPACE
    parts.keeper.start()
    parts.workers.start()
    try:
        yield Rig(
            folder=folder,
            parts=parts,
            store=store,
            records=records,
            shelf=shelf,
            scratch=scratch,
            converter=converter,
            clock=clock,
            happened=happened,
        )
    finally:
        await parts.close()
        await records.close()
        await scratch.close()
