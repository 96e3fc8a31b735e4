"""One thread writes, in groups: many operations, one transaction, one fsync.

The rule of this room: an operation is answered only after its commit, and one that fails leaves its neighbours in the
group untouched. That needs no savepoints: an operation judges before it writes, so a refusal (LeaseLost) has written
nothing; after any other error the whole group is rolled back and run again one by one. But while another program holds
the file, no operation is to blame, and none waits for long: all fail together until the file is free.
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
from ytmp3.jobstore.sqlite.file import BUSY_SECONDS, files_at, is_locked_out, translation

GROUP_SIZE: Final = 256
"""Operations in one transaction at most: about 5 ms of work, so a latecomer does not wait long."""
LOCKED_OUT_SECONDS: Final = 0.1
"""How long a group waits for another program's lock once one has waited BUSY_SECONDS in vain."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Order(Generic[T_co]):
    """One operation, its outcome, and who waits for it."""

    __slots__ = ("_error", "_operation", "_result", "future")

    def __init__(self, operation: Callable[[], T_co], future: asyncio.Future[T_co]) -> None:
        self._operation = operation
        self.future = future
        self._result: list[T_co] = []
        self._error: Exception | None = None

    def attempt(self) -> None:
        """Run the operation. A refusal is an outcome; any other error is raised."""
        self._result.clear()
        self._error = None
        try:
            self._result.append(self._operation())
        except LeaseLost as refusal:
            self._error = refusal

    def fail(self, error: Exception) -> None:
        self._error = error

    def settle(self) -> None:
        """Answer; on the event loop's thread. Who was cancelled meanwhile is not told."""
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result[0])


class Writer:
    """The thread and its queue. Owns no connection: it is given one, and leaves it open."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        *,
        take_changed: Callable[[], frozenset[str]],
        on_changed: Callable[[frozenset[str]], None],
    ) -> None:
        """`take_changed` is asked on the thread after each group, `on_changed` told on the loop before any answer."""
        self._path = path
        self._connection = connection
        self._loop = loop
        self._take_changed = take_changed
        self._on_changed = on_changed
        self._queue: SimpleQueue[_Order[object] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="jobstore-writer", daemon=True)
        self._stopped = False
        self._is_locked_out = False
        self._files = files_at(path)
        self.trouble: StoreError | None = None
        """The last commit's error, until one succeeds. Written by the thread, read anywhere."""

    def start(self) -> None:
        self._thread.start()

    async def run(self, operation: Callable[[], T]) -> T:
        """Run `operation` on the writer's thread and return its result once it is durable.

        Raises:
            StoreDown, StoreFull, StoreUnusable: nothing of it was stored.
        """
        if self._stopped:
            raise StoreDown(f"{self._path}: closed")
        future: asyncio.Future[T] = self._loop.create_future()
        order: _Order[T] = _Order(operation, future)
        self._queue.put(order)
        return await future

    async def stop(self) -> None:
        """Finish what is queued, and end the thread."""
        self._stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (order := self._queue.get()) is not None:
            group = [order]
            more = self._fill(group)
            self._carry_out(group)
            # A closed loop waits for nothing.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._settle, group, self._take_changed())
            if not more:
                return

    def _settle(self, group: list[_Order[object]], changed: frozenset[str]) -> None:
        self._on_changed(changed)
        for order in group:
            order.settle()

    def _fill(self, group: list[_Order[object]]) -> bool:
        """Add what is waiting already; return False at the end of all orders."""
        while len(group) < GROUP_SIZE:
            try:
                order = self._queue.get_nowait()
            except Empty:
                return True
            if order is None:
                return False
            group.append(order)
        return True

    def _carry_out(self, group: list[_Order[object]]) -> None:
        error = self._commit(group)
        if error is None:
            return
        for order in group:
            if not self._is_locked_out:
                error = self._commit([order])
            if error is not None:
                order.fail(error)

    def _commit(self, group: list[_Order[object]]) -> Exception | None:
        """Run the group in one transaction; on an error nothing of it is stored, as far as is known."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for order in group:
                order.attempt()
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  every error rolls back and is reported to all callers of the group
            return self._rolled_back(error)
        self._lock_out(False)  # noqa: FBT003  the new state
        self.trouble = self._displacement()
        return self.trouble

    def _displacement(self) -> StoreError | None:
        """Return what to say if the file or its log was removed or replaced: a commit to it is lost with this process.

        Asked after each commit and before its answer, so what was acknowledged before is at most in a log without a
        name; it is moved into the file while it can be reached.
        """
        if files_at(self._path) == self._files:
            return None
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return StoreUnusable(f"{self._path}: it or its log was removed or replaced while in use: restart the service")

    def _rolled_back(self, error: Exception) -> Exception:
        # SQLite ends the transaction by itself after some errors (a full disk is one).
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        if not isinstance(error, sqlite3.Error):
            return error
        self.trouble = translation(self._path, error)
        if is_locked_out(error):
            self._lock_out(True)  # noqa: FBT003  the new state
            return self.trouble
        # If the disk is full, moving the log into the file gives the next commits the log's space.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        return self.trouble

    def _lock_out(self, is_locked_out: bool) -> None:  # noqa: FBT001 - what is, not how
        if is_locked_out != self._is_locked_out:
            self._is_locked_out = is_locked_out
            seconds = LOCKED_OUT_SECONDS if is_locked_out else BUSY_SECONDS
            self._connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
