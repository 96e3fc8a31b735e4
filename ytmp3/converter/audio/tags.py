"""What is written into a track besides its sound. Each format has its own form of it: `id3`, `ogg_tags`, `mp4_tags`.

No tag is written by ffmpeg, so that ffmpeg never gets any metadata.
"""

from typing import Final

from msgspec import Struct

from ytmp3.core.job import Metadata

MAX_COVER_BYTES: Final = 512 * 1024
"""Largest cover, in bytes; a larger one is left out. A cover of 720 by 720 pixels is far smaller."""


class Tags(Struct, frozen=True, kw_only=True):
    """The tags of one track. All text is cleaned already (`converter/youtube/metadata`)."""

    title: str
    artist: str | None
    link: str
    """The video's canonical link, in ASCII."""
    cover: bytes | None
    """A square JPEG."""


def tags_of(metadata: Metadata, link: str, cover: bytes | None) -> Tags:
    """Return the tags of a track of the video with this metadata. A cover that is too large is left out."""
    fits = cover is not None and 0 < len(cover) <= MAX_COVER_BYTES
    return Tags(title=metadata.title, artist=metadata.uploader, link=link, cover=cover if fits else None)
