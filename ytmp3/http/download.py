"""Sends finished tracks: from this process, through nginx with the header `X-Accel-Redirect`, or from an object store.

`preconditions` decides the kind of the response (the whole file, a part, 304, 412 or 416) before a byte is sent.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from ytmp3.core.errors import FAILURES, ClientQuota, StorageUnavailable
from ytmp3.core.file_names import content_disposition
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.job import Metadata, Status, Ticket, Track
from ytmp3.core.recipe import Recipe
from ytmp3.core.sharing import may_take_more
from ytmp3.http import headers
from ytmp3.http.conditional import Selection, selected
from ytmp3.http.errors import NotReady, TooManyDownloads, TrackGone
from ytmp3.http.file_sending import FileSending
from ytmp3.http.preconditions import Representation
from ytmp3.http.remote_sending import RemoteSending
from ytmp3.storage import Delivery, InternalRedirect, OpenFile, RemoteFile, Shelf, ShelfDown, Source, Url

MAX_TRANSFERS: Final = 200
"""Most transfers of this process at once. Each holds two descriptors and a socket buffer. Downloads that nginx sends do
not count."""
BUSY_RETRY_SECONDS: Final = 5
"""The Retry-After, in seconds, of a download that was refused because too many transfers are running."""
DISK_SECONDS: Final = 10.0
"""Longest wait, in seconds, until a track is open. A disk that answers takes milliseconds."""
STALL_SECONDS: Final = 60.0
"""Longest time, in seconds, for one piece (`file_sending.PIECE_BYTES`). A slower client is disconnected, because it
occupies a descriptor and one of the MAX_TRANSFERS: below 4 kB/s, or below 17 kB/s just after it was much faster."""

_REEVALUATED_BY_NGINX: Final = frozenset({hdrs.IF_MATCH, hdrs.IF_UNMODIFIED_SINCE})
"""Preconditions that nginx evaluates again, and wrongly, when it sends the file. It evaluates If-Match before it knows
our entity tag. It takes a malformed date in If-Unmodified-Since for a very old one, but RFC 9110, section 13.1.4 says
to ignore it. Both would turn a correct 200 into a 412."""
_MISREAD_BY_NGINX: Final = re.compile(r"[0-9]{19}|\t|[=,] *,|, *\Z", re.ASCII)
"""Parts of a valid Range for which nginx sends 416: a very long number, a tab, an empty list element (section
5.6.1)."""


def split_file_name(file_name: str) -> tuple[str, str | None]:
    """Split the last segment of a download path into the job's id and the extension (None if it is missing)."""
    job_id, dot, extension = file_name.partition(".")
    return job_id, extension if dot else None


def downloadable_track(ticket: Ticket, *, ready_in_seconds: int | None) -> tuple[Track, Metadata]:
    """Return the track of a job, with its metadata.

    Raises:
        NotReady: the job has not ended; `ready_in_seconds` estimates when it will.
        TrackGone: the job failed or was cancelled.
    """
    conversion = ticket.conversion
    match ticket.status:
        case Status.PENDING | Status.PROCESSING:
            raise NotReady(retry_after_seconds=ready_in_seconds)
        case Status.CANCELLED:
            raise TrackGone("The job was cancelled.", reason_code="cancelled")
        case Status.FAILED:
            code = conversion.error
            raise TrackGone(FAILURES[code].message if code else "The job failed.", reason_code=code or "failed")
    metadata = ticket.metadata
    if conversion.track is None or metadata is None:
        raise expired()
    return conversion.track, metadata


def representation_of(track: Track) -> Representation:
    """Return the facts that requests are evaluated against. The ETag is the file's hash, equal on every instance."""
    return Representation(etag=f'"{track.sha256}"', modified_at=int(track.published_at), size_bytes=track.size_bytes)


def validators_of(representation: Representation) -> dict[str, str]:
    """Return the headers by which a client may ask for a representation again, or for a part of it."""
    modified_at = datetime.fromtimestamp(representation.modified_at, UTC)
    return {
        hdrs.ETAG: representation.etag,
        hdrs.LAST_MODIFIED: format_datetime(modified_at, usegmt=True),
        hdrs.ACCEPT_RANGES: "bytes",
    }


class Sender:
    """Sends tracks, and bounds the number of transfers.

    `shelf` decides how a track is sent. Clients share the `max_transfers` places as `may_take_more` says;
    `client_max_downloads` is a further limit on the transfers of one client at once; 0: no further limit. `count_bytes`
    is called with the number of bytes of each piece that this process has sent.
    """

    def __init__(
        self,
        *,
        shelf: Shelf,
        client_max_downloads: int,
        count_bytes: Callable[[float], None],
        max_transfers: int = MAX_TRANSFERS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.shelf = shelf
        self._client_max_downloads = client_max_downloads
        self._max_transfers = max_transfers
        self._files = FileSending(count_bytes=count_bytes, stall_seconds=stall_seconds)
        self._remote_files = RemoteSending(count_bytes=count_bytes, stall_seconds=stall_seconds)
        self.transfers: Counter[ClientId] = Counter()
        """The number of transfers that this process is sending, by client. Clients without one are not in it."""

    @property
    def active(self) -> int:
        """The number of transfers that this process is sending."""
        return self.transfers.total()

    async def send(
        self,
        request: web.Request,
        track: Track,
        metadata: Metadata,
        video_id: VideoId,
        recipe: Recipe,
        client: ClientId,
    ) -> web.StreamResponse:
        """Respond to GET or HEAD for a finished track. `client` is the owner whose transfers are counted.

        Raises:
            PreconditionFailed, RangeNotSatisfiable
            TrackGone: the file is missing, or is not the one that was verified.
            TooManyDownloads, ClientQuota: nothing was sent.
            StorageUnavailable: the disk or the object store does not answer.
        """
        representation = representation_of(track)
        is_get = request.method == hdrs.METH_GET
        more = validators_of(representation)
        selection = selected(request, representation, more)
        if isinstance(selection, web.Response):
            return selection
        kind = headers.TRACK[recipe.media_type]
        more[hdrs.CONTENT_DISPOSITION] = content_disposition(metadata.title, video_id, recipe.extension)
        # For HEAD, nginx would send a 206 for a Range, which RFC 9110, section 14.2 defines only for GET.
        may_redirect = is_get and _nginx_agrees(request.headers)
        may_leave = may_redirect and _object_store_agrees(request.headers, representation.etag)
        match await self._delivery(track, may_redirect=may_redirect, may_leave=may_leave):
            case None:
                raise expired()
            case InternalRedirect(path):
                more["X-Accel-Redirect"] = path
                return web.Response(headers=headers.extended(kind, more))
            case Url(url):
                # Without an ETag, and not to be stored: a cache that revalidated it would use a URL that has run out.
                moved = headers.extended(headers.EMPTY, {hdrs.LOCATION: url})
                return web.Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=moved)
            case OpenFile() | RemoteFile() as source:
                try:
                    with self.transfer_of(client) if is_get else contextlib.nullcontext():
                        fields = headers.extended(kind, {**more, **selection.fields})
                        return await self._respond(request, source, selection, fields)
                finally:
                    if isinstance(source, OpenFile):
                        self.shelf.close_file(source)

    async def _delivery(self, track: Track, *, may_redirect: bool, may_leave: bool) -> Delivery | None:
        try:
            async with asyncio.timeout(DISK_SECONDS):
                return await self.shelf.deliver(track, may_redirect=may_redirect, may_leave=may_leave)
        except (TimeoutError, ShelfDown):
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None

    @contextlib.contextmanager
    def transfer_of(self, client: ClientId) -> Iterator[None]:
        """Count a transfer while the block runs.

        Raises:
            TooManyDownloads, ClientQuota
        """
        if self._client_max_downloads and self.transfers[client] >= self._client_max_downloads:
            raise ClientQuota(
                "This client already downloads as many tracks at once as it may.",
                retry_after_seconds=BUSY_RETRY_SECONDS,
            )
        active = self.active
        if active >= self._max_transfers:
            raise TooManyDownloads(retry_after_seconds=BUSY_RETRY_SECONDS)
        if not may_take_more(self.transfers[client], active, self._max_transfers):
            raise ClientQuota(
                "This client already downloads as many tracks at once as it leaves places free for others.",
                retry_after_seconds=BUSY_RETRY_SECONDS,
            )
        self.transfers[client] += 1
        try:
            yield
        finally:
            # Subtracting counters also drops a client whose count reaches zero.
            self.transfers -= Counter((client,))

    async def _respond(
        self, request: web.Request, source: Source, selection: Selection, fields: Mapping[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=selection.status, headers=fields)
        response.content_length = selection.length
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            await self.send_bytes(request, response, source, selection.first, selection.length)
        await response.write_eof()
        return response

    async def send_bytes(
        self, request: web.Request, response: web.StreamResponse, source: Source, offset: int, count: int
    ) -> None:
        """Send `count` bytes of a track, after the response's headers.

        Raises:
            ConnectionResetError: the client went away or stalled, or the file is too short. The connection is aborted.
        """
        match source:
            case OpenFile(descriptor):
                await self._files.send(request, response, descriptor, offset=offset, count=count)
            case RemoteFile() as file:
                await self._remote_files.send(request, response, file, offset=offset, count=count)


def _nginx_agrees(fields: Mapping[str, str]) -> bool:
    """Return whether nginx, which evaluates the request again when it sends the file, comes to the same decision."""
    return not any(name in fields for name in _REEVALUATED_BY_NGINX) and not _MISREAD_BY_NGINX.search(
        fields.get(hdrs.RANGE, "")
    )


def _object_store_agrees(fields: Mapping[str, str], etag: str) -> bool:
    """Return whether the client may repeat the request at the object store, which evaluates it by its own ETag.

    A range that continues a part from this service must come from here. If the client continues a part from the object
    store, its If-Range has that ETag, and the object store must decide. A page of another origin sends Origin, and
    could not read a response of the object store, which knows nothing of CORS_ORIGINS.
    """
    return fields.get(hdrs.IF_RANGE) != etag and hdrs.ORIGIN not in fields


def expired(text: str = "The track is no longer kept. Submit the link again to convert it once more.") -> TrackGone:
    """Return the error for a track that was finished once, and is no longer kept or cannot be sent as promised."""
    return TrackGone(text, reason_code="expired")
