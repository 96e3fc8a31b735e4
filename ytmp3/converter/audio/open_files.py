"""Open files of one coroutine, whose calls run in threads.

If the coroutine is cancelled, its last call continues in its thread. Closing a file meanwhile would be a mistake: the
system may give its number to another file, and the call would then read or write that one. The call may also create or
change a file, which others would then find. So the coroutine ends only when its last call has returned.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from ytmp3.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


class OpenFiles:
    """The files of one coroutine. It makes one call at a time, and calls `close_all` at its end."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._descriptors: set[int] = set()
        self._calling: asyncio.Future[object] | None = None

    async def open(self, path: Path, flags: int) -> int:
        """Open a file, and return its descriptor.

        Raises:
            OSError
        """
        return await self.run(self._open, path, flags)

    def adopt(self, descriptor: int) -> None:
        """Take over the closing of a descriptor."""
        self._descriptors.add(descriptor)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that uses the files, in a thread."""
        calling = asyncio.ensure_future(self._threads.run(function, *args, **kwargs))
        self._calling = calling  # type: ignore[assignment]
        return await asyncio.shield(calling)

    def close(self, descriptor: int) -> None:
        """Close a file that no call uses any more."""
        self._descriptors.discard(descriptor)
        self._threads.close(descriptor)

    async def close_all(self) -> None:
        """Wait until the last call has returned, and close all files."""
        if self._calling is not None and not self._calling.done():
            await asyncio.wait([self._calling])
        for descriptor in self._descriptors:
            self._threads.close(descriptor)
        self._descriptors.clear()

    def _open(self, path: Path, flags: int) -> int:
        # Known before the coroutine continues, which may have been cancelled meanwhile.
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self._descriptors.add(descriptor)
        return descriptor


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes. Blocks: called in a thread.

    Raises:
        OSError: such as a full disk.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
