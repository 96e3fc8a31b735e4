"""Sends the track of a job: the file as it is, or with the tags that the client of the job has chosen."""

import contextlib
from http import HTTPStatus

from aiohttp import hdrs, web

from ytmp3.core.file_names import content_disposition
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Metadata, Ticket, Track
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http import headers
from ytmp3.http.conditional import selected
from ytmp3.http.download import Sender, expired, validators_of
from ytmp3.http.edited_tracks import MISFIT_TEXT, EditedTrack, EditedTracks
from ytmp3.http.preconditions import Representation


class JobTracks:
    """Sends tracks through `sender`, which counts and bounds the transfers."""

    def __init__(self, sender: Sender, edited: EditedTracks) -> None:
        self._sender = sender
        self._edited = edited

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
        return await self._send_edited(request, ticket, track, metadata, client, edits)

    async def _send_edited(
        self,
        request: web.Request,
        ticket: Ticket,
        track: Track,
        metadata: Metadata,
        client: ClientId,
        edits: TagEdits,
    ) -> web.StreamResponse:
        async with self._edited.opened(track) as source:
            facts = await self._edited.facts(source, track, edits)
            if not isinstance(facts, EditedTrack):
                raise expired(MISFIT_TEXT)
            representation = Representation(
                etag=facts.etag, modified_at=int(track.published_at), size_bytes=track.size_bytes
            )
            is_get = request.method == hdrs.METH_GET
            validators = validators_of(representation)
            selection = selected(request, representation, validators)
            if isinstance(selection, web.Response):
                return selection
            response = _response(ticket, metadata, selection.status, {**validators, **selection.fields})
            response.content_length = selection.length
            with self._sender.transfer_of(client) if is_get else contextlib.nullcontext():
                # Before the headers are sent: afterwards, a failure could only break the connection.
                end = selection.last + 1 if is_get else selection.first
                parts = await self._edited.parts(source, track, edits, selection.first, end)
                await response.prepare(request)
                await self._edited.send(request, response, source, parts)
                await response.write_eof()
            return response


def _response(ticket: Ticket, metadata: Metadata, status: HTTPStatus, fields: dict[str, str]) -> web.StreamResponse:
    recipe = ticket.conversion.recipe
    name = content_disposition(metadata.title, ticket.conversion.video_id, recipe.extension)
    kind = headers.extended(headers.TRACK[recipe.media_type], {**fields, hdrs.CONTENT_DISPOSITION: name})
    return web.StreamResponse(status=status, headers=kind)
