"""Makes the tags of an MP4 file, in the form of iTunes, which players read (`moov/udta/meta/ilst`). Pure.

Source: the box tables of mp4ra.org; QuickTime File Format, "User Data Atoms".
"""

from typing import Final

from ytmp3.converter.audio.mp4 import box_of
from ytmp3.converter.audio.tags import Tags

_TEXT: Final = 1
_JPEG: Final = 13
"""Kinds of values."""
_HANDLER: Final = bytes(8) + b"mdirappl" + bytes(9)
"""Says that the tags are in the form of iTunes: version, kind and maker, and an empty name."""


def mp4_tags(tags: Tags) -> bytes:
    """Return the `udta` box."""
    items = [_text(b"\xa9nam", tags.title)]
    if tags.artist:
        items.append(_text(b"\xa9ART", tags.artist))
    items.append(_text(b"\xa9cmt", tags.link))
    if tags.cover:
        items.append(_item(b"covr", _JPEG, tags.cover))
    meta = bytes(4) + box_of(b"hdlr", _HANDLER) + box_of(b"ilst", b"".join(items))
    return box_of(b"udta", box_of(b"meta", meta))


def _text(name: bytes, text: str) -> bytes:
    return _item(name, _TEXT, text.encode("utf-8", "replace"))


def _item(name: bytes, kind: int, value: bytes) -> bytes:
    return box_of(name, box_of(b"data", kind.to_bytes(4) + bytes(4) + value))
