"""Sends the tracks of an ended batch as one ZIP archive that can be resumed at any byte.

The archive is never stored. Its layout is computed from the tracks' recorded sizes and CRC-32s (`core.zip_layout`). So
its length and its ETag are known before a track is read, and every instance sends the same bytes. Tracks have the tags
that the client has chosen for them, which changes their CRC-32s in a known way (`core.crc32`).

While an archive is sent, its tracks are pinned: their expiry in the job store is extended, so that no instance deletes
them. All of them are checked before the response begins, because its Content-Length cannot be changed afterwards.
"""

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from aiohttp import hdrs, web

from ytmp3.core.batch import Batch, Mark
from ytmp3.core.errors import RequestError, StorageUnavailable
from ytmp3.core.file_names import archive_name
from ytmp3.core.ids import ClientId, JobId
from ytmp3.core.job import Ticket, Track
from ytmp3.core.tag_edits import TagEdits
from ytmp3.core.zip_layout import Bytes, Entry, Layout, Moment
from ytmp3.engine.batches import Batches
from ytmp3.http import headers
from ytmp3.http.conditional import selected
from ytmp3.http.download import BUSY_RETRY_SECONDS, Sender, expired
from ytmp3.http.edited_tracks import READERS, EditedTrack, EditedTracks
from ytmp3.http.errors import NotReady, TrackGone
from ytmp3.http.file_sending import write_content
from ytmp3.http.preconditions import Representation
from ytmp3.storage import ShelfDown

PIN_SECONDS: Final = 900.0
"""Time, in seconds, for which tracks are pinned at once. Pins of a crashed instance last at most this long."""
PINS_PER_PERIOD: Final = 3
"""How often a transfer renews its pins within PIN_SECONDS: two renewals may fail before a track can expire."""
REMEMBERED_CHECKSUMS: Final = 10_000
"""Most CRC-32s of old tracks in memory: about 1.5 MB."""
PLAYLIST_NAME: Final = "playlist.m3u8"
"""The last file of each archive: a playlist of its tracks, in order."""
REVISION_CHARACTERS: Final = 16
"""Length of the revision in the address of an archive: 64 bits of a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A track in an archive."""

    track: Track
    edits: TagEdits | None = None
    """The tags that replace its own; None if there are none, or they do not fit into the file."""
    edited: EditedTrack | None = None
    """The facts about the track with these tags."""

    @property
    def digest(self) -> bytes:
        """A hash that depends on every byte."""
        return bytes.fromhex(self.track.sha256) if self.edited is None else self.edited.digest

    @property
    def crc32_change(self) -> int:
        """By what its CRC-32 differs from that of the file (exclusive or)."""
        return 0 if self.edited is None else self.edited.crc32_change


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    layout: Layout
    members: Sequence[_Member]
    """The track of each entry but the last."""
    playlist: bytes
    """The content of the last entry."""
    representation: Representation


def revision_of(batch: Batch) -> str:
    """Return the identifier of the list of completed items. It does not change once the batch has ended."""
    return hashlib.sha256(f"{batch.batch_id} {batch.marks}".encode()).hexdigest()[:REVISION_CHARACTERS]


class Archives:
    """Sends archives. `pin_seconds` is for tests."""

    def __init__(
        self, *, batches: Batches, sender: Sender, edited: EditedTracks, pin_seconds: float = PIN_SECONDS
    ) -> None:
        self._batches = batches
        self._edited = edited
        self._shelf = sender.shelf
        self._sender = sender
        self._pin_seconds = pin_seconds
        self._checksums: dict[str, int] = {}
        """The CRC-32s of tracks whose records have none, by file name."""

    async def send(
        self, request: web.Request, batch_id: str, owner: ClientId | None, revision: str | None, client: ClientId
    ) -> web.StreamResponse:
        """Respond to GET or HEAD. `client` is the client whose transfers are counted; `revision` is from the URL.

        Raises:
            BatchUnknown, StoreUnavailable, PreconditionFailed, RangeNotSatisfiable
            NotReady: the batch has not ended.
            TrackGone: it has no tracks, some of them have expired, or the URL is that of another list of tracks.
            TooManyDownloads, ClientQuota
            StorageUnavailable: the object store with the tracks does not answer.
        """
        state, tickets = await self._batches.finished(batch_id, owner)
        batch = state.batch
        if batch.completed_at is None:
            raise NotReady(
                "The batch has not ended yet. Retry-After estimates when it will.",
                retry_after_seconds=state.eta_seconds,
            )
        _check_complete(batch, tickets, revision)
        # A HEAD sends no content. It counts as a transfer only while it reads files: perhaps those of all tracks.
        is_counted = request.method == hdrs.METH_GET or self._must_read_files(tickets)
        with self._sender.transfer_of(client) if is_counted else contextlib.nullcontext():
            return await self._respond(request, batch, tickets)

    def _must_read_files(self, tickets: Sequence[Ticket]) -> bool:
        """Return whether describing the archive needs files: the tags or the CRC-32 of a track are not known."""
        for ticket in tickets:
            track, edits = ticket.conversion.track, ticket.job.edits
            if track is not None and track.crc32 is None and track.file_name not in self._checksums:
                return True
            if track is not None and edits is not None and self._edited.known(track, edits) is None:
                return True
        return False

    async def _respond(self, request: web.Request, batch: Batch, tickets: Sequence[Ticket]) -> web.StreamResponse:
        archive = await self._archive(batch, tickets)
        representation = archive.representation
        fields = _fields(batch, representation)
        selection = selected(request, representation, fields)
        if isinstance(selection, web.Response):
            return selection
        kind = headers.extended(headers.ARCHIVE, {**fields, **selection.fields})
        response = web.StreamResponse(status=selection.status, headers=kind)
        response.content_length = selection.length
        if request.method != hdrs.METH_GET:
            await response.prepare(request)
            await response.write_eof()
            return response
        async with self._pinned(tickets):
            await self._check_files(archive, selection.first, selection.last)
            await response.prepare(request)
            await self._send_parts(request, response, archive, selection.first, selection.last)
            await response.write_eof()
        return response

    async def _archive(self, batch: Batch, tickets: Sequence[Ticket]) -> _Archive:
        entries, lines = [], ["#EXTM3U"]
        digits = len(str(len(tickets)))
        members = await self._members(tickets)
        for number, (ticket, member) in enumerate(zip(tickets, members, strict=True), start=1):
            conversion, track, metadata = ticket.conversion, member.track, ticket.metadata
            if metadata is None:
                raise expired()
            name = archive_name(number, digits, metadata.title, conversion.video_id, conversion.recipe.extension)
            title = " ".join(metadata.title.split())
            lines += [f"#EXTINF:{round(track.duration_seconds)},{title}", name]
            crc32 = await self._crc32_of(track) ^ member.crc32_change
            moment = _moment(track.published_at)
            entries.append(Entry(name=name, size_bytes=track.size_bytes, crc32=crc32, modified_at=moment))
        playlist = "".join(f"{line}\n" for line in lines).encode()
        ended_at = batch.completed_at or 0.0
        entries.append(
            Entry(
                name=PLAYLIST_NAME, size_bytes=len(playlist), crc32=zlib.crc32(playlist), modified_at=_moment(ended_at)
            )
        )
        layout = Layout(entries)
        digest = hashlib.sha256(playlist)
        for header in layout.headers():
            digest.update(header)
        for member in members:
            digest.update(member.digest)
        representation = Representation(
            etag=f'"{digest.hexdigest()}"', modified_at=int(ended_at), size_bytes=layout.size_bytes
        )
        return _Archive(layout=layout, members=members, playlist=playlist, representation=representation)

    async def _members(self, tickets: Sequence[Ticket]) -> list[_Member]:
        """Return the tracks in order. The tags of a track are read, a few at once, unless its facts are remembered.

        The first error ends the other reads: with a disk that does not answer, each of them would take long.

        Raises:
            TrackGone, StorageUnavailable
        """
        readers = asyncio.Semaphore(READERS)
        try:
            async with asyncio.TaskGroup() as group:
                reads = [group.create_task(self._member(ticket, readers), name="archive-member") for ticket in tickets]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [read.result() for read in reads]

    async def _member(self, ticket: Ticket, readers: asyncio.Semaphore) -> _Member:
        track, edits = ticket.conversion.track, ticket.job.edits
        if track is None:
            raise expired()
        if edits is None:
            return _Member(track=track)
        facts = self._edited.known(track, edits)
        if facts is None:
            async with readers, self._edited.opened(track) as source:
                facts = await self._edited.facts(source, track, edits)
        # A track of version 0.2 may have no free space for the tags. The archive still gets the others.
        if not isinstance(facts, EditedTrack):
            return _Member(track=track)
        return _Member(track=track, edits=edits, edited=facts)

    async def _crc32_of(self, track: Track) -> int:
        """Return the CRC-32 of a track. A track of version 0.2 has none: it is computed from the file at the first use.

        Raises:
            TrackGone: the file is missing.
            StorageUnavailable
        """
        if track.crc32 is not None:
            return track.crc32
        known = self._checksums.get(track.file_name)
        if known is not None:
            return known
        with _unavailable_if_down():
            computed = await self._shelf.crc32(track.file_name)
        if computed is None:
            raise expired()
        if len(self._checksums) >= REMEMBERED_CHECKSUMS:
            del self._checksums[next(iter(self._checksums))]
        self._checksums[track.file_name] = computed
        return computed

    async def _check_files(self, archive: _Archive, first: int, last: int) -> None:
        """Check that every file that this response needs exists.

        Raises:
            TrackGone, StorageUnavailable
        """
        needed = {part.entry for part in archive.layout.parts(first, last) if not isinstance(part, Bytes)}
        tracks = [archive.members[entry].track for entry in needed if entry < len(archive.members)]
        with _unavailable_if_down():
            are_there = await self._shelf.has_all(tracks)
        if not are_there:
            raise expired()

    @contextlib.asynccontextmanager
    async def _pinned(self, tickets: Sequence[Ticket]) -> AsyncIterator[None]:
        """Keep the tracks from expiring while the block runs.

        Raises:
            TrackGone: one of them has expired already.
            StoreUnavailable
        """
        job_ids = [ticket.job.job_id for ticket in tickets]
        if not await self._batches.pin(job_ids, self._pin_seconds):
            raise expired()
        renewal = asyncio.create_task(self._keep_pinned(job_ids), name="archive-pins")
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])

    async def _keep_pinned(self, job_ids: Sequence[JobId]) -> None:
        while True:
            await asyncio.sleep(self._pin_seconds / PINS_PER_PERIOD)
            # A failure is harmless: while the store is down, no instance can expire a track either.
            with contextlib.suppress(RequestError):
                await self._batches.pin(job_ids, self._pin_seconds)

    async def _send_parts(
        self, request: web.Request, response: web.StreamResponse, archive: _Archive, first: int, last: int
    ) -> None:
        for part in archive.layout.parts(first, last):
            if isinstance(part, Bytes):
                await write_content(request, response, part.content)
            elif part.entry == len(archive.members):
                await write_content(request, response, archive.playlist[part.offset : part.offset + part.count])
            else:
                await self._send_track(request, response, archive.members[part.entry], part.offset, part.count)

    async def _send_track(
        self, request: web.Request, response: web.StreamResponse, member: _Member, offset: int, count: int
    ) -> None:
        try:
            async with self._edited.opened(member.track) as source:
                if member.edits is None:
                    await self._sender.send_bytes(request, response, source, offset, count)
                else:
                    parts = await self._edited.parts(source, member.track, member.edits, offset, offset + count)
                    await self._edited.send(request, response, source, parts)
        except RequestError:
            # The file was removed despite the pin, its content has changed, or the disk or the object store does not
            # answer. The connection is closed.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("a track of the archive is missing") from None


@contextlib.contextmanager
def _unavailable_if_down() -> Iterator[None]:
    """Raise StorageUnavailable if the object store does not answer."""
    try:
        yield
    except ShelfDown:
        raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None


def _check_complete(batch: Batch, tickets: Sequence[Ticket], revision: str | None) -> None:
    """Raise TrackGone unless all tracks of the ended batch exist, and `revision` is that of their list."""
    if revision is not None and revision != revision_of(batch):
        raise TrackGone(
            "This URL is for another list of tracks. Read `archive_url` of the batch.", reason_code="archive_changed"
        )
    completed = batch.marks.count(Mark.COMPLETED)
    if completed == 0:
        raise TrackGone(
            "No item of this batch was completed, so there is nothing to download.", reason_code="no_tracks"
        )
    if len(tickets) < completed:
        raise expired()


def _moment(seconds: float) -> Moment:
    """Return a time in the form that headers of an archive need."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second


def _fields(batch: Batch, representation: Representation) -> dict[str, str]:
    return {
        hdrs.ETAG: representation.etag,
        hdrs.LAST_MODIFIED: format_datetime(datetime.fromtimestamp(representation.modified_at, UTC), usegmt=True),
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="ytmp3-{batch.batch_id[:8]}.zip"',
    }
