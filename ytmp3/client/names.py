"""The file name of a track, from the response of the service. Pure.

The name comes from a video's title and from another machine, so it is not trusted: the result never contains a path,
never begins with a dot, and is never longer than a file system allows.
"""

import re
from typing import Final
from urllib.parse import unquote

MAX_NAME_BYTES: Final = 200
"""Longest file name, in bytes of UTF-8. File systems allow 255; the rest is reserved for `.part` and a number."""
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]')
"""Control and text-direction characters, path separators, and characters that Windows does not allow."""


def track_name(disposition: str, fallback: str) -> str:
    """Return the name that a Content-Disposition suggests, or `fallback` if it suggests none. Both are made safe."""
    extended = re.search(r"filename\*=UTF-8''([^;]+)", disposition, re.IGNORECASE)
    quoted = re.search(r'filename="((?:[^"\\]|\\.)*)"', disposition)
    if extended is not None:
        name = unquote(extended[1], errors="replace")
    else:
        name = "" if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    name, fallback = _safe(name), _safe(fallback)
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem.strip("_. "):
        return fallback
    room = MAX_NAME_BYTES - len(extension.encode()) - 1
    if room < MAX_NAME_BYTES // 2:
        return fallback
    return f"{stem.encode()[:room].decode(errors='ignore').rstrip()}.{extension}"


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name).strip().lstrip(".-").strip()


def with_position(name: str, number: int, total: int) -> str:
    """Return the name with the position of the track before it, with as many digits as the last one: "03 Song.mp3"."""
    return f"{number:0{len(str(total))}d} {name}"


def numbered(name: str, number: int) -> str:
    """Return the name for another track of the same title: "Song (2).mp3"."""
    stem, _, extension = name.rpartition(".")
    return name if number == 1 else f"{stem} ({number}).{extension}"
