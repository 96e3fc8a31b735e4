"""Finished tracks in a folder, which may be a volume that several instances share.

A track is published by fsync, rename, and fsync of the folder, so a crash leaves the whole track or nothing. Because of
the rename, the scratch folder must be on the same file system.
"""

import asyncio
import contextlib
import os
import secrets
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ytmp3.core.job import Track
from ytmp3.storage import InternalRedirect, OpenFile
from ytmp3.storage.integrity import Integrity

MARK_FILE_NAME: Final = ".shelf"
"""The file in the folder that holds its mark (see `Shelf.mark`)."""
CRC_BYTES: Final = 2**20
"""Number of bytes that are read at once to compute a CRC-32."""


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
        self._integrity = Integrity(on_damaged)
        self._folder_mode, self._file_mode = (0o750, 0o440) if accel_redirect_prefix else (0o700, 0o400)
        self._accel_redirect_prefix = accel_redirect_prefix

    async def open(self) -> None:
        """Create the folder.

        Raises:
            OSError: the folder cannot be created.
        """
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        # The data folder may be the operator's own, so its mode is changed only if it is made here.
        if not self.folder.parent.exists():
            self.folder.parent.mkdir(parents=True)
            self._set_mode(self.folder.parent, self._folder_mode)
        self.folder.mkdir(exist_ok=True)
        self._set_mode(self.folder, self._folder_mode)

    def _set_mode(self, file: Path | int, mode: int) -> None:
        """Set the mode of a file or folder where that is possible: FAT, SMB and FUSE may refuse it."""
        with contextlib.suppress(OSError):
            os.chmod(file, mode)  # noqa: PTH101  a descriptor is no path

    async def publish(self, source: Path, file_name: str) -> float:
        """See the Protocol."""
        return await asyncio.to_thread(self._publish, source, self.folder / file_name)

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
            _fsync_folder(self.folder)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return published_at

    async def holds(self, track: Track) -> bool:
        """See the Protocol."""
        descriptor = await self._open_intact(track)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    async def has_all(self, tracks: Sequence[Track]) -> bool:
        """See the Protocol."""
        return await asyncio.to_thread(lambda: all(map(self._has, tracks)))

    def _has(self, track: Track) -> bool:
        try:
            return (self.folder / track.file_name).stat().st_size == track.size_bytes
        except OSError:
            return False

    async def crc32(self, file_name: str) -> int | None:
        """See the Protocol."""
        return await asyncio.to_thread(self._crc32, self.folder / file_name)

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

    async def deliver(self, track: Track, *, may_redirect: bool) -> OpenFile | InternalRedirect | None:
        """See the Protocol."""
        descriptor = await self._open_intact(track)
        if descriptor is None:
            return None
        if self._accel_redirect_prefix and may_redirect:
            os.close(descriptor)
            return InternalRedirect(self._accel_redirect_prefix + track.file_name)
        return OpenFile(descriptor)

    async def is_damaged(self, track: Track) -> bool:
        """See the Protocol."""
        descriptor = await asyncio.to_thread(self._open_track, track)
        if descriptor is None:
            return False
        try:
            return not await self._integrity.matches(descriptor, track)
        except OSError:
            # A disk that does not answer has not changed the file.
            return False

    async def _open_intact(self, track: Track) -> int | None:
        """Open the track's file if it has the content of the track; None if not."""
        descriptor = await asyncio.to_thread(self._open_track, track)
        if descriptor is None:
            return None
        try:
            if await self._integrity.is_intact(descriptor, track):
                return descriptor
        except OSError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _open_track(self, track: Track) -> int | None:
        try:
            return os.open(self.folder / track.file_name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None

    async def delete(self, file_name: str) -> None:
        """See the Protocol."""
        await asyncio.to_thread((self.folder / file_name).unlink, missing_ok=True)

    async def mark(self) -> str:
        """See the Protocol."""
        return await asyncio.to_thread(self._mark)

    def _mark(self) -> str:
        path = self.folder / MARK_FILE_NAME
        with contextlib.suppress(FileNotFoundError):
            return path.read_text("ascii")
        # Complete before it has its name; and whoever comes first gives the shelf its mark.
        draft = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
        draft.write_text(secrets.token_hex(16), "ascii")
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
        return path.read_text("ascii")

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """See the Protocol."""
        return await asyncio.to_thread(self._names, older_than_seconds)

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


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
