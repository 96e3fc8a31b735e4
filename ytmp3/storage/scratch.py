"""Work in progress: one folder for each attempt at a conversion, below one folder for each instance.

Several instances may share the volume. Each instance holds a lock (`flock`) on a file in its own folder. The kernel
releases the lock when the process ends, so the sweep recognises the folders of dead instances.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

from ytmp3.core.ids import InstanceId
from ytmp3.storage import Space

UNLOCKED_SECONDS: Final = 3600.0
"""Age, in seconds, from which a folder without a lock file is removed. A younger one may belong to an instance that is
just starting."""


class Scratch:
    """The scratch folder of one instance, below `root`, on the file system of the tracks."""

    def __init__(self, root: Path, *, instance: InstanceId) -> None:
        self._root = root
        self._folder = root / instance
        self._lock: int | None = None

    async def open(self) -> None:
        """Create and lock the folder, and remove the folders of dead instances.

        Raises:
            OSError: a folder cannot be created or written.
        """
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        # Only this user needs access to unfinished files.
        for folder in (self._root, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._sweep()

    async def close(self) -> None:
        """Remove the folder with everything in it, and release the lock."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self.release_lock()

    def release_lock(self) -> None:
        """Release the lock, as the kernel does when the process dies. Any instance may then remove the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def sweep(self) -> None:
        """Remove the folders of instances that have died. The janitor calls this every SCRATCH_SECONDS."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for folder in self._root.iterdir():
            if folder != self._folder and folder.is_dir() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)

    async def new_folder(self, name: str) -> Path:
        """Create and return an empty folder for one attempt. The caller removes it with `remove`."""
        folder = self._folder / name
        # In a thread, because mkdir may block on the file system's journal while another track is being fsynced.
        await asyncio.to_thread(folder.mkdir, mode=0o700)
        return folder

    async def remove(self, folder: Path) -> None:
        """Remove an attempt's folder with everything in it. It is no error if it does not exist."""
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def space(self) -> Space:
        """Return the free space of the file system. This is one system call, which may block.

        Raises:
            OSError: the folder does not exist any more, or cannot be read.
        """
        status = os.statvfs(self._root)
        return Space(
            total_bytes=status.f_blocks * status.f_frsize,
            free_bytes=status.f_bavail * status.f_frsize,
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
