"""Makes the tags of an Ogg Opus file: Vorbis comments with the cover in one of them. Pure.

Sources: RFC 7845, section 5.2 (the OpusTags packet); RFC 9639, section 8.8 (the picture).
"""

import base64
from typing import Final

from ytmp3.converter.audio.tags import Tags

_VENDOR: Final = b"ytmp3"
_FRONT_COVER: Final = 3
_UNKNOWN: Final = bytes(16)
"""Width, height, depth and number of colours: 0 for "not known". Players read them from the picture itself."""


def opus_tags(tags: Tags) -> bytes:
    """Return the OpusTags packet."""
    comments = [("TITLE", tags.title), ("ARTIST", tags.artist), ("COMMENT", tags.link)]
    if tags.cover:
        picture = base64.b64encode(_picture(tags.cover)).decode("ascii")
        comments.append(("METADATA_BLOCK_PICTURE", picture))
    fields = [f"{name}={value}".encode("utf-8", "replace") for name, value in comments if value]
    return b"OpusTags" + _counted(_VENDOR) + len(fields).to_bytes(4, "little") + b"".join(map(_counted, fields))


def _counted(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def _picture(cover: bytes) -> bytes:
    media_type, description = b"image/jpeg", b""
    texts = len(media_type).to_bytes(4) + media_type + len(description).to_bytes(4) + description
    return _FRONT_COVER.to_bytes(4) + texts + _UNKNOWN + len(cover).to_bytes(4) + cover
