"""The cover of a finished track: the picture in the tags at the beginning of its file, whatever its format is.

The page shows it, so that no browser has to ask YouTube for a picture. The tags are read in threads, never by the event
loop. A track without a picture is no error: the response is then 204, without a body.
"""

import asyncio
import contextlib
import os
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ytmp3.core.errors import StorageUnavailable
from ytmp3.core.job import Track
from ytmp3.engine.jobs import Jobs
from ytmp3.http import headers
from ytmp3.http.admission import owner_in
from ytmp3.http.conditional import is_known
from ytmp3.http.download import BUSY_RETRY_SECONDS, DISK_SECONDS, downloadable_track, expired, split_file_name
from ytmp3.http.errors import NotFound
from ytmp3.http.keys import Keys
from ytmp3.http.pictures import Read, picture_in
from ytmp3.storage import OpenFile, RemoteFile, Shelf, ShelfDown
from ytmp3.threads import Threads

EXTENSION: Final = "jpg"
"""Every cover is a JPEG, because the converter makes it."""
BLOCK_BYTES: Final = 256 * 1024
"""Bytes that one request to an object store reads. Most covers are within the first block."""
READERS: Final = 2
"""Threads that read tags. A tag of 100 kB that is in the page cache is read within a millisecond."""


class CoverHandlers:
    """The route of the covers."""

    def __init__(self, *, jobs: Jobs, shelf: Shelf, keys: Keys) -> None:
        self._jobs = jobs
        self._shelf = shelf
        self._keys = keys
        self._readers = Threads("cover", READERS)

    async def cover(self, request: web.Request) -> web.Response:
        """GET /cover/ID.jpg."""
        job_id, extension = split_file_name(request.match_info["cover_name"])
        if extension not in {None, EXTENSION}:
            raise NotFound(f"Every cover is a JPEG: ask for /cover/ID.{EXTENSION}.")
        ticket = await self._jobs.ticket(job_id, owner_in(request, self._keys))
        track, _ = downloadable_track(ticket, ready_in_seconds=self._jobs.live(ticket).eta_seconds)
        if await self._jobs.has_expired(ticket):
            raise expired()
        etag = f'"{track.sha256}.{EXTENSION}"'
        more: dict[str, str] = {hdrs.ETAG: etag}
        if is_known(request, etag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers.extended(headers.COVER_UNCHANGED, more))
        cover = await self._cover_of(track)
        if cover is None:
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers.EMPTY)
        return web.Response(body=cover, headers=headers.extended(headers.COVER, more))

    async def _cover_of(self, track: Track) -> bytes | None:
        """Return the picture of a track; None if it has none.

        Raises:
            TrackGone: the file is missing, or is not the one that was verified.
            StorageUnavailable: the disk or the object store does not answer.
        """
        try:
            async with asyncio.timeout(DISK_SECONDS):
                delivery = await self._shelf.deliver(track, may_redirect=False)
                if delivery is None:
                    raise expired()
                if isinstance(delivery, RemoteFile):
                    return await self._readers.run(_read_remote_cover, _blocking(delivery), track.size_bytes)
                if not isinstance(delivery, OpenFile):
                    return None
                # The thread has a descriptor of its own: it may still read when this wait has ended.
                descriptor = os.dup(delivery.descriptor)
                self._shelf.close_file(delivery)
                reading = asyncio.create_task(self._readers.run(_read_cover, descriptor), name="read-cover")
                return await asyncio.shield(reading)
        except (TimeoutError, ShelfDown):
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None


def _blocking(file: RemoteFile) -> Read:
    """Return a function for threads that reads a part of a file on another server."""
    loop = asyncio.get_running_loop()

    async def part(start: int, size: int) -> bytes:
        return b"".join([piece async for piece in file.read(start, size)])

    # The limit ends the thread also if the event loop ends first.
    return lambda start, size: asyncio.run_coroutine_threadsafe(part(start, size), loop).result(DISK_SECONDS)


def _read_remote_cover(read: Read, size_bytes: int) -> bytes | None:
    """Return the picture in the tags of a file on another server; None if there is none. Called in a thread.

    The tags are read in a few large blocks, because each read is a request.

    Raises:
        ShelfDown, TimeoutError
    """
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

    return picture_in(part, size_bytes)


def _read_cover(descriptor: int) -> bytes | None:
    """Return the picture in the tags of an open file, and close it. None if there is none, or it cannot be read."""
    with open(descriptor, "rb", buffering=0) as file, contextlib.suppress(OSError):
        number = file.fileno()
        return picture_in(lambda start, size: os.pread(number, size, start), os.fstat(number).st_size)
    return None
