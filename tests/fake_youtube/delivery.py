"""Sends a body, or part of it, the way a kind asks for: whole, dripping, stalling, cut, endless."""

import asyncio
import dataclasses
import re
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from .behaviour import Delivery, Media
from .endless import clusters
from .formats import HUGE_BYTES
from .media import mime_of

# One write: large enough to be cheap, small enough that 300 connections hold little.
PIECE_BYTES: Final = 262_144
DRIPS_PER_SECOND: Final = 10
ENDLESS_BYTES: Final = 4 << 30
STALL_SECONDS: Final = 3600.0
# ffmpeg's WebM writer begins a cluster every 5 s of sound.
CLUSTER_MILLISECONDS: Final = 5000
_HEADER: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})", re.ASCII)
_QUERY: Final = re.compile(r"([0-9]{1,18})-([0-9]{0,18})", re.ASCII)
_ZEROS: Final = memoryview(bytes(PIECE_BYTES))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The bytes asked for; `end` is exclusive."""

    start: int
    end: int
    is_bounded: bool
    is_partial: bool  # answered with 206; the `range` of a link is answered with 200, as googlevideo does


def asked_span(request: web.Request, size: int) -> Span:
    """Return what the `Range` header or the `range` parameter asks for; everything without them."""
    header = _HEADER.fullmatch(request.headers.get("Range", ""))
    found = header or _QUERY.fullmatch(request.query.get("range", ""))
    if found is None:
        return Span(start=0, end=size, is_bounded=False, is_partial=False)
    end = min(int(found[2]) + 1, size) if found[2] else size
    return Span(start=int(found[1]), end=end, is_bounded=bool(found[2]), is_partial=header is not None)


def _pieces(body: memoryview, start: int, end: int, piece: int) -> Iterator[memoryview]:
    """Yield a body's bytes; zeros past its end (a huge file is a small one and zeros)."""
    while start < end:
        stop = min(start + piece, end)
        if start < len(body):
            part = body[start:stop]
            yield part
            start += len(part)
        else:
            yield _ZEROS[: stop - start]
            start = stop


def reset_connection(request: web.Request) -> None:
    """End the connection with a TCP reset. Python's TLS may report that as an end of the stream."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Sender:
    """Answers one media request. `allowance` says how many bytes may still be sent from an offset on."""

    def __init__(
        self,
        request: web.Request,
        *,
        delivery: Delivery,
        media: Media,
        bytes_per_second: int,
        allowance: Callable[[int], int],
        is_hurried: Callable[[], bool],
        on_sent: Callable[[int], None],
    ) -> None:
        self._request = request
        self._delivery = delivery
        self._media = media
        self._bytes_per_second = bytes_per_second
        self._allowance = allowance
        self._is_hurried = is_hurried
        self._on_sent = on_sent

    async def send(self, body: memoryview) -> web.StreamResponse:
        delivery = self._delivery
        if delivery is Delivery.ENDLESS:
            return await self._send_endless(body)
        size = HUGE_BYTES if delivery is Delivery.HUGE else len(body)
        span = asked_span(self._request, size)
        if span.is_partial and span.start >= span.end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        ignores_range = delivery is Delivery.CUT_WHOLE and span.is_partial and span.start > 0
        if ignores_range:
            span = Span(start=0, end=size, is_bounded=False, is_partial=False)
        if delivery is Delivery.CUT and span.start >= size // 2 and self._request.transport is not None:
            # A server that went away does not answer again.
            self._request.transport.abort()
            return web.Response()
        response = self._head(span, size)
        await response.prepare(self._request)
        is_cut = delivery in {Delivery.CUT, Delivery.CUT_LOOP} or (delivery is Delivery.CUT_WHOLE and span.is_partial)
        last = size // 2 if is_cut or delivery is Delivery.STALLED else span.end
        if not await self._send_pieces(response, body, span.start, min(span.end, last)):
            is_cut = True
        if delivery is Delivery.STALLED:
            await asyncio.sleep(STALL_SECONDS)
        if is_cut and self._request.transport is not None:
            # The end of the stream before the announced length, as of a server that went away.
            self._request.transport.close()
            return response
        await response.write_eof()
        return response

    def _head(self, span: Span, size: int) -> web.StreamResponse:
        headers = {
            "Content-Type": "text/html" if self._media is Media.HTML else mime_of(self._media),
            "Accept-Ranges": "bytes",
            "Content-Length": str(span.end - span.start),
        }
        if span.is_partial:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
        return web.StreamResponse(status=206 if span.is_partial else 200, headers=headers)

    async def _send_pieces(self, response: web.StreamResponse, body: memoryview, start: int, end: int) -> bool:
        """Return false when the allowance ended before the bytes did."""
        is_slow = self._delivery is Delivery.SLOW
        piece_bytes = self._bytes_per_second // DRIPS_PER_SECOND if is_slow else PIECE_BYTES
        at = start
        for piece in _pieces(body, start, end, piece_bytes):
            part = piece[: max(0, self._allowance(at))]
            if part:
                await response.write(part)
                self._on_sent(len(part))
                at += len(part)
            if len(part) < len(piece):
                return False
            if is_slow and not self._is_hurried():
                await asyncio.sleep(1 / DRIPS_PER_SECOND)
        return True

    async def _send_endless(self, body: memoryview) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": mime_of(Media.CLIP)})
        response.enable_chunked_encoding()
        await response.prepare(self._request)
        total = 0
        for cluster in clusters(body, CLUSTER_MILLISECONDS):
            await response.write(cluster)
            self._on_sent(len(cluster))
            total += len(cluster)
            if total > ENDLESS_BYTES:
                break
        await response.write_eof()
        return response
