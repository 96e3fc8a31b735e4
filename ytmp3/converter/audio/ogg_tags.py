"""Makes the tags of an Ogg Opus file: Vorbis comments with the cover in one of them. Pure.

Sources: RFC 7845, section 5.2 (the OpusTags packet); RFC 9639, section 8.8 (the picture); wiki.xiph.org, "Chapter
Extension" (CHAPTER001, CHAPTER001NAME).
"""

import base64
from typing import Final

from ytmp3.converter.audio.tags import PADDING_BYTES, Tags

_VENDOR: Final = b"ytmp3"
_FRONT_COVER: Final = 3
_UNKNOWN: Final = bytes(16)
"""Width, height, depth and number of colours: 0 for "not known". Players read them from the picture itself."""


def opus_tags(tags: Tags) -> bytes:
    """Return the OpusTags packet."""
    year = None if tags.year is None else str(tags.year)
    comments = [("TITLE", tags.title), ("ARTIST", tags.artist), ("ALBUM", tags.album), ("DATE", year)]
    comments.append(("COMMENT", tags.link))
    if tags.volume.measured is not None:
        comments.append(("R128_TRACK_GAIN", str(tags.volume.measured.r128_gain)))
    if tags.cover:
        picture = base64.b64encode(_picture(tags.cover)).decode("ascii")
        comments.append(("METADATA_BLOCK_PICTURE", picture))
    for number, chapter in enumerate(tags.chapters, 1):
        comments.append((f"CHAPTER{number:03}", _clock(chapter.start_seconds)))
        comments.append((f"CHAPTER{number:03}NAME", chapter.title))
    fields = [f"{name}={value}".encode("utf-8", "replace") for name, value in comments if value]
    front = b"OpusTags" + _counted(_VENDOR) + len(fields).to_bytes(4, "little")
    return front + b"".join(map(_counted, fields)) + bytes(PADDING_BYTES)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _counted(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def _picture(cover: bytes) -> bytes:
    media_type, description = b"image/jpeg", b""
    texts = len(media_type).to_bytes(4) + media_type + len(description).to_bytes(4) + description
    return _FRONT_COVER.to_bytes(4) + texts + _UNKNOWN + len(cover).to_bytes(4) + cover
