"""File names of downloads: makes a safe `Content-Disposition` header from any video title. Pure.

The header has two names (RFC 6266): `filename*` in UTF-8, which browsers use, and `filename` in ASCII, which curl uses.
If too few characters of a title are ASCII, `filename` is the video's id, so that two songs with Japanese titles do not
get the same name.
"""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from ytmp3.core.ids import VideoId
from ytmp3.core.recipe import EXTENSIONS

MAX_NAME_BYTES: Final = 150
"""Longest file name, in bytes of UTF-8, with its extension. File systems allow 255 bytes, but some tools fewer."""
_MAX_STEM_BYTES: Final = MAX_NAME_BYTES - max(len(f".{extension}") for extension in EXTENSIONS)
_UNSAFE: Final = re.compile(r'["\\/:*?<>|%;\x00-\x1f\x7f-\x9f]')
"""Characters that separate paths, end a quoted string, or are forbidden in the file names of some systems."""
_NOT_ASCII_SAFE: Final = re.compile(r"[^A-Za-z0-9 ._()&+,=@~!-]")
_LEADING: Final = " .-"
"""Characters that must not begin a file name: a dot hides the file, and commands take a dash for an option."""
_RESERVED: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|\Z)", re.IGNORECASE
)
"""Device names of Windows, which are not allowed as file names there, with any extension."""


def content_disposition(title: str, video_id: VideoId, extension: str) -> str:
    """Return the header for a download that is named after `title`, or after the id if the title gives no name."""
    name = _file_name(title)
    fallback = _ascii_name(name) or _finished(video_id)
    return (
        f'attachment; filename="{fallback}.{extension}"; '
        f"filename*=UTF-8''{quote(name or fallback, safe='')}.{extension}"
    )


def archive_name(number: int, digits: int, title: str, video_id: VideoId, extension: str) -> str:
    """Return the name of a track in an archive: its number, so that names are unique and in order, and its title."""
    return f"{number:0{digits}d} {_file_name(title) or _finished(video_id)}.{extension}"


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
    """Shorten a name to the maximum length, and put an underscore before a reserved name or a leading dash."""
    if name.startswith("-") or _RESERVED.match(name):
        name = f"_{name}"
    return name.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").rstrip(" .")
