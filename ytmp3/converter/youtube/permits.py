"""Permits for the extractions of one youtube child, which limit the extractions of all children together.

The server holds one extraction slot while a child extracts. The first extraction needs no message, because the child is
forked while the server holds the slot. Before any later extraction (the media were refused during the download), the
child sends the event `ExtractionWanted` and reads one byte from its pipe. The server writes this byte once it has a
slot. Without permits, many downloads that are refused at the same time would all extract at once, each possibly with
its own JavaScript runtime.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

_PERMIT: Final = b"."

TakeSlot = Callable[[], AbstractAsyncContextManager[object]]
"""Returns a context manager that waits for an extraction slot, and holds it until its end."""


class Permits:
    """The server's side: one for each child. Needs a running event loop. Its owner must call `close`."""

    def __init__(self, slot: TakeSlot) -> None:
        self._slot = slot
        self._task: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self._granted_at: float | None = None
        self._pipe: tuple[int, int] | None = None

    def open(self) -> int:
        """Create the pipe. Returns its read end, of which the child gets a copy; `close` closes it. Call only once."""
        self._pipe = os.pipe()
        return self._pipe[0]

    @property
    def is_wanted(self) -> bool:
        """Whether the child waits for a permit, or has one."""
        return self._task is not None

    @property
    def used_seconds(self) -> float:
        """For how long the child has had its permit; 0 without one."""
        return 0.0 if self._granted_at is None else time.monotonic() - self._granted_at

    def want(self) -> None:
        """Give the child a permit as soon as there is a free slot. Does nothing if it waits for one or has one."""
        if self._task is None:
            self._returned = asyncio.Event()
            self._task = asyncio.create_task(self._hold_slot(self._returned), name="extraction permit")

    def give_back(self) -> None:
        """End the permit. Does nothing without one, or while the child still waits for one."""
        if self._granted_at is not None:
            self._granted_at = None
            self._task = None
            self._returned.set()

    async def close(self) -> None:
        """Release the permit, or stop waiting for one, and close the pipe. Called when the child has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for descriptor in self._pipe or ():
            os.close(descriptor)
        self._pipe = None

    async def _hold_slot(self, returned: asyncio.Event) -> None:
        async with self._slot():
            self._granted_at = time.monotonic()
            if self._pipe is not None:
                os.write(self._pipe[1], _PERMIT)
            await returned.wait()


def wait_for_permit(descriptor: int) -> None:
    """Wait until the server allows an extraction. Called in the child, after `ExtractionWanted`.

    Raises:
        ConnectionError: the server gives no more permits.
    """
    if os.read(descriptor, 1) != _PERMIT:
        raise ConnectionError("no permit for an extraction")
