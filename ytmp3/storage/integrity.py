"""Checks that a track file still has the content that was verified when it was published (its SHA-256).

A file is read once in an instance, before its first download. After that it counts as unchanged while its inode, size
and times are the same: whoever writes to a file changes its ctime, which only the kernel sets. A failing disk may
change bytes without that; the scrubber, which reads all tracks again and again, finds those.

Reading 1 GB takes about a second of CPU time, in a thread.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from typing import Final

from ytmp3.core.job import Track
from ytmp3.threads import Threads

log = logging.getLogger(__name__)

READ_BYTES: Final = 2**20
"""Bytes that are read and hashed at once."""

CHECKS_AT_ONCE: Final = 2
"""Threads that read files."""

KEPT_RESULTS: Final = 20_000
"""Most files whose result is kept: about 6 MB of memory. The least recently used ones are read again."""

_Identity = tuple[int, int, int, int, int]
"""What changes whenever a file's content does: device, inode, size, mtime and ctime, the times in nanoseconds."""

_Compared = tuple[_Identity, int, str]
"""A file, and the size and SHA-256 that it was compared with."""


class Integrity:
    """The results of one instance. `on_damaged` is called with the name of each file that does not match."""

    def __init__(self, on_damaged: Callable[[str], object], lookers: Threads) -> None:
        """`lookers` are the threads that ask for the state of a file. Files are read in threads of their own."""
        self._on_damaged = on_damaged
        self._lookers = lookers
        self._readers = Threads("integrity", CHECKS_AT_ONCE)
        self._known: dict[str, tuple[_Compared, bool]] = {}  # the one used last is at the end
        self._running: dict[str, asyncio.Task[bool]] = {}

    async def is_intact(self, descriptor: int, track: Track) -> bool:
        """Return whether the open file has the content of the track. Reads it if it is not known or has changed.

        Concurrent calls for one file share one reading.

        Raises:
            OSError: it cannot be read.
        """
        name = track.file_name
        known, is_same = self._known.get(name, (None, False))
        if known is not None and known == await self._lookers.run(_compared, descriptor, track):
            self._known[name] = self._known.pop(name, (known, is_same))
            return is_same
        task = self._running.get(name)
        if task is None:
            task = asyncio.create_task(self.matches(os.dup(descriptor), track), name=f"check-{name}")
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        # A client that leaves does not end the check for the others.
        return await asyncio.shield(task)

    async def matches(self, descriptor: int, track: Track) -> bool:
        """Read the whole file, and return whether it has the content of the track. Closes the descriptor.

        Raises:
            OSError: it cannot be read.
        """
        try:
            compared, is_same = await self._readers.run(_compared_by_content, descriptor, track)
        finally:
            self._readers.close(descriptor)
        is_known = self._known.pop(track.file_name, None) == (compared, is_same)
        self._known[track.file_name] = (compared, is_same)
        if len(self._known) > KEPT_RESULTS:
            del self._known[next(iter(self._known))]
        if not is_same and not is_known:
            log.error("track file has changed", extra={"file": track.file_name})
            self._on_damaged(track.file_name)
        return is_same


def _compared(descriptor: int, track: Track) -> _Compared:
    status = os.fstat(descriptor)
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return identity, track.size_bytes, track.sha256


def _compared_by_content(descriptor: int, track: Track) -> tuple[_Compared, bool]:
    compared = _compared(descriptor, track)
    return compared, _has_content(descriptor, track)


def _has_content(descriptor: int, track: Track) -> bool:
    if os.fstat(descriptor).st_size != track.size_bytes:
        return False
    digest, position = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, READ_BYTES, position):
        digest.update(chunk)
        position += len(chunk)
    return digest.hexdigest() == track.sha256
