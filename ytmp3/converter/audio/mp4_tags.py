"""Makes the tags of an MP4 file, in the form of iTunes, which players read (`moov/udta/meta/ilst`). Pure.

Chapters are in Nero's form (`moov/udta/chpl`), which ffmpeg, VLC and most players read. Apple's players do not; for
them, `mp4_chapters` adds a text track.

Source: the box tables of mp4ra.org; QuickTime File Format, "User Data Atoms"; ffmpeg's `mov_read_chpl`.
"""

from typing import Final

from ytmp3.converter.audio.mp4 import box_of
from ytmp3.converter.audio.tags import PADDING_BYTES, Tags
from ytmp3.core.job import Chapter

_TEXT: Final = 1
_JPEG: Final = 13
"""Kinds of values."""
_HANDLER: Final = bytes(8) + b"mdirappl" + bytes(9)
"""Says that the tags are in the form of iTunes: version, kind and maker, and an empty name."""

_TICKS: Final = 10_000_000
"""Units of a chapter's start in a second."""
_MAX_TITLE_BYTES: Final = 255
"""Longest title of a chapter: its length is one byte."""


def mp4_tags(tags: Tags) -> bytes:
    """Return the `udta` box."""
    texts = (
        (b"\xa9nam", tags.title),
        (b"\xa9ART", tags.artist),
        (b"\xa9alb", tags.album),
        (b"\xa9day", tags.year),
        (b"\xa9cmt", tags.link),
    )
    items = [_text(name, str(text)) for name, text in texts if text]
    items.extend(_free_text(name.lower(), value) for name, value in tags.replaygain.items())
    if tags.cover:
        items.append(_item(b"covr", _JPEG, tags.cover))
    parts = (box_of(b"hdlr", _HANDLER), box_of(b"ilst", b"".join(items)), box_of(b"free", bytes(PADDING_BYTES)))
    return box_of(b"udta", box_of(b"meta", bytes(4) + b"".join(parts)) + _chapter_list(tags.chapters))


def _chapter_list(chapters: tuple[Chapter, ...]) -> bytes:
    """Return the box with the chapters; nothing if there are none."""
    if not chapters:
        return b""
    rows = []
    for chapter in chapters:
        title = chapter.title.encode()[:_MAX_TITLE_BYTES].decode(errors="ignore").encode()
        rows.append(round(_TICKS * chapter.start_seconds).to_bytes(8) + bytes([len(title)]) + title)
    return box_of(b"chpl", b"\1" + bytes(7) + bytes([len(rows)]) + b"".join(rows))


def _free_text(name: str, text: str) -> bytes:
    """Return a tag that has a name instead of a kind, as iTunes writes it."""
    inner = box_of(b"mean", bytes(4) + b"com.apple.iTunes") + box_of(b"name", bytes(4) + name.encode("ascii"))
    value = box_of(b"data", _TEXT.to_bytes(4) + bytes(4) + text.encode("ascii"))
    return box_of(b"----", inner + value)


def _text(name: bytes, text: str) -> bytes:
    return _item(name, _TEXT, text.encode("utf-8", "replace"))


def _item(name: bytes, kind: int, value: bytes) -> bytes:
    return box_of(name, box_of(b"data", kind.to_bytes(4) + bytes(4) + value))
