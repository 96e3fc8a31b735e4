"""Splits a video into its chapters: the items of a batch. Pure.

The parts are cut to the millisecond, and each ends where the next one begins. So together they have exactly the sound
of the video from the first chapter on.
"""

from collections.abc import Iterator, Sequence

from ytmp3.core.batch import Item
from ytmp3.core.cut import MIN_CUT_MS, Cut
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Chapter, Metadata
from ytmp3.core.tag_edits import TagEdits, text_of


def items_of_chapters(
    video_id: VideoId, metadata: Metadata, *, next_chapter_seconds: float | None = None
) -> tuple[Item, ...]:
    """Return an item for each chapter, with its title; none if the video has no chapters.

    `next_chapter_seconds` is where the first chapter begins that the metadata leaves out: the end of the last item.
    """
    parts = _parts(metadata.chapters, metadata.duration_seconds, next_chapter_seconds)
    return tuple(Item(video_id=video_id, cut=cut, edits=TagEdits(title=text_of(title))) for title, cut in parts)


def album_of(metadata: Metadata) -> str | None:
    """Return the album of the chapters: the title of the video, or None if the converter writes that of the song."""
    return None if metadata.album else text_of(metadata.title)


def _parts(
    chapters: Sequence[Chapter], duration_seconds: float | None, next_seconds: float | None
) -> Iterator[tuple[str, Cut]]:
    """Yield the titles and the parts. A chapter that is too short to be converted is part of the one before it."""
    cut_end = None if next_seconds is None else round(1000 * next_seconds)
    end = round(1000 * duration_seconds) if cut_end is None and duration_seconds is not None else cut_end
    starts: list[tuple[int, str]] = []
    for chapter in chapters:
        start = round(1000 * chapter.start_seconds)
        if not starts or start - starts[-1][0] >= MIN_CUT_MS:
            starts.append((start, chapter.title))
    if end is not None and len(starts) > 1 and end - starts[-1][0] < MIN_CUT_MS:
        starts.pop()
    for number, (start, title) in enumerate(starts, 1):
        yield title, Cut(start_ms=start, end_ms=starts[number][0] if number < len(starts) else cut_end)
