"""`JobStore` in a SQLite file. The package's docstring describes the path of a write and of a read.

Reads take two index lookups. They run in a thread of their own, because the disk may hang; most reads of polling
clients are answered by the cache.

If the disk is full, `submit` raises StoreFull. The operations that end a conversion may raise it too. But the service
refuses new conversions long before (`storage.Space.reserve_bytes`), so these operations normally have the space they
need.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Conversion, Lease, Metadata, State, Ticket, Track, conversion_id_of
from ytmp3.jobstore import Counts, Renewal, Submission, Submitted
from ytmp3.jobstore.found import Found
from ytmp3.jobstore.records import counts_of, decode_conversion, decode_job
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import queries
from ytmp3.jobstore.sqlite.batches import SqliteBatches, recover
from ytmp3.jobstore.sqlite.cache import TicketCache
from ytmp3.jobstore.sqlite.clients import SqliteClientRecords
from ytmp3.jobstore.sqlite.file import BUSY_SECONDS, lock, open_for_reading, open_for_writing, translated
from ytmp3.jobstore.sqlite.hints import NoHints
from ytmp3.jobstore.sqlite.ledger import Ledger
from ytmp3.jobstore.sqlite.outbox import Deliveries, SqliteOutbox
from ytmp3.jobstore.sqlite.values import SqliteSharedValues
from ytmp3.jobstore.sqlite.writer import Writer
from ytmp3.threads import Threads

LOCK_WAIT_SECONDS: Final = 5.0
"""How long `open` waits, in seconds, for the lock of a process that is still shutting down."""
FILES_AT_ONCE: Final = 100
"""Number of files that `known_files` looks up before other reads may run. They take less than 1 ms."""
JOBS_AT_ONCE: Final = 100
"""Number of jobs that `get_many` reads before other reads may run. They take less than 3 ms."""
READ_SECONDS: Final = 20.0
"""Longest wait, in seconds, for a read. It takes microseconds unless the disk hangs."""

P = ParamSpec("P")
T = TypeVar("T")


def anchored_clock() -> Callable[[], float]:
    """Return a clock that starts at the current wall-clock time and then follows the monotonic clock.

    So if the system clock is changed while the service runs, no lease is lost and no file expires too early.
    """
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """The resources of an open store, which `close` releases."""

    lock: int
    connection: sqlite3.Connection
    reader: sqlite3.Connection
    ledger: Ledger

    def close(self) -> None:
        """Close both connections, and then free the lock. In this order, no second process can write before."""
        # Closing the last connection moves the log into the file and removes it.
        with contextlib.suppress(sqlite3.Error):
            self.reader.close()
            self.connection.close()
        os.close(self.lock)


class SqliteJobStore:
    """The `JobStore` of one instance in the file `path`. Only tests pass a clock, or waits of their own."""

    def __init__(
        self,
        path: Path,
        policy: Policy,
        instance: InstanceId,
        *,
        clock: Callable[[], float] | None = None,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._path = path
        self._policy = policy
        self._instance = instance
        self._clock = clock
        self._lock_wait_seconds = lock_wait_seconds
        self._busy_seconds = busy_seconds
        self._state: tuple[_Opened, Writer] | None = None
        self._cache = TicketCache()
        self.clients = SqliteClientRecords(self._run, self._query)
        """See the Protocol."""
        self.hints = NoHints()
        """See the Protocol. No other instance uses the file."""
        self.outbox = SqliteOutbox(self._run_on_deliveries)
        """See the Protocol."""
        self._batches = SqliteBatches(self._run, self._query)
        self.values = SqliteSharedValues(self._run, self._query, self.now)
        """See the Protocol."""
        self._reader = Threads("jobstore-read", 1)
        """Its only thread, so the reading connection is never used twice at a time."""

    @property
    def batches(self) -> SqliteBatches:
        return self._batches

    @property
    def policy(self) -> Policy:
        return self._policy

    async def open(self) -> None:
        """Lock and check the file, and make all conversions of the previous process due. A second call does nothing.

        The cache begins empty: the file may be another one than at the last `open`, for example a restored backup.

        This waits up to `lock_wait_seconds` for the lock, because after a restart the previous process may still be
        shutting down.
        """
        if self._state is not None:
            return
        opened = await asyncio.to_thread(self._open)
        cache = self._cache = TicketCache()
        writer = Writer(
            self._path,
            opened.connection,
            take_changed=opened.ledger.take_changed,
            on_changed=cache.forget,
            busy_seconds=self._busy_seconds,
        )
        writer.start()
        self._state = opened, writer

    async def close(self) -> None:
        """Finish the queued operations, then move the log into the file and release the lock.

        The state is removed first. So later calls fail with StoreDown at once, and do not join a queue that is ending.
        """
        if self._state is None:
            return
        opened, writer = self._state
        self._state = None
        await writer.stop()
        await asyncio.to_thread(opened.close)

    async def ping(self) -> str | None:
        """See the Protocol. Returns at once if the last commit succeeded; otherwise tries a write.

        The write is larger than that of a submission, and is removed again. So a full disk is not reported as usable
        and then refuses the next submission, which would make the instance ready and unready in turn.
        """
        opened, writer = self._opened
        writer.raise_if_hanging()
        if writer.last_error is not None:
            await writer.run(opened.ledger.write_probe)
            await writer.run(opened.ledger.remove_probe)
        return None

    @property
    def is_shared(self) -> bool:
        return False

    async def agrees_on_shelf(self, mark: str) -> bool:
        return True

    async def now(self) -> float:
        opened, _ = self._opened
        return opened.ledger.clock()

    async def retention_time(self) -> float:
        # Its clock is not set while this process runs (`anchored_clock`).
        return await self.now()

    async def submit(self, submission: Submission, *, may_create: bool, may_join: bool = True) -> Submitted | None:
        return await self._run(lambda ledger: ledger.submit(submission, may_create=may_create, may_join=may_join))

    async def get(self, job_id: JobId, *, may_lag: bool = False) -> Ticket | None:
        """Read from the cache, or with one query.

        A client can read its job as soon as it has the job's id: the id is returned after the commit, and the reading
        connection sees all commits.
        """
        return (await self.get_many([job_id])).tickets.get(job_id)

    async def get_many(self, job_ids: Sequence[JobId]) -> Found:
        """See the Protocol. Other reads may run between JOBS_AT_ONCE."""
        cache, found = self._cache, dict[JobId, Ticket]()
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            some = job_ids[start : start + JOBS_AT_ONCE]
            if self._state is not None:
                found |= {job_id: known for job_id in some if (known := cache.get(job_id)) is not None}
            missing = [job_id for job_id in some if job_id not in found]
            if not missing:
                continue
            changes = cache.changes
            for ticket in await self._reading(self._tickets_of, missing):
                found[ticket.job.job_id] = ticket
                if cache.changes == changes:
                    # Otherwise a commit during the query may have changed this ticket.
                    cache.put(ticket)
        return Found(tickets={job_id: found[job_id] for job_id in job_ids if job_id in found})

    async def claim(self, lease: Lease) -> Conversion:
        return await self._run(lambda ledger: ledger.claim(lease))

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """Extend all leases in one transaction, with one fsync."""
        if not renewals:
            return frozenset()
        return await self._run(lambda ledger: ledger.renew(renewals))

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        return await self._run(lambda ledger: ledger.finish(lease, track, metadata))

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        await self._run(lambda ledger: ledger.fail(lease, code))

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool = True) -> None:
        await self._run(
            lambda ledger: ledger.retry(lease, code, delay_seconds=delay_seconds, costs_attempt=costs_attempt)
        )

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
        """Remove in steps of at most `Policy.jobs_at_once` jobs.

        A crash between two steps leaves conversions without some of their jobs; the next call removes the rest. A crash
        before the caller has deleted the files leaves files without a record, for the sweep.
        """
        removed: list[str | None] = []
        has_more = True
        while has_more:
            # Each step is a transaction of its own, so that other operations are not kept waiting.
            step = partial(Ledger.expire, limit=limit - len(removed))
            file_names, has_more = await self._run(step)
            removed += file_names
        return removed

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        """Read in batches, so that other reads do not wait for all of them."""
        known: set[str] = set()
        for start in range(0, len(file_names), FILES_AT_ONCE):
            known |= (await self.tracks(file_names[start : start + FILES_AT_ONCE])).keys()
        return frozenset(known)

    async def tracks(self, file_names: Sequence[str]) -> Mapping[str, Track]:
        return await self._reading(self._tracks_named, file_names)

    async def counts(self) -> Counts:
        """Read the five counters, which every change updates. So the cost does not grow with the number of jobs."""
        return counts_of(dict(await self._query(queries.SELECT_TALLIES, ())))

    @property
    def _opened(self) -> tuple[_Opened, Writer]:
        """Return the open file and its writer. Raises StoreDown before `open` and after `close`."""
        if self._state is None:
            raise StoreDown(f"{self._path}: not open")
        return self._state

    async def _run(self, operation: Callable[[Ledger], T]) -> T:
        """Run an operation of the ledger on the writer's thread. Returns its result when it is durable."""
        opened, writer = self._opened
        return await writer.run(lambda: operation(opened.ledger))

    async def _run_on_deliveries(self, operation: Callable[[Deliveries], T]) -> T:
        return await self._run(lambda ledger: operation(ledger.deliveries))

    async def _reading(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that reads in the reading thread.

        Raises:
            StoreDown: the disk does not answer.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._reader.run(read, *args, **kwargs)
        except TimeoutError:
            raise StoreDown(f"{self._path}: the disk does not answer") from None

    async def _query(self, query: str, values: tuple[str | float, ...]) -> list[tuple[Any, ...]]:
        return await self._reading(self._read, query, values)

    def _tickets_of(self, job_ids: Sequence[JobId]) -> list[Ticket]:
        """Read several jobs. Each is read by a query of its own; an unknown one is left out."""
        return [
            Ticket(job=decode_job(job), conversion=decode_conversion(conversion))
            for job_id in job_ids
            for job, conversion in self._read(queries.SELECT_TICKET, (job_id,))
        ]

    def _tracks_named(self, file_names: Sequence[str]) -> dict[str, Track]:
        found = {name: self._track_named(name) for name in file_names}
        return {name: track for name, track in found.items() if track is not None}

    def _read(self, query: str, values: tuple[str | float, ...]) -> list[tuple[Any, ...]]:
        """Run a query on the reading connection, which sees the last commit and never waits for the writer."""
        opened, _ = self._opened
        with translated(self._path):
            # All rows are fetched at once, because an unfinished statement would keep SQLite from emptying the log.
            return opened.reader.execute(query, values).fetchall()

    def _track_named(self, file_name: str) -> Track | None:
        """Return the track of a done conversion that has this file name.

        There may be other files of the same conversion, from attempts that lost their lease after publishing. These are
        not known.
        """
        conversion_id = conversion_id_of(file_name)
        if conversion_id is None:
            return None
        for (record,) in self._read(queries.SELECT_CONVERSION_RECORD, (conversion_id,)):
            conversion = decode_conversion(record)
            track = conversion.track
            if conversion.state is State.DONE and track is not None and track.file_name == file_name:
                return track
        return None

    def _open(self) -> _Opened:
        """Open everything, or raise and leave nothing open or locked. Runs in a thread, because it may block.

        The lock is first: without it, another process may be writing. The recovery is committed before the reading
        connection is opened, so nobody sees a conversion that the previous process seems to hold.
        """
        with contextlib.ExitStack() as undo:
            descriptor = lock(self._path, wait_seconds=self._lock_wait_seconds)
            undo.callback(os.close, descriptor)
            connection = open_for_writing(self._path, busy_seconds=self._busy_seconds)
            undo.callback(connection.close)
            clock = anchored_clock() if self._clock is None else self._clock
            ledger = Ledger(connection=connection, policy=self._policy, instance=self._instance, clock=clock)
            with translated(self._path):
                connection.execute("BEGIN IMMEDIATE")
                ledger.recover()
                recover(ledger)
                connection.execute("COMMIT")
            reader = open_for_reading(self._path, busy_seconds=self._busy_seconds)
            undo.pop_all()
        return _Opened(lock=descriptor, connection=connection, reader=reader, ledger=ledger)
