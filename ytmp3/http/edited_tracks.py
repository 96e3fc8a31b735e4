"""Tracks with the tags that the client of a job has chosen: their ETags, their checksums, and their bytes.

The stored file, in the folder or the bucket, is shared by all jobs of its conversion, and is never changed. Other tags
take the place of the file's own ones while it is sent (`tag_edits`). The length stays the same, but the bytes differ,
so the ETag is another one. Neither nginx nor an object store can replace bytes, so this process sends these tracks
itself.

The ETag, the checksum and the replaced range of an edited track never change, because stored files do not. So they are
cached in memory: the tags of a file are only read again for a response that contains them.
"""

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from ytmp3.core.errors import StorageUnavailable
from ytmp3.core.job import Track
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http.download import BUSY_RETRY_SECONDS, DISK_SECONDS, Sender, expired
from ytmp3.http.file_sending import write_content
from ytmp3.http.pictures import Read
from ytmp3.http.tag_edits import Edit, edit_of
from ytmp3.http.tag_reading import TagReading
from ytmp3.storage import OpenFile, RemoteFile, ShelfDown, Source

REMEMBERED_TRACKS: Final = 20_000
"""Most edited tracks whose facts are in memory: about 10 MB."""
READERS: Final = 8
"""Threads that read tags. The archive of a batch may need those of 1,000 tracks: with an object store that responds in
30 ms, eight threads read them in four seconds."""

Part = bytes | tuple[int, int]
"""Bytes to send, or the position and the length of a part of the file."""


class EditedTrack(Struct, frozen=True, kw_only=True):
    """The facts about a track with other tags."""

    start: int
    """The position of the first byte that is replaced."""
    end: int
    """The position after the last replaced byte."""
    digest: bytes
    """A SHA-256 that depends on every byte that is sent."""
    crc32_change: int
    """The exclusive or of the CRC-32 of the file and that of the edited track, which a ZIP archive needs."""

    @property
    def etag(self) -> str:
        """The strong ETag."""
        return f'"{self.digest.hex()}"'


class Misfit(Struct, frozen=True):
    """The tags do not fit into the file."""


MISFIT: Final = Misfit()
MISFIT_TEXT: Final = "The chosen tags do not fit into the stored file. Submit the link again, without them."
"""The text of the response to the client of such a job."""


class EditedTracks:
    """Edits tracks of the shelf of `sender`, and sends them through it."""

    def __init__(self, sender: Sender, *, remembered: int = REMEMBERED_TRACKS) -> None:
        self._sender = sender
        self._reading = TagReading("edit-tags", READERS)
        self._remembered = remembered
        self._facts: OrderedDict[bytes, EditedTrack | Misfit] = OrderedDict()
        """The facts by a hash of the file's name and the edits."""
        self.reads = 0
        """How many times the tags of a file were read, for tests and measurements."""

    @contextlib.asynccontextmanager
    async def opened(self, track: Track) -> AsyncIterator[Source]:
        """Open the file of a track while the block runs.

        Raises:
            TrackGone, StorageUnavailable
        """
        try:
            async with asyncio.timeout(DISK_SECONDS):
                source = await self._sender.shelf.deliver(track, may_redirect=False)
        except (TimeoutError, ShelfDown):
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None
        if not isinstance(source, OpenFile | RemoteFile):
            raise expired()
        try:
            yield source
        finally:
            if isinstance(source, OpenFile):
                self._sender.shelf.close_file(source)

    def known(self, track: Track, edits: TagEdits) -> EditedTrack | Misfit | None:
        """Return the facts if they are remembered, else None."""
        name = _name(track, edits)
        facts = self._facts.get(name)
        if facts is not None:
            self._facts.move_to_end(name)
        return facts

    async def facts(self, source: Source, track: Track, edits: TagEdits) -> EditedTrack | Misfit:
        """Return the facts about a track whose file is open.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        facts = self.known(track, edits)
        if facts is None:
            edit = await self._edit(source, track, edits)
            facts = MISFIT if edit is None else _facts_of(track, edit)
            self._facts[_name(track, edits)] = facts
            while len(self._facts) > self._remembered:
                self._facts.popitem(last=False)
        return facts

    async def parts(self, source: Source, track: Track, edits: TagEdits, first: int, end: int) -> list[Part]:
        """Return the parts of the edited track between two positions. The tags are read if they are among them.

        Raises:
            TrackGone: the tags do not fit into the file.
            StorageUnavailable: the file cannot be read.
        """
        facts = await self.facts(source, track, edits)
        if not isinstance(facts, EditedTrack):
            raise expired(MISFIT_TEXT)
        content = b""
        if max(first, facts.start) < min(end, facts.end):
            edit = await self._edit(source, track, edits)
            if edit is None or _facts_of(track, edit) != facts:
                raise expired()
            content = edit.content
        return list(_parts_between(facts, content, first, end))

    async def send(self, request: web.Request, response: web.StreamResponse, source: Source, parts: list[Part]) -> None:
        """Send parts of an edited track, after the response's headers.

        Raises:
            ConnectionResetError: as `Sender.send_bytes`.
        """
        for part in parts:
            if isinstance(part, bytes):
                await write_content(request, response, part)
            else:
                await self._sender.send_bytes(request, response, source, *part)

    async def _edit(self, source: Source, track: Track, edits: TagEdits) -> Edit | None:
        def parse(read: Read, size: int) -> Edit | None:
            return edit_of(read, size, edits)

        self.reads += 1
        try:
            async with asyncio.timeout(DISK_SECONDS):
                return await self._reading.read(source, track.size_bytes, parse)
        except OSError:  # also ShelfDown and TimeoutError
            raise StorageUnavailable(retry_after_seconds=BUSY_RETRY_SECONDS) from None


def _parts_between(facts: EditedTrack, content: bytes, first: int, end: int) -> Iterator[Part]:
    for start, stop, replaced in ((0, facts.start, False), (facts.start, facts.end, True), (facts.end, end, False)):
        begin, behind = max(first, start), min(end, stop)
        if begin < behind:
            yield content[begin - start : behind - start] if replaced else (begin, behind - begin)


def _name(track: Track, edits: TagEdits) -> bytes:
    return hashlib.sha256(msgspec.json.encode((track.file_name, edits))).digest()


def _facts_of(track: Track, edit: Edit) -> EditedTrack:
    digest = hashlib.sha256(f"{track.sha256} {edit.start} ".encode() + edit.content).digest()
    return EditedTrack(start=edit.start, end=edit.end, digest=digest, crc32_change=edit.crc32_change)
