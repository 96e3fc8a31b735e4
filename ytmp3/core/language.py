"""Languages of a video's sound: BCP 47 tags, and which of YouTube's audio tracks a tag names. Pure.

YouTube offers some videos in several languages: the original, and dubbed tracks. It names them by tags such as `de`,
`en-US`, `es-419` or `zh-Hans`.
"""

import re
from typing import Final, NewType

from ytmp3.core.spellings import in_any_case, one_of

Language = NewType("Language", str)
"""ORIGINAL, or a BCP 47 tag in its canonical spelling."""

ORIGINAL: Final = Language("original")
"""The language in which the video was made. The client does not have to know it."""

MAX_CHARACTERS: Final = 35
"""Longest value, in characters. RFC 5646 (section 4.4.1) recommends this size; the tags of YouTube are shorter."""

_SCRIPT: Final = "(?:[-_][A-Za-z]{4})?"
_REGION: Final = "(?:[-_](?:[A-Za-z]{2}|[0-9]{3}))?"
_VARIANTS: Final = "(?:[-_](?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
LANGUAGE_PATTERN: Final = one_of(
    (
        in_any_case(ORIGINAL),
        f"[A-Za-z]{{2,3}}{_SCRIPT}{_REGION}{_VARIANTS}",
    )
)
"""The values: ORIGINAL, or language, script, region, variants (RFC 5646, section 2.1). Extensions are not accepted,
because they describe no difference in spoken sound."""

_TEXT: Final = re.compile(LANGUAGE_PATTERN)
_MODERN: Final = {"iw": "he", "in": "id", "ji": "yi", "mo": "ro"}
"""Old codes that clients and YouTube still use, with those of the registry of language subtags (IANA)."""
_DESCRIPTION: Final = "-desc"
"""How yt-dlp ends the tag of an audio description, which tells blind people what can be seen."""


def parse_language(value: object) -> Language | None:
    """Return the language for a value from a client; None if the value is invalid, and the caller refuses it then.

    Tags are accepted in any case, with `_` for `-`, and with white space around them.
    """
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or not _TEXT.fullmatch(value):
        return None
    return Language(_canonical(value.strip()))


def tag_of_track(tag: object) -> Language | None:
    """Return the canonical tag of an audio track, given yt-dlp's; None if it has none, or is an audio description."""
    if not isinstance(tag, str) or tag.lower().endswith(_DESCRIPTION):
        return None
    return parse_language(tag)


def closeness(wanted: Language, tag: str | None) -> int:
    """Return how well the track with this tag fits a wanted language: a higher number is better, and 0 is no fit.

    `de` fits a track `de-DE`, because any German is wanted. `de-AT` fits a track `de`, which may be the German of any
    country, but not a track `de-DE` (RFC 4647, sections 3.3.1 and 3.4).
    """
    if tag is None:
        return 0
    if tag == wanted:
        return 3
    if tag.startswith(f"{wanted}-"):
        return 2
    return 1 if wanted.startswith(f"{tag}-") else 0


def _canonical(tag: str) -> str:
    """Return a tag in the upper and lower case of RFC 5646, section 2.1.1, with the language's code of today."""
    first, *others = tag.lower().replace("_", "-").split("-")
    spelled = (
        part.title() if len(part) == 4 and part.isalpha() else part.upper() if len(part) == 2 else part
        for part in others
    )
    return "-".join((_MODERN.get(first, first), *spelled))
