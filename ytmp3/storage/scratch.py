"""Work in progress: one folder for each attempt at a conversion, below one folder for each instance.

Several instances may share the volume. Each instance holds a lock (`flock`) on a file in its own folder. The kernel
releases the lock when the process ends, so the sweep recognises the folders of dead instances.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

from ytmp3.core.ids import InstanceId
from ytmp3.storage import Space
from ytmp3.threads import Threads

UNLOCKED_SECONDS: Final = 3600.0
"""Age, in seconds, from which a folder without a lock file is removed. A younger one may belong to an instance that is
just starting."""
WRITERS: Final = 8
"""Threads that make and remove the folders of attempts."""
PROBE_BYTES: Final = 4096
"""Size of the file that the check of the disk writes, in bytes: one block of most file systems."""

log = logging.getLogger(__name__)


class Scratch:
    """The scratch folder of one instance, below `root`, on the file system of the tracks."""

    def __init__(self, root: Path, *, instance: InstanceId, reserve_bytes: int = 0) -> None:
        """`reserve_bytes` is the operator's reserve of free space (see `Space`)."""
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._folder = root / instance
        self._lock: int | None = None
        self._device = 0
        """The file system of the data folder at the start."""
        self._lasting: list[Path] = []
        """Folders that exist as long as this instance."""
        self.writers = Threads("scratch", WRITERS)

    async def open(self) -> None:
        """Create and lock the folder, and remove the folders of dead instances.

        Raises:
            OSError: a folder cannot be created or written.
        """
        await self.writers.run(self._open)

    def _open(self) -> None:
        self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._device = self._root.parent.stat().st_dev
        self._make_folders()
        self._sweep()

    def _make_folders(self) -> None:
        # Only this user needs access to unfinished files.
        for folder in (self._root, self._folder, *self._lasting):
            folder.mkdir(mode=0o700, exist_ok=True)
        # The file gets its name once it is locked. Otherwise the sweep of another instance could find it unlocked, and
        # remove the folder of an instance that starts at the same moment.
        unnamed = self._folder / ".lock.new"
        lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.replace(self._folder / ".lock")
        except OSError:
            os.close(lock)
            raise
        self.release_lock()
        self._lock = lock

    async def close(self) -> None:
        """Remove the folder with everything in it, and release the lock."""
        await self.writers.run(shutil.rmtree, self._folder, ignore_errors=True)
        self.release_lock()

    def release_lock(self) -> None:
        """Release the lock, as the kernel does when the process dies. Any instance may then remove the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def sweep(self) -> None:
        """Remove the folders of instances that have died. The janitor calls this every SCRATCH_SECONDS."""
        await self.writers.run(self._sweep)

    def _sweep(self) -> None:
        for folder in self._root.iterdir():
            if folder != self._folder and folder.is_dir() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)

    async def new_folder(self, name: str) -> Path:
        """Create and return an empty folder for one attempt. The caller removes it with `remove`."""
        folder = self._folder / name
        await self.writers.run(folder.mkdir, mode=0o700)
        return folder

    async def lasting_folder(self, name: str) -> Path:
        """Create and return a folder that stays until `close`. If it disappears, the check of the disk remakes it."""
        folder = await self.new_folder(name)
        self._lasting.append(folder)
        return folder

    async def remove(self, folder: Path) -> None:
        """Remove an attempt's folder with everything in it. It is no error if it does not exist.

        If the caller is cancelled, the removal continues.
        """
        await asyncio.shield(self.writers.run(shutil.rmtree, folder, ignore_errors=True))

    def write_probe(self) -> Path:
        """Write a small file durably, as an attempt does, and return its path. Blocks.

        If the folder of this instance has disappeared, it is made again: a tidy operator or a cleaner of temporary
        files may have removed it. The data folder itself is not: without it, the volume is most likely not mounted.

        Raises:
            OSError: the disk is read-only, full, failing or gone.
        """
        if not self._is_complete():
            if self._root.parent.stat().st_dev != self._device:
                raise OSError(errno.ENODEV, "another disk is there than at the start: is the volume mounted?")
            self._make_folders()
            log.error("the scratch folder was missing, and is made again", extra={"folder": str(self._folder)})
        path = self._folder / f"probe-{self._folder.name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, bytes(PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return path

    def _is_complete(self) -> bool:
        """Return whether all folders exist, and the lock is on the file that other instances look at."""
        if self._lock is None or not all(folder.is_dir() for folder in self._lasting):
            return False
        try:
            return os.path.samestat(os.fstat(self._lock), (self._folder / ".lock").stat())
        except FileNotFoundError:
            return False

    def space(self) -> Space:
        """Return the free space of the file system. Blocks.

        Raises:
            OSError: the folder does not exist any more, or cannot be read.
        """
        status = os.statvfs(self._root)
        return Space(
            total_bytes=status.f_blocks * status.f_frsize,
            free_bytes=status.f_bavail * status.f_frsize,
            set_reserve_bytes=self._reserve_bytes,
        )


def _is_abandoned(folder: Path) -> bool:
    """Return whether the instance of this folder has ended: its lock is free."""
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime > UNLOCKED_SECONDS
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
