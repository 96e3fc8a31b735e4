"""Random bytes that all instances with the same data folder share. The first instance creates the file."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""Errors of a file system that has no hard links."""


def shared_secret(path: Path, candidate: bytes) -> bytes:
    """Return the secret in the file `path`. If the file does not exist, create it with `candidate`. Blocks.

    If several instances start at once, all get the same secret: the file is written under another name first, and then
    linked to `path` if that does not exist. This step is atomic on network file systems too. FAT and some others have
    no links: there the file is created under its own name. Only the service's user can read it, where modes exist.

    Raises:
        OSError: the file cannot be read or created.
        ValueError: its length differs from that of `candidate`. Without links, it may be about to be written.
    """
    with contextlib.suppress(FileNotFoundError):
        return _read(path, len(candidate))
    draft = path.with_name(f".{path.name}-{os.getpid()}-{candidate[:4].hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(candidate)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _create(path, candidate)
    finally:
        draft.unlink()
    return _read(path, len(candidate))


def _create(path: Path, content: bytes) -> None:
    """Create the file, unless it exists. A crash in the middle leaves a file that is too short."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path, length: int) -> bytes:
    secret = path.read_bytes()
    if len(secret) != length:
        raise ValueError(f"expected {length} bytes; remove the file, and a new one is made")
    return secret
