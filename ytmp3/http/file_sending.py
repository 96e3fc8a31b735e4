"""Sends a part of a file to a client. Reading the file never blocks the event loop.

`sendfile` reads the file in the event loop's thread, and blocks it if the disk is slow or hangs. So it is used only for
a piece that is in the page cache, which a read with RWF_NOWAIT shows. Any other piece is read in another thread first.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from aiohttp import web

from ytmp3.threads import Threads

PIECE_BYTES: Final = 256 * 1024
"""Bytes that one call of `sendfile` sends. A client must receive this many within STALL_SECONDS."""
LARGE_PIECE_BYTES: Final = 1024 * 1024
"""The same for a client that received the piece before within FAST_SECONDS. Each call costs about 0.1 ms of the event
loop's CPU time, whatever its size."""
FAST_SECONDS: Final = 0.25
"""Time, in seconds, within which a fast client receives PIECE_BYTES: it takes 1 MB/s or more."""
SCRAP_BYTES: Final = 64 * 1024
"""Size of the buffer for bytes that are read only to test whether they are cached."""
READ_BYTES: Final = 64 * 1024
"""Bytes that are read in a thread at once. Each transfer may hold this many in memory, and as many again in its
socket's buffer."""
CONTENT_SECONDS: Final = 60.0
"""Longest time, in seconds, for READ_BYTES that are not from a file. A slower client (1 kB/s) is disconnected."""
READERS: Final = 8
"""Threads that read pieces that are not in the page cache."""


class FileSending:
    """Sends parts of files, one at a time for each client."""

    def __init__(self, *, count_bytes: Callable[[float], None], stall_seconds: float) -> None:
        """`count_bytes` is called with the size of each piece that was sent. A slower piece ends the transfer."""
        self._count_bytes = count_bytes
        self._stall_seconds = stall_seconds
        self._readers = Threads("download", READERS)
        self._scrap = memoryview(bytearray(SCRAP_BYTES))
        """Receives pieces that are read only to test whether they are cached. Small, so that it stays in the cache of
        the processor: each piece is read into it several times over."""

    async def send(
        self, request: web.Request, response: web.StreamResponse, file: int, *, offset: int, count: int
    ) -> None:
        """Send `count` bytes of an open file from `offset` on; `response` has been prepared with this length.

        Raises:
            ConnectionResetError: the client went away or stalled, or the file is shorter. The connection is closed.
        """
        loop = asyncio.get_running_loop()
        piece_bytes = PIECE_BYTES
        while count > 0:
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the reader went away")
            is_cached = self._is_cached(file, offset, min(piece_bytes, count))
            piece = min(piece_bytes if is_cached else READ_BYTES, count)
            started_at = loop.time()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    if is_cached:
                        # Opened for each piece, because wrapping a descriptor asks the file system for its state.
                        with open(file, "rb", buffering=0, closefd=False) as source:  # noqa: ASYNC230
                            sent = await loop.sendfile(transport, source, offset, piece)
                    else:
                        chunk = await self._readers.run(os.pread, file, piece, offset)
                        await response.write(chunk)
                        sent = len(chunk)
            except TimeoutError:
                transport.abort()
                raise ConnectionResetError("the reader or the disk stalled") from None
            piece_bytes = LARGE_PIECE_BYTES if loop.time() - started_at < FAST_SECONDS else PIECE_BYTES
            self._count_bytes(sent)
            if sent < piece:
                # On a persistent connection, the client would read the next response as the missing bytes.
                transport.abort()
                raise ConnectionResetError("the file was cut short")
            offset += sent
            count -= sent

    def _is_cached(self, file: int, offset: int, count: int) -> bool:
        """Return whether the kernel can read these bytes without the disk. It copies them, at about 10 GB/s."""
        buffers = [self._scrap] * (count // SCRAP_BYTES) + [self._scrap[: count % SCRAP_BYTES]]
        try:
            return os.preadv(file, buffers, offset, os.RWF_NOWAIT) == count
        except OSError:
            # Not all of it is cached; or the file system does not support RWF_NOWAIT, such as NFS and FUSE.
            return False


async def write_content(request: web.Request, response: web.StreamResponse, content: bytes) -> None:
    """Send bytes that are not from a file.

    Raises:
        ConnectionResetError: the client went away, or stalled. The connection is closed.
    """
    for start in range(0, len(content), READ_BYTES):
        try:
            async with asyncio.timeout(CONTENT_SECONDS):
                await response.write(content[start : start + READ_BYTES])
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the reader stalled") from None
