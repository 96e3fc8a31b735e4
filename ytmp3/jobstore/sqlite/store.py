"""The embedded job store: one SQLite file, one process, nothing to install.

WAL with `synchronous=FULL`: what an operation returned has survived a power cut. One thread writes, in groups
(`sqlite_writer`); `get` and `counts` read on the event loop's own thread, which costs less than a hop to another one
and never waits for the writer. The file belongs to one process at a time (`sqlite_file`), so whatever was held when it
opens is held by the dead, and due at once.

A full disk: `submit` raises StoreFull, and so may the finishing operations once the disk is really full; intake stops
admitting long before (the janitor's disk watch), which leaves them the room.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Conversion, Lease, Metadata, State, Ticket, Track, conversion_id_of
from ytmp3.jobstore import Counts, Renewal, Submission, Submitted
from ytmp3.jobstore.records import counts_of, decode_conversion, decode_job
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite.cache import TicketCache
from ytmp3.jobstore.sqlite.file import lock, open_for_reading, open_for_writing, translated
from ytmp3.jobstore.sqlite.ledger import SELECT_TICKET, Ledger
from ytmp3.jobstore.sqlite.writer import Writer

LOCK_WAIT_SECONDS: Final = 5.0
"""How long `open` waits for a predecessor that is still going down."""
FILES_AT_ONCE: Final = 100
"""Files looked up before the event loop gets its turn again: under 1 ms."""

T = TypeVar("T")


def anchored_clock() -> Callable[[], float]:
    """Return a wall clock that only monotonic time moves: a step of the system's frees no lease and expires no file."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What an open store holds."""

    lock: int
    connection: sqlite3.Connection
    reader: sqlite3.Connection
    ledger: Ledger

    def close(self) -> None:
        # The last connection to close moves the log into the file.
        with contextlib.suppress(sqlite3.Error):
            self.reader.close()
            self.connection.close()
        os.close(self.lock)


class SqliteJobStore:
    """`JobStore` in the file `path`, for the instance named `instance`. `clock` is for tests."""

    def __init__(
        self,
        path: Path,
        policy: Policy,
        instance: InstanceId,
        *,
        clock: Callable[[], float] | None = None,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
    ) -> None:
        self._path = path
        self._policy = policy
        self._instance = instance
        self._clock = clock
        self._lock_wait_seconds = lock_wait_seconds
        self._state: tuple[_Opened, Writer] | None = None
        self._cache = TicketCache()

    @property
    def policy(self) -> Policy:
        return self._policy

    async def open(self) -> None:
        if self._state is not None:
            return
        opened = await asyncio.to_thread(self._open)
        cache = self._cache = TicketCache()
        writer = Writer(
            self._path,
            opened.connection,
            asyncio.get_running_loop(),
            take_changed=opened.ledger.take_changed,
            on_changed=cache.forget,
        )
        writer.start()
        self._state = opened, writer

    async def close(self) -> None:
        if self._state is None:
            return
        opened, writer = self._state
        self._state = None
        await writer.stop()
        await asyncio.to_thread(opened.close)

    async def ping(self) -> None:
        """Return at once while commits succeed; after one that failed, try another."""
        opened, writer = self._opened
        if writer.trouble is not None:
            await writer.run(opened.ledger.occupy)
            await writer.run(opened.ledger.vacate)

    async def now(self) -> float:
        opened, _ = self._opened
        return opened.ledger.clock()

    async def submit(self, submission: Submission, *, may_create: bool) -> Submitted | None:
        return await self._run(lambda ledger: ledger.submit(submission, may_create=may_create))

    async def get(self, job_id: JobId) -> Ticket | None:
        if self._state is not None and (known := self._cache.get(job_id)) is not None:
            return known
        for job, conversion in self._read(SELECT_TICKET, (job_id,)):
            ticket = Ticket(job=decode_job(job), conversion=decode_conversion(conversion))
            self._cache.put(ticket)
            return ticket
        return None

    async def claim(self, lease: Lease) -> Conversion:
        return await self._run(lambda ledger: ledger.claim(lease))

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        if not renewals:
            return frozenset()
        return await self._run(lambda ledger: ledger.renew(renewals))

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        return await self._run(lambda ledger: ledger.finish(lease, track, metadata))

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        await self._run(lambda ledger: ledger.fail(lease, code))

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float) -> None:
        await self._run(lambda ledger: ledger.retry(lease, code, delay_seconds=delay_seconds))

    async def release(self, leases: Sequence[Lease]) -> None:
        if leases:
            await self._run(lambda ledger: ledger.release(leases))

    async def cancel(self, job_id: JobId) -> Ticket | None:
        return await self._run(lambda ledger: ledger.cancel(job_id))

    async def adopt(self, limit: int) -> list[Conversion]:
        return await self._run(lambda ledger: ledger.adopt(limit))

    async def forget(self, conversion_id: ConversionId) -> None:
        await self._run(lambda ledger: ledger.forget(conversion_id))

    async def expire(self, limit: int) -> list[str | None]:
        removed: list[str | None] = []
        has_more = True
        while has_more:
            # A transaction each: others have their turn in between.
            left = limit - len(removed)
            file_names, has_more = await self._run(lambda ledger, left=left: ledger.expire(left))  # type: ignore[misc]
            removed += file_names
        return removed

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        known: set[str] = set()
        for start in range(0, len(file_names), FILES_AT_ONCE):
            known.update(name for name in file_names[start : start + FILES_AT_ONCE] if self._is_known(name))
            await asyncio.sleep(0)
        return frozenset(known)

    async def counts(self) -> Counts:
        return counts_of(dict(self._read("SELECT state, jobs FROM tallies", ())))

    @property
    def _opened(self) -> tuple[_Opened, Writer]:
        if self._state is None:
            raise StoreDown(f"{self._path}: not open")
        return self._state

    async def _run(self, operation: Callable[[Ledger], T]) -> T:
        opened, writer = self._opened
        return await writer.run(lambda: operation(opened.ledger))

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        opened, _ = self._opened
        with translated(self._path):
            # All rows at once: a statement left open would keep the log from being moved into the file.
            return opened.reader.execute(query, values).fetchall()

    def _is_known(self, file_name: str) -> bool:
        conversion_id = conversion_id_of(file_name)
        if conversion_id is None:
            return False
        for (record,) in self._read("SELECT record FROM conversions WHERE conversion_id = ?", (conversion_id,)):
            conversion = decode_conversion(record)
            track = conversion.track
            return conversion.state is State.DONE and track is not None and track.file_name == file_name
        return False

    def _open(self) -> _Opened:
        with contextlib.ExitStack() as undo:
            descriptor = lock(self._path, wait_seconds=self._lock_wait_seconds)
            undo.callback(os.close, descriptor)
            connection = open_for_writing(self._path)
            undo.callback(connection.close)
            clock = anchored_clock() if self._clock is None else self._clock
            ledger = Ledger(connection=connection, policy=self._policy, instance=self._instance, clock=clock)
            with translated(self._path):
                connection.execute("BEGIN IMMEDIATE")
                ledger.recover()
                connection.execute("COMMIT")
            reader = open_for_reading(self._path)
            undo.pop_all()
        return _Opened(lock=descriptor, connection=connection, reader=reader, ledger=ledger)
