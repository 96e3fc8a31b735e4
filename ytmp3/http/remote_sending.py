"""Sends a part of a track that is on another server to a client, in pieces that pass through this process."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from ytmp3.storage import RemoteFile, ShelfDown

WRITTEN_BYTES: Final = 256 * 1024
"""Bytes that are written at once. A client must receive this many within `stall_seconds`."""


class RemoteSending:
    """Sends parts of tracks on another server."""

    def __init__(self, *, count_bytes: Callable[[float], None], stall_seconds: float) -> None:
        """`count_bytes` is called with the number of bytes of each write.

        A write that takes longer than `stall_seconds` ends the transfer.
        """
        self._count_bytes = count_bytes
        self._stall_seconds = stall_seconds

    async def send(
        self, request: web.Request, response: web.StreamResponse, file: RemoteFile, *, offset: int, count: int
    ) -> None:
        """Send `count` bytes from `offset` on; `response` has been prepared with this length.

        Raises:
            ConnectionResetError: the client went away or stalled, or the other server fails. The connection is closed:
                on a persistent one, the client would read the next response as the missing bytes.
        """
        try:
            async for piece in file.read(offset, count):
                for start in range(0, len(piece), WRITTEN_BYTES):
                    await self._write(request, response, piece[start : start + WRITTEN_BYTES])
        except ShelfDown:
            _abort(request)
            raise ConnectionResetError("the object store failed") from None
        except TimeoutError:
            _abort(request)
            raise ConnectionResetError("the reader stalled") from None

    async def _write(self, request: web.Request, response: web.StreamResponse, content: bytes) -> None:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the reader went away")
        async with asyncio.timeout(self._stall_seconds):
            await response.write(content)
        self._count_bytes(len(content))


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
