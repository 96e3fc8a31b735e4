"""Locks of files (flock). The lock of a killed process is free at once. Blocking."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.05


def locked(path: Path, how: int) -> int:
    """Open and lock a file. Returns the descriptor. Raises OSError."""
    # On NFS, an exclusive lock needs a file that is open for writing (flock(2)).
    mode = os.O_RDWR if how & fcntl.LOCK_EX else os.O_RDONLY
    descriptor = os.open(path, mode | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def locked_within(seconds: float, path: Path) -> int:
    """Lock a file for this process alone, as soon as it is free. Returns the descriptor.

    Raises:
        BlockingIOError: another process has held the lock for `seconds`.
        OSError: the file cannot be opened.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_SECONDS)
