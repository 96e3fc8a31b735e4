"""Sends a body, or part of it, the way a kind asks for: whole, dripping, stalling, cut, endless."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from .answers import HUGE_BYTES
from .endless import clusters
from .kinds import Delivery, Media
from .media import mime_of

# One write: large enough to be cheap, small enough that 300 connections hold little.
PIECE_BYTES: Final = 262_144
DRIPS_PER_SECOND: Final = 10
ENDLESS_BYTES: Final = 4 << 30
STALL_SECONDS: Final = 3600.0
# ffmpeg's WebM writer begins a cluster every 5 s of sound.
CLUSTER_MILLISECONDS: Final = 5000
_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})", re.ASCII)
_ZEROS: Final = memoryview(bytes(PIECE_BYTES))


def _span(request: web.Request, size: int) -> tuple[int, int] | None:
    """Return the asked-for bytes as start and end (exclusive); None without a Range that can be read."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None:
        return None
    return int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)


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


async def _endless(request: web.Request, body: memoryview, sent: Callable[[int], None]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": mime_of(Media.CLIP)})
    response.enable_chunked_encoding()
    await response.prepare(request)
    total = 0
    for cluster in clusters(body, CLUSTER_MILLISECONDS):
        await response.write(cluster)
        sent(len(cluster))
        total += len(cluster)
        if total > ENDLESS_BYTES:
            break
    await response.write_eof()
    return response


async def deliver(
    request: web.Request,
    body: memoryview,
    *,
    delivery: Delivery,
    media: Media,
    rate: int,
    sent: Callable[[int], None],
) -> web.StreamResponse:
    """Answer a media request; `sent` is told each number of bytes as it goes out, `rate` is bytes per second."""
    if delivery is Delivery.ENDLESS:
        return await _endless(request, body, sent)
    size = HUGE_BYTES if delivery is Delivery.HUGE else len(body)
    span = _span(request, size)
    if span is not None and span[0] >= span[1]:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    if delivery is Delivery.CUT_WHOLE and span is not None and span[0] > 0:
        span = None
    start, end = span or (0, size)
    if delivery is Delivery.CUT and start >= size // 2 and request.transport is not None:
        # A server that went away does not answer again.
        request.transport.abort()
        return web.Response()
    headers = {
        "Content-Type": "text/html" if media is Media.HTML else mime_of(media),
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    response = web.StreamResponse(status=200 if span is None else 206, headers=headers)
    await response.prepare(request)
    cut = delivery in {Delivery.CUT, Delivery.CUT_LOOP} or (delivery is Delivery.CUT_WHOLE and span is not None)
    last = size // 2 if cut or delivery is Delivery.STALLED else end
    piece = rate // DRIPS_PER_SECOND if delivery is Delivery.SLOW else PIECE_BYTES
    for part in _pieces(body, start, min(end, last), piece):
        await response.write(part)
        sent(len(part))
        if delivery is Delivery.SLOW:
            await asyncio.sleep(1 / DRIPS_PER_SECOND)
    if delivery is Delivery.STALLED:
        await asyncio.sleep(STALL_SECONDS)
    if cut and request.transport is not None:
        # The end of the stream before the announced length, as of a server that went away.
        request.transport.close()
        return response
    await response.write_eof()
    return response
