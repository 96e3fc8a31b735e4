"""The spool: the file that a download grows into while the encoder already reads it.

The youtube child writes it; the server knows its size from the child's news and pours it into the encoder's pipe with
splice, so that no byte of it passes through Python. Woken by news, never by a clock.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from ytmp3.converter.sandbox.pipes import resolve

PIPE_BYTES: Final = 2**20
"""What an unprivileged process may ask for (fs.pipe-max-size); fewer wake-ups of the event loop than 64 KiB."""

POUR_BYTES: Final = 2**20


class SpoolReplacedError(Exception):
    """The download began again in another spool: what was read of this one is worthless."""


class Spool:
    """One growing file. One reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self.total_bytes: int | None = None
        self.is_complete = False
        self._is_replaced = False
        self._news = asyncio.Event()

    def grow(self, size_bytes: int, total_bytes: int | None) -> None:
        """So much is there now."""
        self.size_bytes = size_bytes
        self.total_bytes = total_bytes
        self._news.set()

    def complete(self, size_bytes: int) -> None:
        """No more is to come."""
        self.size_bytes = self.total_bytes = size_bytes
        self.is_complete = True
        self._news.set()

    def replace(self) -> None:
        """The download begins again elsewhere."""
        self._is_replaced = True
        self._news.set()

    @property
    def fraction(self) -> float:
        """How much of it is there, 0 to 1; 0 where its final size is not known."""
        return min(1.0, self.size_bytes / self.total_bytes) if self.total_bytes else float(self.is_complete)

    async def reaches(self, size_bytes: int) -> None:
        """Wait until it has this size, or is complete.

        Raises:
            SpoolReplacedError: it will be neither.
        """
        while self._is_replaced or not (self.is_complete or self.size_bytes >= size_bytes):
            await self.news()

    async def news(self) -> None:
        """Wait for the next news, whatever it is.

        Raises:
            SpoolReplacedError: that is the news.
        """
        self._news.clear()
        if not self._is_replaced:
            await self._news.wait()
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
        """Read its first bytes: one small read from the page cache."""
        with self.path.open("rb") as file:
            return file.read(size_bytes)


class Pour:
    """Moves a spool into a pipe's writing end, which it closes at the end; `is_starved` while it waits for news."""

    def __init__(self, spool: Spool, pipe: int) -> None:
        self._spool = spool
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self.is_starved = False

    async def run(self) -> None:
        """Pour until the spool is complete and through, or the reader has gone away.

        Raises:
            SpoolReplacedError: the download began again.
            OSError: the spool cannot be read.
        """
        try:
            source = os.open(self._spool.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                await self._pour(source)
            except BrokenPipeError:
                pass  # the encoder's exit status says why
            finally:
                os.close(source)
        finally:
            os.close(self._pipe)

    async def _pour(self, source: int) -> None:
        position = 0
        while True:
            try:
                moved = os.splice(source, self._pipe, POUR_BYTES, offset_src=position)
            except BlockingIOError:
                await self._room()
                continue
            position += moved
            if not moved:
                # The end of what is on disk, whatever size the child says: to believe it would be to turn here without
                # a pause, and with the event loop, until the rest is there.
                if self._spool.is_complete:
                    return
                self.is_starved = True
                await self._spool.news()
                self.is_starved = False

    async def _room(self) -> None:
        room: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._pipe, resolve, room, None)
        try:
            await room
        finally:
            self._loop.remove_writer(self._pipe)
