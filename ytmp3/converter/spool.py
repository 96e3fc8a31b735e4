"""The spool: the file of a download, which the encoder reads while it still grows.

The youtube child writes the spool and emits events with its size. The server moves the bytes into the encoder's pipe
with splice(2), so that no byte passes through Python. Readers wait for events and never poll. All calls of the file run
in threads, because the disk may hang.
"""

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from ytmp3.converter.sandbox.pipes import resolve
from ytmp3.threads import Threads

PIPE_BYTES: Final = 2**20
"""Capacity of the pipe to the encoder, in bytes: the most that an unprivileged process may set (fs.pipe-max-size). The
default of 64 KiB would wake the event loop more often."""

SPLICE_BYTES: Final = 2**20
"""Most bytes that one call of splice moves: the capacity of the pipe."""

PAUSE_SECONDS: Final = 0.02
"""Pause, in seconds, after a full pipe of PIPE_BYTES has space again. It is shorter for a smaller pipe.
Without it, the loop would wake up for each 32 kB that ffmpeg reads; with it, up to 50 MB/s are possible."""


def open_spool(path: Path) -> int:
    """Open a file that the youtube child has written. Symbolic links are not followed: the child is not trusted.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def widen(pipe: int) -> None:
    """Give a pipe the capacity of PIPE_BYTES, if the user's quota of pipe pages allows it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class SpoolReplacedError(Exception):
    """The download started over in another spool, so the bytes that were read of this spool are useless."""


class Spool:
    """One growing file, with one reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        """The size that the child reported last. It can be larger than the present size on disk."""
        self.total_bytes: int | None = None
        """The final size, if it is known."""
        self.is_complete = False
        self._is_replaced = False
        self._changed = asyncio.Event()

    def grow(self, size_bytes: int, total_bytes: int | None) -> None:
        """Record a new size."""
        self.size_bytes = size_bytes
        self.total_bytes = total_bytes
        self._changed.set()

    def complete(self, size_bytes: int) -> None:
        """Record that the download is complete."""
        self.size_bytes = self.total_bytes = size_bytes
        self.is_complete = True
        self._changed.set()

    def replace(self) -> None:
        """Record that the download started over in another spool. All waiting readers get SpoolReplacedError."""
        self._is_replaced = True
        self._changed.set()

    @property
    def fraction(self) -> float:
        """The downloaded fraction, 0 to 1. It is 0 until the end if the final size is not known."""
        return min(1.0, self.size_bytes / self.total_bytes) if self.total_bytes else float(self.is_complete)

    async def reaches(self, size_bytes: int) -> None:
        """Wait until the spool has this size, or is complete.

        Raises:
            SpoolReplacedError
        """
        while self._is_replaced or not (self.is_complete or self.size_bytes >= size_bytes):
            await self.changed()

    async def changed(self) -> None:
        """Wait until the spool grows or is complete.

        Raises:
            SpoolReplacedError: now or before this call.
        """
        self._changed.clear()
        if not self._is_replaced:
            await self._changed.wait()
        if self._is_replaced:
            raise SpoolReplacedError

    async def completion(self) -> None:
        """Wait until the spool is complete.

        Raises:
            SpoolReplacedError
        """
        while not self.is_complete:
            await self.reaches(self.size_bytes + 1)

    def head(self, size_bytes: int) -> bytes:
        """Return the first bytes. Blocks: called in a thread.

        Raises:
            OSError: the spool cannot be read.
        """
        with open(open_spool(self.path), "rb") as file:
            return file.read(size_bytes)


class Splicer:
    """Moves a spool into the writing end of a pipe, and closes this end afterwards. Needs a running event loop."""

    def __init__(self, spool: Spool, pipe: int, threads: Threads) -> None:
        self._spool = spool
        self._pipe = pipe
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._pause_seconds = PAUSE_SECONDS * min(1.0, fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) / PIPE_BYTES)
        self._moving: asyncio.Future[tuple[int, bool]] | None = None
        """The last call in a thread. It goes on if `run` is cancelled."""
        self.is_waiting_for_input = False
        """Whether all bytes on disk have been moved, and more bytes of the download are awaited."""

    async def run(self) -> None:
        """Move bytes until the spool is complete and all of it is in the pipe, or the reader has closed the pipe.

        Raises:
            SpoolReplacedError: the download started over.
            OSError: the spool cannot be read.
        """
        source: int | None = None
        try:
            source = await self._threads.descriptor(open_spool, self._spool.path)
            await self._splice(source)
        except BrokenPipeError:
            pass  # the encoder's exit status says why
        finally:
            self._close(source)

    def _close(self, source: int | None) -> None:
        """Close both descriptors. If a thread still uses them, it is waited for: their numbers could be used again."""
        if self._moving is not None and not self._moving.done():
            self._moving.add_done_callback(lambda moving: self._close_after(moving, source))
            return
        os.close(self._pipe)
        if source is not None:
            self._threads.close(source)

    def _close_after(self, moving: "asyncio.Future[tuple[int, bool]]", source: int | None) -> None:
        if not moving.cancelled():
            moving.exception()  # marks it as retrieved: nobody waits for it any more
        self._close(source)

    async def _splice(self, source: int) -> None:
        position = 0
        while True:
            # Asked before the bytes are moved. The child may write the last ones, and report that the download is
            # complete, after the thread has read to the end of the file and before this coroutine continues.
            is_last = self._spool.is_complete
            self._moving = asyncio.ensure_future(self._threads.run(self._move, source, position))
            position, is_all = await asyncio.shield(self._moving)
            if not is_all:
                await self._pipe_has_space()
                await asyncio.sleep(self._pause_seconds)
                continue
            # All bytes on disk have been moved. The position is not compared with the size that the child reported,
            # because that may be larger than the size on disk. Then this loop would spin until the rest is on disk.
            if is_last:
                return
            if self._spool.is_complete:
                continue
            self.is_waiting_for_input = True
            await self._spool.changed()
            self.is_waiting_for_input = False

    def _move(self, source: int, position: int) -> tuple[int, bool]:
        """Fill the pipe. Returns the new position, and whether all bytes on disk have been moved. Blocks."""
        while True:
            try:
                moved = os.splice(source, self._pipe, SPLICE_BYTES, offset_src=position)
            except BlockingIOError:
                return position, False
            if not moved:
                return position, True
            position += moved

    async def _pipe_has_space(self) -> None:
        has_space: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._pipe, resolve, has_space, None)
        try:
            await has_space
        finally:
            self._loop.remove_writer(self._pipe)
