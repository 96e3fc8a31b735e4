"""Sends the track of a job: the file as it is, or with the tags that the client of the job has chosen.

The file on the shelf is shared by all jobs of its conversion, and is never changed. Other tags take the place of the
file's own ones while it is sent (`tag_edits`). The length stays the same, but the bytes differ, so the ETag is another
one. Neither nginx nor an object store can replace bytes, so this process sends these tracks itself.
"""

import asyncio
import contextlib
import hashlib
from http import HTTPStatus

from aiohttp import hdrs, web

from ytmp3.core.errors import StorageUnavailable
from ytmp3.core.file_names import content_disposition
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Metadata, Ticket, Track
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http import headers
from ytmp3.http.conditional import selected
from ytmp3.http.download import BUSY_RETRY_SECONDS, DISK_SECONDS, Sender, expired, validators_of
from ytmp3.http.file_sending import write_content
from ytmp3.http.pictures import Read
from ytmp3.http.preconditions import Representation
from ytmp3.http.tag_edits import Edit, edit_of
from ytmp3.http.tag_reading import TagReading
from ytmp3.storage import OpenFile, RemoteFile, ShelfDown, Source


class JobTracks:
    """Sends tracks through `sender`, which counts and bounds the transfers."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._reading = TagReading("edit-tags")

    async def send(
        self, request: web.Request, ticket: Ticket, track: Track, metadata: Metadata, client: ClientId
    ) -> web.StreamResponse:
        """Respond to GET or HEAD for the track of a job, which `downloadable_track` returns with its metadata.

        `client` is the owner whose transfers are counted.

        Raises:
            PreconditionFailed, RangeNotSatisfiable
            TrackGone: the file is missing, or is not the one that was verified.
            TooManyDownloads, ClientQuota: nothing was sent.
            StorageUnavailable: the disk or the object store does not answer.
        """
        conversion, edits = ticket.conversion, ticket.job.edits
        if edits is None:
            video_id, recipe = conversion.video_id, conversion.recipe
            return await self._sender.send(request, track, metadata, video_id, recipe, client)
        source = await self._open(track)
        try:
            edit = await self._edit(source, track, edits)
            representation = _representation(track, edit)
            is_get = request.method == hdrs.METH_GET
            validators = validators_of(representation)
            selection = selected(request, representation, validators)
            if isinstance(selection, web.Response):
                return selection
            response = _response(ticket, metadata, selection.status, {**validators, **selection.fields})
            response.content_length = selection.length
            with self._sender.transfer_of(client) if is_get else contextlib.nullcontext():
                await response.prepare(request)
                if is_get:
                    await self._send_parts(request, response, source, edit, (selection.first, selection.last + 1))
                await response.write_eof()
            return response
        finally:
            if isinstance(source, OpenFile):
                self._sender.shelf.close_file(source)

    async def _open(self, track: Track) -> Source:
        try:
            async with asyncio.timeout(DISK_SECONDS):
                delivery = await self._sender.shelf.deliver(track, may_redirect=False)
        except (TimeoutError, ShelfDown):
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None
        if not isinstance(delivery, OpenFile | RemoteFile):
            raise expired()
        return delivery

    async def _edit(self, source: Source, track: Track, edits: TagEdits) -> Edit:
        def parse(read: Read, size: int) -> Edit | None:
            return edit_of(read, size, edits)

        try:
            async with asyncio.timeout(DISK_SECONDS):
                edit = await self._reading.read(source, track.size_bytes, parse)
        except OSError:  # also ShelfDown and TimeoutError
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None
        if edit is None:
            raise expired()
        return edit

    async def _send_parts(
        self, request: web.Request, response: web.StreamResponse, source: Source, edit: Edit, bounds: tuple[int, int]
    ) -> None:
        """Send the bytes between two positions: those of the edit in its place, those of the file elsewhere."""
        first, end = bounds
        for start, stop, content in (
            (0, edit.start, None),
            (edit.start, edit.end, edit.content),
            (edit.end, end, None),
        ):
            begin, count = max(first, start), min(end, stop) - max(first, start)
            if count > 0 and content is not None:
                await write_content(request, response, content[begin - start : begin - start + count])
            elif count > 0:
                await self._sender.send_bytes(request, response, source, begin, count)


def _response(ticket: Ticket, metadata: Metadata, status: HTTPStatus, fields: dict[str, str]) -> web.StreamResponse:
    recipe = ticket.conversion.recipe
    name = content_disposition(metadata.title, ticket.conversion.video_id, recipe.extension)
    kind = headers.extended(headers.TRACK[recipe.media_type], {**fields, hdrs.CONTENT_DISPOSITION: name})
    return web.StreamResponse(status=status, headers=kind)


def _representation(track: Track, edit: Edit) -> Representation:
    """Return the facts that requests are evaluated against. The ETag depends on every byte that is sent."""
    digest = hashlib.sha256(f"{track.sha256} {edit.start} ".encode() + edit.content)
    return Representation(
        etag=f'"{digest.hexdigest()}"', modified_at=int(track.published_at), size_bytes=track.size_bytes
    )
