"""The tags of a track, whatever its format is. `id3`, `ogg_tags` and `mp4_tags` write them in the form of each format.

ffmpeg writes no tags, so it never gets any metadata.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.job import Chapter, Metadata
from ytmp3.core.loudness import UNCHANGED, Volume

MAX_COVER_BYTES: Final = 512 * 1024
"""Largest cover, in bytes; a larger one is left out. A cover of 720 by 720 pixels is far smaller."""

PADDING_BYTES: Final = 2560
"""Zeros behind the tags. Other texts can replace them without moving the sound: three texts of 200 characters take at
most 2,400 bytes, in UTF-8 and in UTF-16."""


class Tags(Struct, frozen=True, kw_only=True):
    """The tags of one track. All text is cleaned already (`converter/youtube/metadata`)."""

    title: str
    artist: str | None
    album: str | None = None
    year: int | None = None
    link: str
    """The video's canonical link, in ASCII."""
    cover: bytes | None
    """A square JPEG."""
    volume: Volume = UNCHANGED
    """The loudness, which players use, and by how much the volume was changed."""
    chapters: tuple[Chapter, ...] = ()
    """The chapters of the track, from its own start on."""
    duration_seconds: float = 0.0
    """The measured duration of the track, where its last chapter ends."""

    @property
    def replaygain(self) -> dict[str, str]:
        """The names and values of the tags of ReplayGain 2.0, and of MP3Gain if the volume was changed."""
        measured, steps = self.volume.measured, self.volume.steps
        if measured is None:
            return {}
        tags = {
            "REPLAYGAIN_TRACK_GAIN": f"{measured.replaygain_db:+.2f} dB",
            "REPLAYGAIN_TRACK_PEAK": f"{measured.peak:.6f}",
        }
        # MP3Gain's form: the steps that restore the left and the right channel, and N: gains do not wrap around.
        return tags | ({"MP3GAIN_UNDO": f"{-steps:+04d},{-steps:+04d},N"} if steps else {})

    def of_track(self, duration_seconds: float) -> "Tags":
        """Return the tags for a track of this duration, without chapters that would begin after its end."""
        chapters = tuple(each for each in self.chapters if each.start_seconds < duration_seconds)
        return replace(self, chapters=chapters, duration_seconds=duration_seconds)


def tags_of(
    metadata: Metadata, link: str, cover: bytes | None, volume: Volume = UNCHANGED, *, start_seconds: float = 0.0
) -> Tags:
    """Return the tags of a track of the video with this metadata. A cover that is too large is left out.

    `start_seconds` is where the track starts in the video. The names of YouTube Music, if it knows the song, are
    preferred to the title of the video and the name of the channel.
    """
    fits = cover is not None and 0 < len(cover) <= MAX_COVER_BYTES
    return Tags(
        title=metadata.track or metadata.title,
        artist=metadata.artist or metadata.uploader,
        album=metadata.album,
        year=metadata.release_year,
        link=link,
        cover=cover if fits else None,
        volume=volume,
        chapters=tuple(_chapters_from(start_seconds, metadata.chapters)),
    )


def _chapters_from(start_seconds: float, chapters: tuple[Chapter, ...]) -> Iterator[Chapter]:
    """Yield the chapters of the part of a video that begins here. The first one may have begun earlier."""
    for chapter, end in zip_longest(chapters, (each.start_seconds for each in chapters[1:])):
        if end is None or end > start_seconds:
            yield replace(chapter, start_seconds=max(0.0, chapter.start_seconds - start_seconds))
