"""Writes an ID3v2.3 tag: title, artist, link, cover. Pure. Source: id3.org, id3v2.3.0.

The tag is not written by ffmpeg, so that ffmpeg never gets any metadata. It is version 2.3 with UTF-16, because all
players can read that; some cannot read version 2.4 with UTF-8.
"""

from typing import Final

from ytmp3.core.job import Metadata

MAX_COVER_BYTES: Final = 512 * 1024
"""Largest cover, in bytes; a larger one is left out. A cover of 720 by 720 pixels is far smaller."""

_UTF16: Final = b"\x01"
_LATIN1: Final = b"\x00"
_FRONT_COVER: Final = b"\x03"


def id3v2_tag(metadata: Metadata, link: str, cover: bytes | None) -> bytes:
    """Return the tag, which goes before the first frame. `link` is ASCII, `cover` a JPEG."""
    frames = [_text_frame("TIT2", metadata.title)]
    if metadata.uploader:
        frames.append(_text_frame("TPE1", metadata.uploader))
    frames.append(_frame("WOAS", link.encode("ascii")))
    if cover and len(cover) <= MAX_COVER_BYTES:
        frames.append(_frame("APIC", _LATIN1 + b"image/jpeg\0" + _FRONT_COVER + b"\0" + cover))
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
