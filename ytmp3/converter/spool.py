"""The spool: the file that a download grows into while the encoder already reads it.

The downloading child writes it. The server knows its size from the child's events and moves it into the encoder's pipe
with splice(2), so that no byte passes through Python. Readers are woken by events and never poll.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from ytmp3.converter.sandbox.pipes import resolve

PIPE_BYTES: Final = 2**20
"""Capacity of the pipe to the encoder: the most that an unprivileged process may ask for (fs.pipe-max-size). The
default of 64 KiB would wake the event loop more often."""

SPLICE_BYTES: Final = 2**20
"""Most bytes that one splice moves: a whole pipe."""


class SpoolReplacedError(Exception):
    """The download started over in another spool. What was read of this one is useless."""


class Spool:
    """One growing file, with one reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        """Its size, as the child reported it last. It can be ahead of the size on disk."""
        self.total_bytes: int | None = None
        """Its final size, where that is known."""
        self.is_complete = False
        self._is_replaced = False
        self._changed = asyncio.Event()

    def grow(self, size_bytes: int, total_bytes: int | None) -> None:
        """Record a new size."""
        self.size_bytes = size_bytes
        self.total_bytes = total_bytes
        self._changed.set()

    def complete(self, size_bytes: int) -> None:
        """Record that it will not grow any more."""
        self.size_bytes = self.total_bytes = size_bytes
        self.is_complete = True
        self._changed.set()

    def replace(self) -> None:
        """Record that the download started over in another spool: every waiting reader gets SpoolReplacedError."""
        self._is_replaced = True
        self._changed.set()

    @property
    def fraction(self) -> float:
        """The downloaded fraction, 0 to 1. It is 0 until the end if the final size is not known."""
        return min(1.0, self.size_bytes / self.total_bytes) if self.total_bytes else float(self.is_complete)

    async def reaches(self, size_bytes: int) -> None:
        """Wait until it has this size, or is complete.

        Raises:
            SpoolReplacedError: it will be neither.
        """
        while self._is_replaced or not (self.is_complete or self.size_bytes >= size_bytes):
            await self.changed()

    async def changed(self) -> None:
        """Wait until it grows or is complete.

        Raises:
            SpoolReplacedError: it has been replaced, now or before.
        """
        self._changed.clear()
        if not self._is_replaced:
            await self._changed.wait()
        if self._is_replaced:
            raise SpoolReplacedError

    async def completion(self) -> None:
        """Wait until it is complete.

        Raises:
            SpoolReplacedError: it never will be.
        """
        while not self.is_complete:
            await self.reaches(self.size_bytes + 1)

    def head(self, size_bytes: int) -> bytes:
        """Return its first bytes. Blocks only for a small read from the page cache.

        Raises:
            OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            return file.read(size_bytes)


class Splicer:
    """Moves a spool into the writing end of a pipe, and closes that at the end. Needs a running event loop."""

    def __init__(self, spool: Spool, pipe: int) -> None:
        self._spool = spool
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self.is_waiting_for_input = False
        """Whether everything on disk has been moved and the download is awaited."""

    async def run(self) -> None:
        """Move bytes until the spool is complete and all of it is in the pipe, or the reader has closed the pipe.

        Raises:
            SpoolReplacedError: the download started over.
            OSError: the spool cannot be read.
        """
        try:
            source = os.open(self._spool.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                await self._splice(source)
            except BrokenPipeError:
                pass  # the encoder's exit status says why
            finally:
                os.close(source)
        finally:
            os.close(self._pipe)

    async def _splice(self, source: int) -> None:
        position = 0
        while True:
            try:
                moved = os.splice(source, self._pipe, SPLICE_BYTES, offset_src=position)
            except BlockingIOError:
                await self._pipe_has_space()
                continue
            position += moved
            if not moved:
                # The end of the bytes on disk. Not compared with the size that the child reported: that may be ahead,
                # and this loop would then spin, and block the event loop, until the rest is on disk.
                if self._spool.is_complete:
                    return
                self.is_waiting_for_input = True
                await self._spool.changed()
                self.is_waiting_for_input = False

    async def _pipe_has_space(self) -> None:
        has_space: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._pipe, resolve, has_space, None)
        try:
            await has_space
        finally:
            self._loop.remove_writer(self._pipe)
