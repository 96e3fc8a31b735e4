"""Writes an ID3v2.3 tag: texts, loudness, link, chapters and cover. Pure.

Sources: id3.org, id3v2.3.0, and its addendum id3v2-chapters-1.0.

The tag is of version 2.3 with UTF-16, because all players can read that; some cannot read version 2.4 with UTF-8.
Chapters are written with a table of contents (CTOC), without which some podcast apps show none.
"""

from collections.abc import Iterator
from typing import Final

from ytmp3.converter.audio.tags import PADDING_BYTES, Tags
from ytmp3.core.job import Chapter

_UTF16: Final = b"\x01"
_LATIN1: Final = b"\x00"
_FRONT_COVER: Final = b"\x03"
_ORDERED_AT_TOP: Final = b"\x03"
"""The flags of the only table of contents: it is at the top level, and its chapters are in order."""
_BY_TIME: Final = b"\xff" * 8
"""In place of a chapter's first and last byte: readers use its times."""


def id3v2_tag(tags: Tags) -> bytes:
    """Return the tag, which goes before the first frame."""
    texts = (("TIT2", tags.title), ("TPE1", tags.artist), ("TALB", tags.album), ("TYER", tags.year))
    frames = [_text_frame(name, str(text)) for name, text in texts if text]
    named = (f"{name}\0{value}".encode("ascii") for name, value in tags.replaygain.items())
    frames.extend(_frame("TXXX", _LATIN1 + text) for text in named)
    frames.append(_frame("WOAS", tags.link.encode("ascii")))
    frames.extend(_chapter_frames(tags.chapters, tags.duration_seconds))
    if tags.cover:
        frames.append(_frame("APIC", _LATIN1 + b"image/jpeg\0" + _FRONT_COVER + b"\0" + tags.cover))
    body = b"".join(frames) + bytes(PADDING_BYTES)
    return b"ID3\x03\x00\x00" + _synchsafe(len(body)) + body


def _chapter_frames(chapters: tuple[Chapter, ...], duration_seconds: float) -> Iterator[bytes]:
    if not chapters:
        return
    names = [f"chp{number}".encode() + b"\0" for number in range(len(chapters))]
    yield _frame("CTOC", b"toc\0" + _ORDERED_AT_TOP + bytes([len(names)]) + b"".join(names))
    ends = [*(chapter.start_seconds for chapter in chapters[1:]), duration_seconds]
    for name, chapter, end in zip(names, chapters, ends, strict=True):
        times = b"".join(round(1000 * seconds).to_bytes(4) for seconds in (chapter.start_seconds, end))
        yield _frame("CHAP", name + times + _BY_TIME + _text_frame("TIT2", chapter.title))


def _text_frame(name: str, text: str) -> bytes:
    return _frame(name, _UTF16 + b"\xff\xfe" + text.encode("utf-16-le", "replace"))


def _frame(name: str, content: bytes) -> bytes:
    # In version 2.3 the size of a frame is a plain number; only the size of the tag is synchsafe.
    return name.encode("ascii") + len(content).to_bytes(4) + b"\0\0" + content


def _synchsafe(size: int) -> bytes:
    """Encode a 28-bit number as four bytes of seven bits, so that no player takes them for an MPEG frame header."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
