"""Finished tracks in a folder, which may be a volume that several instances share.

A track is published by fsync, rename, and fsync of the folder, so a crash leaves the whole track or nothing. Because of
the rename, the scratch folder must be on the same file system.
"""

import contextlib
import logging
import os
import secrets
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ytmp3.core.job import Track
from ytmp3.file_sync import sync_folder
from ytmp3.storage import SIGNS, Description, InternalRedirect, OpenFile
from ytmp3.storage.integrity import Integrity
from ytmp3.storage.secret_file import shared_secret
from ytmp3.threads import Threads

MARK_FILE_NAME: Final = ".shelf"
"""The file in the folder that holds its mark (see `Shelf.mark`)."""
CRC_BYTES: Final = 2**20
"""Number of bytes that are read at once to compute a CRC-32."""
MARK_BYTES: Final = 16
"""Random bytes of the mark: enough that no two folders have the same."""
READERS: Final = 8
"""Threads that open tracks for downloads and look for them. Opening takes microseconds on a disk that answers."""
WRITERS: Final = 4
"""Threads that publish, delete and list tracks. A publisher waits for the disk (fsync), and more publishers at once
would only wait for each other."""

log = logging.getLogger(__name__)


class LocalShelf:
    """The `Shelf` in a folder."""

    def __init__(
        self, folder: Path, *, accel_redirect_prefix: str = "", on_damaged: Callable[[str], object] = lambda _: None
    ) -> None:
        """`accel_redirect_prefix` is nginx's internal location for the folder (see `X-Accel-Redirect`).

        If it is empty, this process sends every track itself. `on_damaged` is called with the name of each file whose
        content has changed.

        Tracks tell who listens to what, so other users cannot read them. nginx reads them as a member of this process's
        group, and so may the group, but only if there is an internal location. Nobody may write them: they are removed,
        but never changed.
        """
        self.folder = folder
        self._folder_mode, self._file_mode = (0o750, 0o440) if accel_redirect_prefix else (0o700, 0o400)
        self._accel_redirect_prefix = accel_redirect_prefix
        # A slow fsync must not delay downloads, so readers have their own threads.
        self.readers = Threads("tracks-read", READERS)
        self.writers = Threads("tracks-write", WRITERS)
        self._integrity = Integrity(on_damaged, self.readers)

    async def open(self) -> None:
        """Create the folder.

        Raises:
            OSError: the folder cannot be created.
        """
        await self.writers.run(self._open)

    def _open(self) -> None:
        # The data folder may be the operator's own, so its mode is changed only if it is made here.
        if not self.folder.parent.exists():
            self.folder.parent.mkdir(parents=True)
            self._set_mode(self.folder.parent, self._folder_mode)
        self._make_folder()

    def _make_folder(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._set_mode(self.folder, self._folder_mode)

    def _set_mode(self, file: Path | int, mode: int) -> None:
        """Set the mode of a file or folder where that is possible: FAT, SMB and FUSE may refuse it."""
        with contextlib.suppress(OSError):
            os.chmod(file, mode)  # noqa: PTH101  a descriptor is no path

    async def publish(self, source: Path, file_name: str, description: Description) -> float:
        """See the Protocol. The description is not kept: this process, or nginx behind it, sends the headers."""
        return await self.writers.run(self._publish, source, self.folder / file_name)

    def _publish(self, source: Path, target: Path) -> float:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            self._set_mode(descriptor, self._file_mode)
            published_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        source.rename(target)
        try:
            sync_folder(self.folder)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return published_at

    async def holds(self, track: Track) -> bool:
        """See the Protocol."""
        descriptor = await self._open_intact(track)
        if descriptor is None:
            return False
        self.readers.close(descriptor)
        return True

    async def has_all(self, tracks: Sequence[Track]) -> bool:
        """See the Protocol."""
        return await self.readers.run(lambda: all(map(self._has, tracks)))

    def _has(self, track: Track) -> bool:
        try:
            return (self.folder / track.file_name).stat().st_size == track.size_bytes
        except OSError:
            return False

    async def crc32(self, file_name: str) -> int | None:
        """See the Protocol."""
        return await self.readers.run(self._crc32, self.folder / file_name)

    def _crc32(self, path: Path) -> int | None:
        crc32, buffer = 0, bytearray(CRC_BYTES)
        view = memoryview(buffer)
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    crc32 = zlib.crc32(view[:count], crc32)
        except OSError:
            return None
        return crc32

    async def deliver(
        self, track: Track, *, may_redirect: bool, may_leave: bool = False
    ) -> OpenFile | InternalRedirect | None:
        """See the Protocol."""
        descriptor = await self._open_intact(track)
        if descriptor is None:
            return None
        if self._accel_redirect_prefix and may_redirect:
            self.readers.close(descriptor)
            return InternalRedirect(self._accel_redirect_prefix + track.file_name)
        return OpenFile(descriptor)

    def close_file(self, file: OpenFile) -> None:
        """See the Protocol."""
        self.readers.close(file.descriptor)

    async def is_damaged(self, track: Track) -> bool:
        """See the Protocol."""
        try:
            descriptor = await self.readers.descriptor(self._open_track, track)
            return not await self._integrity.matches(descriptor, track)
        except OSError:
            # The file is missing. Or the disk does not answer, which has not changed the file.
            return False

    async def _open_intact(self, track: Track) -> int | None:
        """Open the track's file if it has the content of the track; None if not."""
        try:
            descriptor = await self.readers.descriptor(self._open_track, track)
        except OSError:
            return None
        try:
            if await self._integrity.is_intact(descriptor, track):
                return descriptor
        except OSError:
            pass
        except BaseException:
            self.readers.close(descriptor)
            raise
        self.readers.close(descriptor)
        return None

    def _open_track(self, track: Track) -> int:
        return os.open(self.folder / track.file_name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    async def delete(self, file_name: str) -> None:
        """See the Protocol."""
        await self.writers.run((self.folder / file_name).unlink, missing_ok=True)

    async def mark(self) -> str:
        """See the Protocol."""
        candidate = secrets.token_hex(MARK_BYTES).encode("ascii")
        return (await self.writers.run(shared_secret, self.folder / MARK_FILE_NAME, candidate)).decode("ascii")

    async def sign(self, installation: str) -> float | None:
        """See the Protocol. Only times of the folder's file system are compared."""
        return await self.writers.run(self._sign, installation)

    def _sign(self, installation: str) -> float | None:
        folder = self.folder / SIGNS
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / installation).touch()
        with os.scandir(folder) as entries:
            signed_at = {entry.name: entry.stat().st_mtime for entry in entries}
        now = signed_at.pop(installation)
        return max(0.0, now - max(signed_at.values())) if signed_at else None

    def try_publishing(self, source: Path) -> None:
        """See the Protocol."""
        if not self.folder.exists():
            # Without its parent, the data folder is not mounted, or was moved: then the call fails.
            self._make_folder()
            log.error("the folder of tracks was missing, and is made again", extra={"folder": str(self.folder)})
        target = self.folder / f".{source.name}"
        source.rename(target)
        target.unlink()

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """See the Protocol."""
        return await self.writers.run(self._names, older_than_seconds)

    def _names(self, older_than_seconds: float) -> list[str]:
        limit = time.time() - older_than_seconds
        names = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                # Another instance may delete a file between the listing and the call of `stat`.
                with contextlib.suppress(FileNotFoundError):
                    if (
                        entry.name != MARK_FILE_NAME
                        and entry.is_file(follow_symlinks=False)
                        and entry.stat().st_ctime < limit
                    ):
                        names.append(entry.name)
        return names
