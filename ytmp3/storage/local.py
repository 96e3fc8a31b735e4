"""Tracks in a folder: `tracks/` holds what is published, `scratch/` what is being made, on one file system.

Publishing is write, fsync, rename, fsync of the folder: a crash leaves a whole track or none. Scratch folders carry the
name of the instance that made them and a lock file it holds, so that a sweep takes only what the dead have left.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

from ytmp3.core.ids import InstanceId
from ytmp3.storage import Space


class LocalStorage:
    """The Storage of one folder, which may be a volume shared by several instances."""

    def __init__(self, folder: Path, *, instance: InstanceId) -> None:
        self.folder = folder
        self.tracks = folder / "tracks"
        self._scratch_root = folder / "scratch"
        self._scratch = self._scratch_root / instance
        self._lock: int | None = None

    async def open(self) -> None:
        """Create the folders and sweep the leftovers of dead instances.

        Raises:
            OSError: a folder cannot be made or written.
        """
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        # nginx, under another user, sends the tracks; the rest is nobody else's.
        for folder, mode in (
            (self.folder, 0o755),
            (self.tracks, 0o755),
            (self._scratch_root, 0o700),
            (self._scratch, 0o700),
        ):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
        self._lock = os.open(self._scratch / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._sweep()

    async def sweep(self) -> None:
        """Remove the scratch folders of instances that have died since."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for folder in self._scratch_root.iterdir():
            if folder != self._scratch and folder.is_dir() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        """Remove this instance's own scratch folder."""
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def new_scratch(self, name: str) -> Path:
        """Create and return an empty folder for one attempt."""
        scratch = self._scratch / name
        # In a thread, like every change of the file system: it waits for the journal while a track is being fsynced.
        await asyncio.to_thread(scratch.mkdir, mode=0o700)
        return scratch

    async def remove_scratch(self, scratch: Path) -> None:
        """Remove an attempt's folder with all it holds; missing is fine."""
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def publish(self, source: Path, file_name: str) -> float:
        """fsync, rename into place, fsync the folder. Returns the mtime.

        Raises:
            OSError: nothing is in place.
        """
        return await asyncio.to_thread(self._publish, source, self.path(file_name))

    def _publish(self, source: Path, target: Path) -> float:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            # nginx, under another user, must be able to read it.
            os.fchmod(descriptor, 0o644)
            published_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        source.rename(target)
        try:
            _fsync_folder(self.tracks)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return published_at

    def path(self, file_name: str) -> Path:
        """Return where a track's file is, or would be."""
        return self.tracks / file_name

    def exists(self, file_name: str, size_bytes: int) -> bool:
        """Return whether the file is there with this size."""
        try:
            return self.path(file_name).stat().st_size == size_bytes
        except OSError:
            return False

    async def delete(self, file_name: str) -> None:
        """Remove a track's file; missing is fine. A transfer under way keeps its open file."""
        await asyncio.to_thread(self.path(file_name).unlink, missing_ok=True)

    async def names(self, *, older_than_seconds: float) -> list[str]:
        """List the track files whose last change is older."""
        return await asyncio.to_thread(self._names, older_than_seconds)

    def _names(self, older_than_seconds: float) -> list[str]:
        limit = time.time() - older_than_seconds
        names = []
        with os.scandir(self.tracks) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False) and entry.stat().st_ctime < limit:
                        names.append(entry.name)
        return names

    def space(self) -> Space:
        """Ask the file system."""
        status = os.statvfs(self.folder)
        return Space(
            total_bytes=status.f_blocks * status.f_frsize,
            free_bytes=status.f_bavail * status.f_frsize,
        )


def _is_abandoned(folder: Path) -> bool:
    """Whether the instance that made this scratch folder is gone: nobody holds its lock."""
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # No lock yet: being made this instant, or half removed. Young ones get the benefit of the doubt.
        with contextlib.suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime > 3600
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
