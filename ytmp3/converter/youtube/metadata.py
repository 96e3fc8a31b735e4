"""What YouTube says of a video, made harmless where it enters: the only door for a title into this service.

Pure. After `clean_text` a text has no control, format or surrogate character (so no CR, LF, bidi override or invisible
one), no run of spaces, and a bounded length: safe in a header, a log line, an ID3 frame and a terminal.
"""

import math
import re
import unicodedata
from typing import Final

from ytmp3.core.job import Metadata

MAX_TITLE_CHARACTERS: Final = 300
"""YouTube's own limit is 100; three times that for composed scripts."""

MAX_UPLOADER_CHARACTERS: Final = 200
MAX_URL_CHARACTERS: Final = 500
MAX_ANNOUNCED_SECONDS: Final = 10 * 365 * 86400.0
"""Beyond any real video, and far from where arithmetic with it would hurt."""

UNTITLED: Final = "Untitled"

# Any scheme: an egress proxy's may be socks5h, with a password. Its length is bounded: the text is a stranger's.
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,19}://)(?:[^/\s\"'?#]*@)?([^/\s\"'?#]*)[^\s\"']*")
_THUMBNAIL: Final = re.compile(r"https://[a-z0-9]+\.(?:ytimg|ggpht)\.com/[A-Za-z0-9_./%?&=;:,+~-]*", re.ASCII)
# Zero-width joiner and non-joiner carry meaning (emoji, Persian, Indic); every other format character goes.
_JOINERS: Final = "\u200c\u200d"
_UNWANTED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_SPACES: Final = re.compile(r"\s+")
_MAX_COMBINING: Final = 8
"""Marks in a row: more than any script stacks, far less than a text that paints over its neighbours."""


def clean_metadata(*, title: object, uploader: object, duration: object, thumbnail_url: object) -> Metadata:
    """Return the metadata of a video from values of any type and content."""
    return Metadata(
        title=clean_text(title, MAX_TITLE_CHARACTERS) or UNTITLED,
        uploader=clean_text(uploader, MAX_UPLOADER_CHARACTERS) or None,
        duration_seconds=clean_duration(duration),
        thumbnail_url=clean_thumbnail_url(thumbnail_url),
    )


def clean_text(text: object, max_characters: int) -> str:
    """Return `text` harmless, at most `max_characters` long; empty if it is no text or nothing is left of it."""
    if not isinstance(text, str):
        return ""
    # Ten times the room before normalisation bounds the work; NFC can only shorten what we keep afterwards.
    composed = unicodedata.normalize("NFC", _SPACES.sub(" ", text[: max_characters * 10]))
    kept = "".join(_harmless(composed))
    return _SPACES.sub(" ", kept)[:max_characters].strip().strip(_JOINERS).strip()


def _harmless(text: str) -> list[str]:
    kept: list[str] = []
    marks = 0
    for character in text:
        if character in _JOINERS:
            kept.append(character)
            continue
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if category in _UNWANTED_CATEGORIES or marks > _MAX_COMBINING:
            continue
        kept.append(" " if category in {"Zl", "Zp", "Zs"} else character)
    return kept


def clean_duration(value: object) -> float | None:
    """Return a positive, finite number of seconds, or None where the video announces none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or not 0 < value <= MAX_ANNOUNCED_SECONDS:
        return None
    return float(value)


def clean_thumbnail_url(url: object) -> str | None:
    """Return `url` if it is a plain https address of YouTube's picture hosts."""
    if isinstance(url, str) and len(url) <= MAX_URL_CHARACTERS and _THUMBNAIL.fullmatch(url):
        return url
    return None


def without_queries(text: str) -> str:
    """Return a tool's words with every address cut to its host: media addresses are keys to the media."""
    return _ADDRESS.sub(r"\1\2/...", text)
