"""File names of downloads: a video's title becomes a `Content-Disposition` header that no title can spoil. Pure."""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from ytmp3.core.recipe import EXTENSIONS

MAX_NAME_BYTES: Final = 150
"""Longest file name, in UTF-8 with its extension. File systems allow 255 bytes; some tools and nested folders less."""
_MAX_STEM_BYTES: Final = MAX_NAME_BYTES - max(len(f".{extension}") for extension in EXTENSIONS)
_UNSAFE: Final = re.compile(r'["\\/:*?<>|%;\x00-\x1f\x7f-\x9f]')
"""Characters that separate paths, end a quoted string, or are forbidden in the file names of some systems."""


def content_disposition(title: str, extension: str) -> str:
    """Return the header for a download named after `title`: an ASCII name (RFC 6266) and one in UTF-8 (RFC 8187)."""
    name = _file_name(title)
    fallback = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    # Decomposing a character can make it longer, so the fallback is cut as well.
    fallback = re.sub(r"[^A-Za-z0-9 ._()&+,=@~!-]", "", fallback)[:_MAX_STEM_BYTES].strip(" .") or "track"
    return f"attachment; filename=\"{fallback}.{extension}\"; filename*=UTF-8''{quote(name, safe='')}.{extension}"


def _file_name(title: str) -> str:
    # Category C: control, format (bidirectional and zero-width too), surrogate, private and unassigned characters.
    visible = "".join(c for c in unicodedata.normalize("NFC", title) if unicodedata.category(c)[0] != "C" or c == "\t")
    name = re.sub(r"\s+", " ", _UNSAFE.sub(" ", visible)).strip(" .")
    name = name.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").strip(" .")
    return name or "track"
