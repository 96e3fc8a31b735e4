"""Adds the chapters of an MP4 file as a text track, to which the audio track refers (`tref/chap`). Pure.

Apple's players (Books, Podcasts, QuickTime) read such a track, and not Nero's list of chapters (`mp4_tags`). ffmpeg
reads both, and takes the chapters of the track in place of those of the list.

Each sample is the title of a chapter and lasts as long as the chapter. All of them are in one chunk. The track is
disabled, so that players do not show it as text.

Sources: QuickTime File Format, "Chapter Lists", "Text Media", "Base Media Information Header Atoms"; ISO/IEC 14496-12,
8.3 (tracks), 8.4 (media) and 8.6 to 8.8 (tables of samples).
"""

from itertools import pairwise
from typing import Final

from msgspec.structs import replace

from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp4 import MovieReader, Mp4File, box_of
from ytmp3.converter.audio.tags import Tags

_TICKS: Final = 1000
"""The time scale of the text track: units in a second."""
_IN_MOVIE: Final = 2
"""The flags of a disabled track that is part of the movie."""
_MATRIX: Final = b"".join(n.to_bytes(4) for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
"""The matrix that changes nothing."""
_UNDETERMINED: Final = 0x55C4
"""The language "und", in the packed form of ISO/IEC 14496-12."""
_UTF8: Final = box_of(b"encd", (0x100).to_bytes(4))
"""Follows each text: it is encoded in UTF-8."""
_FORM: Final = (1).to_bytes(4) * 2 + bytes(35)
"""How the texts are shown: they do not scroll, they are centred, and all colours, boxes and fonts are zeros."""
_GRAPHICS: Final = b"".join(n.to_bytes(2) for n in (0x40, 0x8000, 0x8000, 0x8000, 0, 0))
"""The usual graphics mode, colour and balance, of a medium that is neither audio nor video."""


def with_chapters(file: Mp4File, tags: Tags) -> Mp4File:
    """Return the file with the chapters in these tags as a text track; the same file if there are none.

    The first sample begins at 0, and so does the first chapter in this track.

    Raises:
        BrokenError: the index has no number for another track, or the audio is too long for the time scale.
    """
    if not tags.chapters:
        return file
    reader = MovieReader(file.movie)
    header = reader.box(b"mvhd")
    number = int.from_bytes(file.movie[header.end - 4 : header.end])
    starts = [0, *(round(_TICKS * chapter.start_seconds) for chapter in tags.chapters[1:])]
    times = [*starts, round(_TICKS * tags.duration_seconds)]
    if not 0 < number < 2**32 - 1 or times[-1] >= 2**32:
        raise BrokenError("no room for a text track")
    texts = [len(title).to_bytes(2) + title + _UTF8 for title in (each.title.encode() for each in tags.chapters)]
    _, length = reader.pair(header, narrow=12, wide=20)
    track = box_of(b"trak", _track_header(number, length) + _media(times, [len(text) for text in texts]))
    movie = file.movie[: header.end - 4] + (number + 1).to_bytes(4) + file.movie[header.end :]
    sound = reader.box(b"trak")
    reference = box_of(b"tref", box_of(b"chap", number.to_bytes(4)))
    referring = box_of(b"trak", movie[sound.body : sound.end] + reference)
    return replace(
        file,
        movie=movie[: sound.start] + referring + movie[sound.end :] + track,
        offsets_at=file.offsets_at + sound.start + 8 - sound.body,
        texts=b"".join(texts),
    )


def _track_header(number: int, length: int) -> bytes:
    """Return the header of the track with this number. `length` is that of the movie, in its own units of time."""
    is_wide = length >= 2**32
    size = 8 if is_wide else 4
    fields = bytes(2 * size) + number.to_bytes(4) + bytes(4) + length.to_bytes(size) + bytes(16) + _MATRIX + bytes(8)
    return box_of(b"tkhd", bytes([is_wide]) + _IN_MOVIE.to_bytes(3) + fields)


def _media(times: list[int], sizes: list[int]) -> bytes:
    """Return the description of samples of these sizes. `times` are their starts and the end of the last one."""
    count = len(sizes)
    clock = bytes(12) + _TICKS.to_bytes(4) + times[-1].to_bytes(4) + _UNDETERMINED.to_bytes(2) + bytes(2)
    general = box_of(b"gmhd", box_of(b"gmin", bytes(4) + _GRAPHICS) + box_of(b"text", _MATRIX))
    here = box_of(b"url ", (1).to_bytes(4))
    tables = (
        _table(b"stsd", box_of(b"text", bytes(6) + (1).to_bytes(2) + _FORM)),
        _table(b"stts", *((1).to_bytes(4) + (end - start).to_bytes(4) for start, end in pairwise(times))),
        _table(b"stsc", b"".join(n.to_bytes(4) for n in (1, count, 1))),
        box_of(b"stsz", bytes(8) + count.to_bytes(4) + b"".join(size.to_bytes(4) for size in sizes)),
        _table(b"stco", bytes(4)),
    )
    return box_of(
        b"mdia",
        box_of(b"mdhd", clock)
        + box_of(b"hdlr", bytes(8) + b"text" + bytes(13))
        + box_of(b"minf", general + box_of(b"dinf", _table(b"dref", here)) + box_of(b"stbl", b"".join(tables))),
    )


def _table(kind: bytes, *rows: bytes) -> bytes:
    return box_of(kind, bytes(4) + len(rows).to_bytes(4) + b"".join(rows))
