"""The writer thread. It runs operations in groups: the operations of a group share one transaction and one fsync.

The result of an operation is returned only after the commit. An operation that is refused (LeaseLost) has written
nothing, because operations do all checks before their first write. So the others of its group are committed without
savepoints. After any other error the whole group is rolled back, and each operation runs again in its own transaction.

There is one exception: if another program holds a lock on the file, the operations are not run again one by one,
because all would fail. After one group has waited for the full timeout, the following groups wait only
STILL_BUSY_SECONDS. All of them fail with StoreDown until the lock is released.

A call of a disk that hangs does not return. Callers then get StoreDown after HANG_SECONDS, and later ones at once.

After a crash the log contains only whole transactions. An operation without a result is stored completely or not at
all.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Generic, TypeVar

from ytmp3.core.errors import LeaseLost, StoreDown, StoreError, StoreUnusable
from ytmp3.core.ids import ConversionId, JobId
from ytmp3.jobstore.sqlite.file import BUSY_SECONDS, files_at, is_busy, translation

GROUP_SIZE: Final = 256
"""Most operations in one transaction. They take about 5 ms, for which the next operation has to wait."""
STILL_BUSY_SECONDS: Final = 0.1
"""How long a group waits, in seconds, for another program's lock, after an earlier group has waited for the full
timeout."""

HANG_SECONDS: Final = 20.0
"""Longest wait for a result, in seconds. A commit takes milliseconds, and a group that waits for another program's lock
BUSY_SECONDS; a longer wait means that the disk hangs."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Operation(Generic[T_co]):
    """One operation with its outcome, and the future of its caller."""

    __slots__ = ("_error", "_function", "_result", "future")

    def __init__(self, function: Callable[[], T_co], future: asyncio.Future[T_co]) -> None:
        self._function = function
        self.future = future
        self._result: list[T_co] = []
        self._error: Exception | None = None

    def attempt(self) -> None:
        """Run the operation. LeaseLost is kept as the outcome for the caller; any other error is raised."""
        self._result.clear()
        self._error = None
        try:
            self._result.append(self._function())
        except LeaseLost as refusal:
            self._error = refusal

    def fail(self, error: Exception) -> None:
        """Set `error` as the outcome."""
        self._error = error

    def settle(self) -> None:
        """Set the outcome on the caller's future, unless that was cancelled. Runs on the event loop's thread."""
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result[0])


class Writer:
    """The thread and its queue. The connection belongs to the caller, and stays open when the thread ends."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        *,
        take_changed: Callable[[], frozenset[JobId | ConversionId]],
        on_changed: Callable[[frozenset[JobId | ConversionId]], None],
        busy_seconds: float = BUSY_SECONDS,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        """Create the writer. This must be called on the event loop of the callers of `run`.

        `take_changed` is called on the thread after each group. Its result is passed to `on_changed` on the event loop,
        before the results of the group are returned. `busy_seconds` must be the timeout of the connection.
        """
        self._path = path
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._take_changed = take_changed
        self._on_changed = on_changed
        self._busy_seconds = busy_seconds
        self._hang_seconds = hang_seconds
        self._queue: SimpleQueue[_Operation[object] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="jobstore-writer", daemon=True)
        self._is_stopped = False
        self._is_busy = False
        self._files = files_at(path)
        self._group_began_at: float | None = None
        """Since when the thread has been working on a group; None: it waits for operations."""
        self.last_error: StoreError | None = None
        """The error of the last commit that wrote, or was to write; None if it succeeded. Only the writer thread sets
        it; any thread may read it."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` on the writer's thread, in a transaction, and return its result once it is durable.

        Raises:
            StoreFull, StoreUnusable: nothing of it was stored.
            StoreDown: nothing of it was stored; or, if the disk hangs, it may be stored later.
        """
        if self._is_stopped:
            raise StoreDown(f"{self._path}: closed")
        self.raise_if_hanging()
        future: asyncio.Future[T] = self._loop.create_future()
        operation: _Operation[T] = _Operation(function, future)
        self._queue.put(operation)
        try:
            async with asyncio.timeout(self._hang_seconds):
                return await future
        except TimeoutError:
            raise self._hanging() from None

    def raise_if_hanging(self) -> None:
        """Check that the thread is not stuck in a call of the file.

        Raises:
            StoreDown
        """
        began_at = self._group_began_at
        if began_at is not None and time.monotonic() - began_at > self._hang_seconds:
            raise self._hanging()

    def _hanging(self) -> StoreDown:
        return StoreDown(f"{self._path}: the disk does not answer")

    async def stop(self) -> None:
        """Finish what is queued, and end the thread."""
        self._is_stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """Carry out operations until the queue ends. This is the writer's thread.

        All operations that wait at the same time are one group, and share a commit: the fsync costs most of the time,
        so this raises the throughput under load by the size of the group, and delays a single operation by nothing.
        """
        while (operation := self._queue.get()) is not None:
            group = [operation]
            is_last = self._fill(group)
            self._group_began_at = time.monotonic()
            self._carry_out(group)
            self._group_began_at = None
            # If the event loop is closed, no caller waits for a result.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settle, group, self._take_changed())
            if is_last:
                return

    def _settle(self, group: list[_Operation[object]], changed: frozenset[JobId | ConversionId]) -> None:
        """Give the callers their results, on the event loop. The cache drops old values before."""
        self._on_changed(changed)
        for operation in group:
            operation.settle()

    def _fill(self, group: list[_Operation[object]]) -> bool:
        """Add all queued operations to the group. Returns whether the writer has been stopped."""
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
        """Commit a group. If that fails, commit its operations one by one, so that one bad operation fails alone.

        While another process has locked the file, they would all wait for the same lock again, so all fail at once.
        """
        error = self._commit(group)
        if error is None:
            return
        for operation in group:
            if not self._is_busy:
                error = self._commit([operation])
            if error is not None:
                operation.fail(error)

    def _commit(self, group: list[_Operation[object]]) -> Exception | None:
        """Run the group in one transaction. Returns the error if it failed: then usually nothing is stored."""
        changes_before = self._connection.total_changes
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for operation in group:
                operation.attempt()
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  every error rolls back and is reported to all callers of the group
            return self._rolled_back(error)
        self._wait_for_locks(self._busy_seconds, is_busy=False)
        replaced = self._replacement_error()
        # A commit without a change succeeds on a disk that fails, so it does not show that the disk works again.
        if replaced is not None or self._connection.total_changes != changes_before:
            self.last_error = replaced
        return replaced

    def _replacement_error(self) -> StoreError | None:
        """Return an error if the file or its log was removed or replaced: then this process's commits would be lost.

        This is checked after each commit, before its results are returned. So all confirmed operations are in files
        that this process still has open. In case only the log was removed, it is moved into the file here.
        """
        if files_at(self._path) == self._files:
            return None
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return StoreUnusable(f"{self._path}: it or its log was removed or replaced while in use: restart the service")

    def _rolled_back(self, error: Exception) -> Exception:
        """End the transaction after an error, and return the error that the callers get."""
        # After some errors, such as a full disk, SQLite has ended the transaction already.
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        if not isinstance(error, sqlite3.Error):
            return error
        self.last_error = translation(self._path, error)
        if is_busy(error):
            self._wait_for_locks(STILL_BUSY_SECONDS, is_busy=True)
            return self.last_error
        # If the disk is full, the next commits can reuse the log's space once the log is moved into the file.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return self.last_error

    def _wait_for_locks(self, seconds: float, *, is_busy: bool) -> None:
        """Set how long the next groups wait for another program's lock, if `is_busy` has changed."""
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            self._connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
