"""The tags that a client chooses for a track. They change no sound, so they are no part of a recipe. Pure."""

import unicodedata
from typing import Final

from msgspec import Struct

MAX_TEXT_CHARACTERS: Final = 200
"""Longest text. The converter leaves room for three of them in each track (`converter/audio/tags`)."""

# Zero-width joiner and non-joiner have a meaning (emoji, Persian, Indic scripts).
_JOINERS: Final = "\u200c\u200d"
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, invisible characters (such as those that reverse the direction of text), lone surrogates, and
separators of lines and paragraphs. The texts are also used in file names, playlists and feeds, where these characters
would do harm."""


class TagEdits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tags that a client has chosen for the track of its job. None keeps the tag that the converter wrote."""

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    cover: bool = True
    """Whether the track has its cover."""


def clean_text(text: str) -> str:
    """Return a text of a client without white space around it.

    Raises:
        ValueError: it is empty or too long, or has a forbidden character.
    """
    cleaned = unicodedata.normalize("NFC", text.strip())
    if not 0 < len(cleaned) <= MAX_TEXT_CHARACTERS:
        raise ValueError("empty or too long")
    if any(unicodedata.category(each) in _FORBIDDEN_CATEGORIES and each not in _JOINERS for each in cleaned):
        raise ValueError("a control character")
    return cleaned
