"""Finished tracks in a bucket of an object store that speaks S3, so that instances need no shared volume.

A track is converted and verified on the local scratch folder, then stored under its final name, and only then does a
record name it. The name contains the attempt's token and instance (`core.job.track_file_name`), so it is never reused:
what a client reads under a name never changes. An instance that has lost its lease stores an object that no record
names, and the janitor's sweep deletes it.

The SHA-256 is kept as metadata of the object. A track is delivered only if its object has the recorded size and hash.
The rule: only names of tracks are ever listed, so the sweep deletes nothing else from a bucket with other objects. The
tracks of another installation have such names, too. So each installation leaves a sign, and does not sweep beside
another one (`engine.sweep`).
"""

import asyncio
import errno
import hashlib
import logging
import secrets
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ytmp3.core.job import Track, conversion_id_of
from ytmp3.storage import SIGNS, Description, OpenFile, RemoteFile, ShelfDown, Url
from ytmp3.storage.s3_requests import LINK_SECONDS, QUICK, USUAL, Bucket, Limits, OnRequest, Stored
from ytmp3.storage.settings import S3Settings
from ytmp3.threads import Threads

MARK_NAME: Final = ".shelf"
"""The object that holds the mark of this shelf (see `Shelf.mark`)."""
MARK_BYTES: Final = 16
"""Random bytes of the mark: enough that no two shelves have the same."""
MARK_RENEWAL_SECONDS: Final = 43_200.0
"""Age, in seconds, at which the mark is stored again with the same content, so that a lifecycle rule that deletes old
objects never deletes it: such a rule counts whole days. Without the mark, all instances are unready for a minute."""
SIGN_CONTENT: Final = b"An installation of ytmp3 keeps its tracks below this prefix.\n"
PROBE_PREFIX: Final = ".probe-"
"""The objects with which instances check the object store. One that a crash leaves is swept like a track."""
PROBE_SECONDS: Final = 30.0
"""Shortest time, in seconds, between two checks while all is well. The providers charge for each upload: with this
interval a few cents a month. After a failed upload, the next check does not wait."""
WRITERS: Final = 4
"""Threads that store tracks. Each needs up to `s3_requests.SINGLE_BYTES` of memory meanwhile."""
HASHERS: Final = 1
"""Threads that compute hashes and checksums."""
LOOKS_AT_ONCE: Final = 16
"""Objects that are looked up at once for an archive."""
KEPT_RESULTS: Final = 100_000
"""Most tracks for which this instance remembers that it has compared their content: about 25 MB of memory. It reads the
content of forgotten ones again."""
MOST_SKEW_SECONDS: Final = 300.0
"""Largest difference between the clocks, in seconds. S3 refuses requests from 900 s on."""
MOST_SKEW_OF_LINKS_SECONDS: Final = LINK_SECONDS / 2
"""The same if clients get presigned URLs: if the clock of this machine is slow, a URL expires too early."""

NOT_KEPT: Final = "the object store does not keep what was sent, with its metadata"

log = logging.getLogger(__name__)


class S3Shelf:
    """The `Shelf` in a bucket. `clock` and the limits are for tests."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        on_damaged: Callable[[str], object] = lambda _: None,
        on_request: OnRequest = lambda *_: None,
        clock: Callable[[], float] = time.time,
        limits: Limits = USUAL,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        """`on_damaged` is called with the name of each track whose object has another content than was published.

        `on_request` is called after each request, from any thread.
        """
        self._on_request = on_request
        self._settings = settings
        self._on_damaged = on_damaged
        self._clock = clock
        self._limits = limits
        self._probe_seconds = probe_seconds
        self._writers = Threads("tracks-write", WRITERS)
        self._hashers = Threads("integrity", HASHERS)
        self._compared: dict[str, str] = {}
        """The ETags of objects whose content is known to be that of their tracks, by name."""
        self._damaged: set[str] = set()
        """Names that have been reported as damaged."""
        self._next_probe_at = 0.0

    async def open(self) -> None:
        """Read the settings and certificates. If the object store does not answer, the check of the disk reports it.

        Raises:
            ShelfDown: the settings cannot be used.
        """
        self._bucket = await self._writers.run(Bucket, self._settings, self._limits, self._on_request)
        self._quick = await self._writers.run(Bucket, self._settings, QUICK, self._on_request)

    async def publish(self, source: Path, file_name: str, description: Description) -> float:
        """See the Protocol. If the caller is cancelled, the upload continues: no record names what it stores."""
        return await self._writers.run(self._publish, source, file_name, description)

    def _publish(self, source: Path, file_name: str, description: Description) -> float:
        try:
            stored = _put(self._bucket, file_name, source, description)
        except ShelfDown:
            self._next_probe_at = 0.0
            raise
        self._note_compared(file_name, stored.etag)
        # A cancelled attempt has removed its folder meanwhile.
        source.unlink(missing_ok=True)
        return stored.modified_at

    async def holds(self, track: Track) -> bool:
        """See the Protocol."""
        return await self._intact(track) is not None

    async def has_all(self, tracks: Sequence[Track]) -> bool:
        """See the Protocol."""
        places = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def is_there(track: Track) -> bool:
            async with places:
                stored = await self._bucket.find(track.file_name)
                return stored is not None and stored.size_bytes == track.size_bytes

        return all(await asyncio.gather(*map(is_there, tracks)))

    async def crc32(self, file_name: str) -> int | None:
        """See the Protocol."""
        stored, crc32 = await self._bucket.find(file_name), 0
        if stored is None:
            return None
        async for piece in self._bucket.read(file_name, 0, stored.size_bytes):
            crc32 = await self._hashers.run(zlib.crc32, piece, crc32)
        return crc32

    async def deliver(self, track: Track, *, may_redirect: bool, may_leave: bool = False) -> RemoteFile | Url | None:
        """See the Protocol."""
        if await self._intact(track) is None:
            return None
        if self._settings.redirects and may_leave:
            return Url(await self._bucket.link(track.file_name))
        return RemoteFile(partial(self._bucket.read, track.file_name))

    def close_file(self, file: OpenFile) -> None:
        """See the Protocol. This shelf opens no files."""

    async def is_damaged(self, track: Track) -> bool:
        """See the Protocol.

        The content is read once in an instance: object stores check their disks themselves, many charge for what is
        read, and the ETag changes with the content.
        """
        try:
            stored = await self._bucket.find(track.file_name)
            if stored is None:
                return False
            if not _is_of(stored, track):
                self._report(track)
                return True
            if self._compared.get(track.file_name) == stored.etag:
                return False
            digest = hashlib.sha256()
            async for piece in self._bucket.read(track.file_name, 0, stored.size_bytes):
                await self._hashers.run(digest.update, piece)
        except ShelfDown:
            # The object store does not answer, which has not changed the track.
            return False
        if digest.hexdigest() != track.sha256:
            self._report(track)
            return True
        self._note_compared(track.file_name, stored.etag)
        return False

    async def delete(self, file_name: str) -> None:
        """See the Protocol."""
        self._compared.pop(file_name, None)
        self._damaged.discard(file_name)
        await self._bucket.delete(file_name)

    async def mark(self) -> str:
        """See the Protocol. It is read each time: if two instances have made one at once, they then agree on one."""
        found = await self._bucket.get(MARK_NAME)
        if found is None:
            await self._bucket.create(MARK_NAME, secrets.token_hex(MARK_BYTES).encode("ascii"))
            found = await self._bucket.get(MARK_NAME)
        if found is None:
            raise ShelfDown(errno.EIO, NOT_KEPT)
        mark, stored_at = found
        if self._clock() - stored_at > MARK_RENEWAL_SECONDS:
            await self._bucket.replace(MARK_NAME, mark)
        return mark[: 2 * MARK_BYTES].decode("ascii", "replace")

    async def sign(self, installation: str) -> float | None:
        """See the Protocol. Only times of the server are compared, so the clock of this machine does not matter."""
        await self._bucket.replace(f"{SIGNS}/{installation}", SIGN_CONTENT)
        signed_at = {name: stored_at async for name, stored_at in self._bucket.names(SIGNS)}
        if (now := signed_at.pop(installation, None)) is None:
            raise ShelfDown(errno.EIO, NOT_KEPT)
        return max(0.0, now - max(signed_at.values())) if signed_at else None

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """See the Protocol. Objects that are neither tracks nor checks of instances are never listed."""
        limit = self._clock() - older_than_seconds
        return [
            name
            async for name, stored_at in self._bucket.names()
            if stored_at < limit and (conversion_id_of(name) is not None or name.startswith(PROBE_PREFIX))
        ]

    def try_publishing(self, source: Path) -> None:
        """See the Protocol. While all is well, this does nothing for PROBE_SECONDS after each check."""
        try:
            if time.monotonic() < self._next_probe_at:
                return
            self._next_probe_at = 0.0
            self._probe(f".{source.name}", source.read_bytes())
            self._next_probe_at = time.monotonic() + self._probe_seconds
        finally:
            source.unlink()

    def _probe(self, name: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        description = Description(
            content_type="application/octet-stream", content_disposition="attachment", sha256=sha256
        )
        before = self._clock()
        stored = _put(self._quick, name, content, description)
        after = self._clock()
        self._quick.remove(name)
        # The time of an object is in whole seconds, rounded down.
        skew = max(before - 1.0 - stored.modified_at, stored.modified_at - after, 0.0)
        if skew > (MOST_SKEW_OF_LINKS_SECONDS if self._settings.redirects else MOST_SKEW_SECONDS):
            text = f"the clocks of this machine and of the object store differ by {skew:.0f} s: set them by NTP"
            raise ShelfDown(errno.EIO, text)

    async def _intact(self, track: Track) -> Stored | None:
        """Return the object if it has the size and the hash of the track; None if not."""
        stored = await self._bucket.find(track.file_name)
        if stored is None or _is_of(stored, track):
            return stored
        self._report(track)
        return None

    def _report(self, track: Track) -> None:
        if track.file_name not in self._damaged:
            self._damaged.add(track.file_name)
            log.error("track file has changed", extra={"file": track.file_name})
            self._on_damaged(track.file_name)

    def _note_compared(self, name: str, etag: str) -> None:
        self._compared[name] = etag
        if len(self._compared) > KEPT_RESULTS:
            self._compared.pop(next(iter(self._compared)), None)


def _put(bucket: Bucket, name: str, source: Path | bytes, description: Description) -> Stored:
    """Store a file or some bytes, and return what the server then says about the object. Blocks.

    Raises:
        OSError: `source` cannot be read.
        ShelfDown: whether the object exists is unknown.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    bucket.put(name, source, description, size)
    stored = bucket.stored(name)
    if stored is None or (stored.size_bytes, stored.sha256) != (size, description.sha256):
        raise ShelfDown(errno.EIO, NOT_KEPT)
    return stored


def _is_of(stored: Stored, track: Track) -> bool:
    return stored.size_bytes == track.size_bytes and stored.sha256 == track.sha256
