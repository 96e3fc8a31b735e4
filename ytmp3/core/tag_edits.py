"""The tags that a client chooses for a track. They change no sound, so they are no part of a recipe. Pure."""

import unicodedata
from typing import Final

from msgspec import Struct

MAX_TEXT_CHARACTERS: Final = 200
"""Longest text. The converter leaves free space for three of them in each track (`converter/audio/tags`)."""

# Zero-width joiner and non-joiner have a meaning (emoji, Persian, Indic scripts).
_JOINERS: Final = "\u200c\u200d"
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, invisible characters (such as those that reverse the direction of text), lone surrogates, and
separators of lines and paragraphs. The texts are also used in file names, playlists and feeds, where these characters
would do harm."""
MAX_TRACK_NUMBER: Final = 9999
"""Largest track number. A file of MP4 has two bytes for it, and no album has more tracks."""


class TagEdits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tags that a client has chosen for the track of its job. None keeps the tag that the converter wrote."""

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    cover: bool = True
    """Whether the track has its cover."""
    track_number: int | None = None
    """The position of the track in its album, from 1."""
    track_total: int | None = None
    """The number of tracks of the album. Only together with `track_number`."""

    @property
    def position(self) -> str | None:
        """The position in the form of ID3, `3/12` or `3`; None without a number."""
        if self.track_number is None:
            return None
        return f"{self.track_number}" if self.track_total is None else f"{self.track_number}/{self.track_total}"


NO_EDITS: Final = TagEdits()


class BatchTags(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tags that a client has chosen for all tracks of a batch. The tags of an item take precedence."""

    artist: str | None = None
    album: str | None = None
    cover: bool = True
    """Whether the tracks have their covers."""
    track_numbers: bool = False
    """Whether each track gets its position in the batch as track number, and the number of items as total."""

    def of_item(self, own: TagEdits | None, number: int, total: int) -> TagEdits | None:
        """Return the tags of an item: its own ones, with those of the batch in place of missing ones.

        `number` is the position of the item in the batch, from 1, and `total` the number of items.
        """
        own = own or NO_EDITS
        is_numbered = self.track_numbers and own.track_number is None and total <= MAX_TRACK_NUMBER
        edits = TagEdits(
            title=own.title,
            artist=own.artist or self.artist,
            album=own.album or self.album,
            cover=own.cover and self.cover,
            track_number=number if is_numbered else own.track_number,
            track_total=total if is_numbered else own.track_total,
        )
        return None if edits == NO_EDITS else edits


NO_BATCH_TAGS: Final = BatchTags()


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


def text_of(text: str) -> str | None:
    """Return a text of YouTube in the form that `clean_text` accepts, or None if nothing is left of it."""
    kept = "".join(each for each in text if each in _JOINERS or unicodedata.category(each) not in _FORBIDDEN_CATEGORIES)
    return unicodedata.normalize("NFC", kept.strip())[:MAX_TEXT_CHARACTERS].strip() or None
