"""A secret that all instances with one data folder share. The first one to start makes it."""

import contextlib
import os
from pathlib import Path


def shared_secret(path: Path, candidate: bytes) -> bytes:
    """Return the secret in the file `path`; if there is none yet, make it of `candidate`. Blocks.

    When several instances start at once, all get the same secret: it is written under another name first, and a link to
    it is made only if the name is free, in one step that network file systems keep as well. Only the service's user can
    read the file.

    Raises:
        OSError: the file cannot be read or made.
        ValueError: it has another length than `candidate`.
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
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return _read(path, len(candidate))


def _read(path: Path, length: int) -> bytes:
    secret = path.read_bytes()
    if len(secret) != length:
        raise ValueError(f"expected {length} bytes; remove the file, and a new one is made")
    return secret
