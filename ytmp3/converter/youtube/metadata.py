"""Cleans the metadata of a video in the child process, before anything else of this service sees them. Pure.

A cleaned text has no control, format or surrogate character (so no CR, LF, bidirectional override or invisible
character), no run of spaces, and a bounded length. It is safe in a header, a log line, an ID3 frame and a terminal.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from ytmp3.core.job import Chapter, Metadata
from ytmp3.core.language import tag_of_track

MAX_TITLE_CHARACTERS: Final = 300
"""YouTube's own limit is 100; three times as many for scripts that need several code points for a character."""

MAX_NAME_CHARACTERS: Final = 200
"""Longest name of a channel, of the artists of a song, or of an album. A song may have a dozen artists."""
MAX_CHAPTERS: Final = 200
"""Most chapters; later ones are left out. A table of contents in ID3 has at most 255 (`audio/id3`)."""
MAX_CHAPTER_CHARACTERS: Final = 100
MAX_CHAPTERS_BYTES: Final = 8 * 1024
"""Longest titles of all chapters together, in bytes of UTF-8: every response about a job contains them."""
MAX_YEAR: Final = 9999
"""The field for the year has four digits in ID3."""
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
_UNTITLED_CHAPTER: Final = re.compile("<Untitled Chapter [0-9]+>")
"""yt-dlp's name of a chapter without a title."""
_SPACES: Final = re.compile(r"\s+")
_MAX_COMBINING: Final = 8
"""Most combining marks in a row: more than any script needs, too few to paint over the lines around the text."""


def clean_metadata(video: Mapping[str, object]) -> Metadata:
    """Return the metadata of a video that yt-dlp has extracted. Its values may have any type and content.

    Never raises.
    """
    return Metadata(
        title=clean_text(video.get("title"), MAX_TITLE_CHARACTERS) or UNTITLED,
        uploader=clean_text(_uploader_of(video), MAX_NAME_CHARACTERS) or None,
        duration_seconds=clean_duration(video.get("duration")),
        thumbnail_url=clean_thumbnail_url(video.get("thumbnail")),
        artist=clean_text(_artist_of(video), MAX_NAME_CHARACTERS) or None,
        track=clean_text(video.get("track"), MAX_TITLE_CHARACTERS) or None,
        album=clean_text(video.get("album"), MAX_NAME_CHARACTERS) or None,
        release_year=_clean_year(video.get("release_year")),
        audio_language=tag_of_track(video.get("language")),
        chapters=_clean_chapters(_found_chapters(video)),
    )


def next_chapter_seconds(video: Mapping[str, object]) -> float | None:
    """Return where the first chapter begins that is not in the metadata, in seconds; None if all are.

    Never raises.
    """
    left_out = _found_chapters(video)[MAX_CHAPTERS:]
    return round(left_out[0][0], 3) if left_out else None


def _uploader_of(video: Mapping[str, object]) -> object:
    """Return the name of the channel.

    YouTube makes channels for artists who have none, and calls them "NAME - Topic". There the name is NAME.
    """
    name = video.get("uploader") or video.get("channel")
    return name.removesuffix(_TOPIC) if isinstance(name, str) else name


def _artist_of(video: Mapping[str, object]) -> object:
    """Return the artists that YouTube Music names, each once, as one text."""
    artists = video.get("artists")
    if not isinstance(artists, list | tuple):
        return video.get("artist")
    names = (clean_text(each, MAX_NAME_CHARACTERS) for each in artists[:MAX_NAME_CHARACTERS])
    return ", ".join(dict.fromkeys(filter(None, names)))


def _clean_year(value: object) -> int | None:
    is_year = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_YEAR
    return value if isinstance(value, int) and is_year else None


def _found_chapters(video: Mapping[str, object]) -> list[tuple[float, object]]:
    """Return the starts and titles of all chapters. The starts grow strictly, and are before the end of the video."""
    value, duration = video.get("chapters"), clean_duration(video.get("duration"))
    duration_seconds = MAX_ANNOUNCED_SECONDS if duration is None else duration
    found: list[tuple[float, object]] = []
    for each in value if isinstance(value, list | tuple) else ():
        start = each.get("start_time") if isinstance(each, Mapping) else None
        if isinstance(start, bool) or not isinstance(start, int | float) or not math.isfinite(start):
            continue
        if (found[-1][0] if found else -1.0) < start < duration_seconds and start >= 0:
            found.append((float(start), each.get("title")))
    return found


def _clean_chapters(found: Sequence[tuple[float, object]]) -> tuple[Chapter, ...]:
    """Return the first MAX_CHAPTERS chapters. A single one says nothing, so it is left out."""
    if len(found) < 2:
        return ()
    longest = MAX_CHAPTERS_BYTES // min(len(found), MAX_CHAPTERS)
    return tuple(
        Chapter(start_seconds=round(start, 3), title=_chapter_title(title, number, longest))
        for number, (start, title) in enumerate(found[:MAX_CHAPTERS], 1)
    )


def _chapter_title(title: object, number: int, max_bytes: int) -> str:
    cleaned = clean_text(title, MAX_CHAPTER_CHARACTERS).encode()[:max_bytes].decode(errors="ignore").strip()
    # Where YouTube's first chapter begins later, yt-dlp adds one before it.
    return cleaned if cleaned and not _UNTITLED_CHAPTER.fullmatch(cleaned) else f"Chapter {number}"


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
