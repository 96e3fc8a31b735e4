"""Writes an ID3v2.3 tag: title, artist, link, cover. Pure. Source: id3.org, id3v2.3.0.

The tag is of version 2.3 with UTF-16, because all players can read that; some cannot read version 2.4 with UTF-8.
"""

from typing import Final

from ytmp3.converter.audio.tags import Tags

_UTF16: Final = b"\x01"
_LATIN1: Final = b"\x00"
_FRONT_COVER: Final = b"\x03"


def id3v2_tag(tags: Tags) -> bytes:
    """Return the tag, which goes before the first frame."""
    frames = [_text_frame("TIT2", tags.title)]
    if tags.artist:
        frames.append(_text_frame("TPE1", tags.artist))
    frames.append(_frame("WOAS", tags.link.encode("ascii")))
    if tags.cover:
        frames.append(_frame("APIC", _LATIN1 + b"image/jpeg\0" + _FRONT_COVER + b"\0" + tags.cover))
    body = b"".join(frames)
    return b"ID3\x03\x00\x00" + _synchsafe(len(body)) + body


def _text_frame(name: str, text: str) -> bytes:
    return _frame(name, _UTF16 + b"\xff\xfe" + text.encode("utf-16-le", "replace"))


def _frame(name: str, content: bytes) -> bytes:
    # In version 2.3 the size of a frame is a plain number; only the size of the tag is synchsafe.
    return name.encode("ascii") + len(content).to_bytes(4) + b"\0\0" + content


def _synchsafe(size: int) -> bytes:
    """Encode a 28-bit number as four bytes of seven bits, so that no player takes them for an MPEG frame header."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
