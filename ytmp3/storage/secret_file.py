"""A secret that all instances with the same data folder share. The first instance creates it."""

import contextlib
import os
from pathlib import Path


def shared_secret(path: Path, candidate: bytes) -> bytes:
    """Return the secret in the file `path`. If the file does not exist, create it with `candidate`. Blocks.

    If several instances start at once, all get the same secret: the file is written under another name first, and then
    linked to `path` if that does not exist. This step is atomic on network file systems too. Only the service's user
    can read the file.

    Raises:
        OSError: the file cannot be read or created.
        ValueError: its length differs from that of `candidate`.
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
