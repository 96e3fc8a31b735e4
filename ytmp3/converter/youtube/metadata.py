"""Cleans the metadata of a video in the child process, before anything else of this service sees them. Pure.

A cleaned text has no control, format or surrogate character (so no CR, LF, bidirectional override or invisible
character), no run of spaces, and a bounded length. It is safe in a header, a log line, an ID3 frame and a terminal.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from ytmp3.core.job import Metadata

MAX_TITLE_CHARACTERS: Final = 300
"""YouTube's own limit is 100; three times as many for scripts that need several code points for a character."""

MAX_UPLOADER_CHARACTERS: Final = 200
MAX_URL_CHARACTERS: Final = 500
MAX_ANNOUNCED_SECONDS: Final = 10 * 365 * 86400.0
"""Longest duration that is accepted: longer than any video, and small enough for any calculation."""

UNTITLED: Final = "Untitled"
"""Title of a video whose title is missing or has no character left."""

# Any scheme, because the address of an egress proxy may be socks5h://, with a password. The scheme's length is bounded,
# or this pattern would take quadratic time on hostile text.
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,19}://)(?:[^/\s\"'?#]*@)?([^/\s\"'?#]*)[^\s\"']*")
_THUMBNAIL: Final = re.compile(r"https://[a-z0-9]+\.(?:ytimg|ggpht)\.com/[A-Za-z0-9_./%?&=;:,+~-]*", re.ASCII)
# Zero-width joiner and non-joiner have a meaning (emoji, Persian, Indic scripts); other format characters are removed.
_JOINERS: Final = "\u200c\u200d"
_UNWANTED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_TOPIC: Final = " - Topic"
_SPACES: Final = re.compile(r"\s+")
_MAX_COMBINING: Final = 8
"""Most combining marks in a row: more than any script needs, too few to paint over the lines around the text."""


def clean_metadata(*, title: object, uploader: object, duration: object, thumbnail_url: object) -> Metadata:
    """Return the metadata of a video, made from values of any type and content. Never raises."""
    return Metadata(
        title=clean_text(title, MAX_TITLE_CHARACTERS) or UNTITLED,
        uploader=clean_text(uploader, MAX_UPLOADER_CHARACTERS) or None,
        duration_seconds=clean_duration(duration),
        thumbnail_url=clean_thumbnail_url(thumbnail_url),
    )


def artist_of(video: Mapping[str, object]) -> object:
    """Return the artist that YouTube Music names, or else the name of the channel.

    YouTube makes channels for artists who have none, and calls them "NAME - Topic". There the artist is NAME.
    """
    name = video.get("artist") or video.get("uploader") or video.get("channel")
    return name.removesuffix(_TOPIC) if isinstance(name, str) else name


def clean_text(text: object, max_characters: int) -> str:
    """Return `text` cleaned and cut to `max_characters`. Empty if it is not a string or no character is left."""
    if not isinstance(text, str):
        return ""
    # Ten times the characters are normalized: that bounds the work, and leaves enough when composing shortens the text.
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
    """Return `url` if it is a plain https address on one of YouTube's picture hosts, None otherwise."""
    if isinstance(url, str) and len(url) <= MAX_URL_CHARACTERS and _THUMBNAIL.fullmatch(url):
        return url
    return None


def without_queries(text: str) -> str:
    """Return a message of yt-dlp with every address cut to its host, for the log.

    The query of a media address is a key to the media, and the address of a proxy may hold a password.
    """
    return _ADDRESS.sub(r"\1\2/...", text)
