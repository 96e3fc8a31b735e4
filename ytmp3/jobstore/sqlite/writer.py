"""One thread writes, in groups: many operations share one transaction and one fsync.

An operation is answered after its commit, never before. One that fails leaves the others of its group untouched, and
that needs no savepoints: an operation checks before it writes, so one that is refused (LeaseLost) has written nothing.
After any other error the whole group is rolled back, and its operations run again, each in a transaction of its own.

The exception is a file that is busy, because another program holds a lock on it. No operation is to blame for that, so
none is tried alone; and once one group has waited in vain for the full time, the following ones wait for a moment only.
All of them fail with StoreDown until the lock is gone.

After a crash the log holds whole transactions only: an operation that was not answered has either happened or not.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Generic, TypeVar

from ytmp3.core.errors import LeaseLost, StoreDown, StoreError, StoreUnusable
from ytmp3.core.ids import ConversionId, JobId
from ytmp3.jobstore.sqlite.file import BUSY_SECONDS, files_at, is_busy, translation

GROUP_SIZE: Final = 256
"""The most operations in one transaction: about 5 ms of work, which is as long as the next operation waits for it."""
STILL_BUSY_SECONDS: Final = 0.1
"""How long a group waits for another program's lock after one group has waited the full time in vain."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Operation(Generic[T_co]):
    """One operation with its outcome and the future of the caller that waits for it."""

    __slots__ = ("_error", "_function", "_result", "future")

    def __init__(self, function: Callable[[], T_co], future: asyncio.Future[T_co]) -> None:
        self._function = function
        self.future = future
        self._result: list[T_co] = []
        self._error: Exception | None = None

    def attempt(self) -> None:
        """Run it. LeaseLost is an outcome, to be handed to the caller; any other error is raised."""
        self._result.clear()
        self._error = None
        try:
            self._result.append(self._function())
        except LeaseLost as refusal:
            self._error = refusal

    def fail(self, error: Exception) -> None:
        """Make `error` its outcome."""
        self._error = error

    def settle(self) -> None:
        """Hand the outcome to the caller, unless it was cancelled meanwhile. Runs on the event loop's thread."""
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result[0])


class Writer:
    """The thread and its queue. It is given the connection, and leaves it open at the end."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        *,
        take_changed: Callable[[], frozenset[JobId | ConversionId]],
        on_changed: Callable[[frozenset[JobId | ConversionId]], None],
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        """Call it on the event loop to which the callers belong.

        `take_changed` is called on the thread after each group, and its result given to `on_changed` on the event loop
        before any operation of the group is answered. `busy_seconds` must be the timeout of the connection.
        """
        self._path = path
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._take_changed = take_changed
        self._on_changed = on_changed
        self._busy_seconds = busy_seconds
        self._queue: SimpleQueue[_Operation[object] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="jobstore-writer", daemon=True)
        self._is_stopped = False
        self._is_busy = False
        self._files = files_at(path)
        self.last_error: StoreError | None = None
        """The error of the last commit; None after one that succeeded. Written by the thread, read by any."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` on the writer's thread, in a transaction, and return its result once it is durable.

        Raises:
            StoreDown, StoreFull, StoreUnusable: nothing of it was stored.
        """
        if self._is_stopped:
            raise StoreDown(f"{self._path}: closed")
        future: asyncio.Future[T] = self._loop.create_future()
        operation: _Operation[T] = _Operation(function, future)
        self._queue.put(operation)
        return await future

    async def stop(self) -> None:
        """Finish what is queued, and end the thread."""
        self._is_stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (operation := self._queue.get()) is not None:
            group = [operation]
            is_last = self._fill(group)
            self._carry_out(group)
            # If the event loop is closed, nobody waits for an answer.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settle, group, self._take_changed())
            if is_last:
                return

    def _settle(self, group: list[_Operation[object]], changed: frozenset[JobId | ConversionId]) -> None:
        self._on_changed(changed)
        for operation in group:
            operation.settle()

    def _fill(self, group: list[_Operation[object]]) -> bool:
        """Add what is queued already; return whether no more will ever come."""
        while len(group) < GROUP_SIZE:
            try:
                operation = self._queue.get_nowait()
            except Empty:
                return False
            if operation is None:
                return True
            group.append(operation)
        return False

    def _carry_out(self, group: list[_Operation[object]]) -> None:
        error = self._commit(group)
        if error is None:
            return
        for operation in group:
            if not self._is_busy:
                error = self._commit([operation])
            if error is not None:
                operation.fail(error)

    def _commit(self, group: list[_Operation[object]]) -> Exception | None:
        """Run the group in one transaction. If an error is returned, nothing of it is stored, as far as is known."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation in group:
                operation.attempt()
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  every error rolls back and is reported to all callers of the group
            return self._rolled_back(error)
        self._wait_for_locks(self._busy_seconds, is_busy=False)
        self.last_error = self._replacement_error()
        return self.last_error

    def _replacement_error(self) -> StoreError | None:
        """Return an error if the file or its log was removed or replaced: a commit to it dies with this process.

        Checked after each commit and before its answer, so that everything answered earlier is at worst in a log that
        has lost its name. That log is moved into the file here, while this process can still reach both.
        """
        if files_at(self._path) == self._files:
            return None
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return StoreUnusable(f"{self._path}: it or its log was removed or replaced while in use: restart the service")

    def _rolled_back(self, error: Exception) -> Exception:
        # SQLite ends the transaction by itself after some errors; a full disk is one.
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        if not isinstance(error, sqlite3.Error):
            return error
        self.last_error = translation(self._path, error)
        if is_busy(error):
            self._wait_for_locks(STILL_BUSY_SECONDS, is_busy=True)
            return self.last_error
        # If the disk is full, moving the log into the file gives the next commits the log's space.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return self.last_error

    def _wait_for_locks(self, seconds: float, *, is_busy: bool) -> None:
        """Set how long the next groups wait for another program's lock, if that has changed."""
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            self._connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
