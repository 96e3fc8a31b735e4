"""JSON files of the folder of releases: a reader finds the old content or the new one, also after a crash. Blocking."""

import os
import tempfile
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from ytmp3.file_sync import sync_folder

_MAX_BYTES: Final = 4 * 2**20
"""Most of a file that is read. A manifest has 0.1 MB."""

_T = TypeVar("_T")


def read_json(path: Path, kind: type[_T]) -> _T:
    """Return the content of a file. Raises OSError, MsgspecError, UnicodeDecodeError."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES)
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def replace_json(path: Path, value: Struct, *, prefix: str) -> None:
    """Replace the content of a file, or make it. The file is readable for everybody.

    A caller that is killed leaves a file whose name begins with `prefix`, or none.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(value) + b"\n")
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
