"""The cover of a finished track: the picture in the tags at the beginning of its file, whatever its format is.

The page shows it, so that no browser has to ask YouTube for a picture. The tags are read in threads, never by the event
loop. A track without a picture is no error: the response is then 204, without a body.
"""

import asyncio
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
from ytmp3.http.pictures import picture_in
from ytmp3.http.tag_reading import TagReading
from ytmp3.storage import OpenFile, RemoteFile, Shelf, ShelfDown

EXTENSION: Final = "jpg"
"""Every cover is a JPEG, because the converter makes it."""


class CoverHandlers:
    """The route of the covers."""

    def __init__(self, *, jobs: Jobs, shelf: Shelf, keys: Keys) -> None:
        self._jobs = jobs
        self._shelf = shelf
        self._keys = keys
        self._reading = TagReading("cover")

    async def cover(self, request: web.Request) -> web.Response:
        """GET /cover/ID.jpg."""
        job_id, extension = split_file_name(request.match_info["cover_name"])
        if extension not in {None, EXTENSION}:
            raise NotFound(f"Every cover is a JPEG: ask for /cover/ID.{EXTENSION}.")
        ticket = await self._jobs.ticket(job_id, owner_in(request, self._keys))
        track, _ = downloadable_track(ticket, ready_in_seconds=self._jobs.live(ticket).eta_seconds)
        if await self._jobs.has_expired(ticket):
            raise expired()
        if ticket.job.edits is not None and not ticket.job.edits.cover:
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers.EMPTY)
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
                if not isinstance(delivery, OpenFile | RemoteFile):
                    return None
                try:
                    return await self._reading.read(delivery, track.size_bytes, picture_in)
                finally:
                    if isinstance(delivery, OpenFile):
                        self._shelf.close_file(delivery)
        except (TimeoutError, ShelfDown):
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None
        except OSError:
            return None
