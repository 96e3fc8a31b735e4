"""Reads the tags of tracks in threads, from files and from an object store. The caller passes the parser."""

import asyncio
import os
from collections.abc import Callable
from typing import Final, TypeVar

from ytmp3.http.pictures import Read
from ytmp3.storage import RemoteFile, Source
from ytmp3.threads import Threads

T = TypeVar("T")

BLOCK_BYTES: Final = 256 * 1024
"""Bytes that one request to an object store reads. Most tags are within the first block."""
READ_SECONDS: Final = 10.0
"""Longest time, in seconds, for one request to an object store. It takes a fraction of a second."""
READERS: Final = 2
"""Threads that read tags. A tag of 100 kB that is in the page cache is read within a millisecond. With an object store,
a thread waits for each read."""


class TagReading:
    """The threads that read tags; `name` is theirs, and `readers` their number."""

    def __init__(self, name: str, readers: int = READERS) -> None:
        self._readers = Threads(name, readers)

    async def read(self, source: Source, size_bytes: int, parse: Callable[[Read, int], T]) -> T:
        """Call `parse` in a thread, with a function that reads a part of the track, and the track's size.

        The caller closes `source`, also if this wait is cancelled.

        Raises:
            ShelfDown, TimeoutError, OSError: the track cannot be read.
        """
        if isinstance(source, RemoteFile):
            return await self._readers.run(_parse_remote, _blocking(source), size_bytes, parse)
        # The thread has a descriptor of its own: it may still read when this wait has ended.
        descriptor = os.dup(source.descriptor)
        reading = asyncio.create_task(self._readers.run(_parse_file, descriptor, parse), name="read-tags")
        return await asyncio.shield(reading)


def _parse_file(descriptor: int, parse: Callable[[Read, int], T]) -> T:
    """Parse an open file, and close it."""
    with open(descriptor, "rb", buffering=0) as file:
        number = file.fileno()
        return parse(lambda start, size: os.pread(number, size, start), os.fstat(number).st_size)


def _blocking(file: RemoteFile) -> Read:
    """Return a function for threads that reads a part of a file on another server."""
    loop = asyncio.get_running_loop()

    async def part(start: int, size: int) -> bytes:
        return b"".join([piece async for piece in file.read(start, size)])

    # The limit ends the thread also if the event loop ends first.
    return lambda start, size: asyncio.run_coroutine_threadsafe(part(start, size), loop).result(READ_SECONDS)


def _parse_remote(read: Read, size_bytes: int, parse: Callable[[Read, int], T]) -> T:
    """Parse a file on another server. It is read in a few large blocks, because each read is a request."""
    blocks: dict[int, bytes] = {}

    def block(number: int) -> bytes:
        if number not in blocks:
            start = number * BLOCK_BYTES
            blocks[number] = read(start, min(BLOCK_BYTES, size_bytes - start))
        return blocks[number]

    def part(start: int, size: int) -> bytes:
        end = min(start + size, size_bytes)
        if start >= end:
            return b""
        first = start // BLOCK_BYTES
        joined = b"".join(block(number) for number in range(first, (end - 1) // BLOCK_BYTES + 1))
        return joined[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    return parse(part, size_bytes)
