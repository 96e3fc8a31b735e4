"""File names of downloads: a video's title becomes a `Content-Disposition` header that no title can spoil. Pure.

The header has two names (RFC 6266): `filename*` in UTF-8, which browsers take, and `filename` in ASCII, which curl
takes. Where too little of a title is left in ASCII, the second one is the video's id: then two songs with Japanese
titles do not get one name.
"""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from ytmp3.core.ids import VideoId
from ytmp3.core.recipe import EXTENSIONS

MAX_NAME_BYTES: Final = 150
"""Longest file name, in UTF-8 with its extension. File systems allow 255 bytes; some tools and nested folders less."""
_MAX_STEM_BYTES: Final = MAX_NAME_BYTES - max(len(f".{extension}") for extension in EXTENSIONS)
_UNSAFE: Final = re.compile(r'["\\/:*?<>|%;\x00-\x1f\x7f-\x9f]')
"""Characters that separate paths, end a quoted string, or are forbidden in the file names of some systems."""
_NOT_ASCII_SAFE: Final = re.compile(r"[^A-Za-z0-9 ._()&+,=@~!-]")
_LEADING: Final = " .-"
"""A file whose name begins with a dot is hidden, and commands take one that begins with a dash for an option."""
_RESERVED: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|\Z)", re.IGNORECASE
)
"""Names of devices on Windows, where they cannot be names of files, with any extension."""


def content_disposition(title: str, video_id: VideoId, extension: str) -> str:
    """Return the header for a download that is named after `title`, or after the id where that fails."""
    name = _file_name(title)
    fallback = _ascii_name(name) or _finished(video_id)
    return (
        f'attachment; filename="{fallback}.{extension}"; '
        f"filename*=UTF-8''{quote(name or fallback, safe='')}.{extension}"
    )


def _file_name(title: str) -> str:
    """Return the name in Unicode; empty if nothing of the title can be part of a name."""
    # Category C: control, format (bidirectional and zero-width too), surrogate, private and unassigned characters.
    visible = "".join(c for c in unicodedata.normalize("NFC", title) if unicodedata.category(c)[0] != "C" or c == "\t")
    return _finished(re.sub(r"\s+", " ", _UNSAFE.sub(" ", visible)).lstrip(_LEADING))


def _ascii_name(name: str) -> str:
    """Return the name in ASCII; empty if less than half of its letters and digits are left."""
    decomposed = unicodedata.normalize("NFKD", name)
    ascii_name = _NOT_ASCII_SAFE.sub("", decomposed.encode("ascii", "ignore").decode())
    kept = sum(map(str.isalnum, ascii_name))
    if kept == 0 or 2 * kept < sum(map(str.isalnum, decomposed)):
        return ""
    return _finished(re.sub(r" +", " ", ascii_name).lstrip(_LEADING))


def _finished(name: str) -> str:
    """Cut a name to its longest length, and give one that must not stand alone an underscore at its beginning."""
    if name.startswith("-") or _RESERVED.match(name):
        name = f"_{name}"
    return name.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").rstrip(" .")
