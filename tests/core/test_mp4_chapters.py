"""The text track with the chapters of an MP4 file. A strict reader of the tests finds every sample of both tracks."""

import io
import itertools
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from mutagen.mp4 import MP4

from tests.core.test_mp4 import RATE, TAGS, refused, sound_of, whole
from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.mp4 import Mp4File, pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_chapters import with_chapters
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.tags import Tags
from ytmp3.core.job import Chapter

TITLES: Final = ("Öne", "two", "\U0001f3b6" * 100, "four")
SIZES: Final = [50, 60, 70] * 30
CONTENT: Final = whole(SIZES, [10] * 9)
MDIA: Final = (b"mdia", b"minf", b"stbl")


def boxes_in(content: bytes) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    while content:
        size = int.from_bytes(content[:4])
        assert 8 <= size <= len(content)
        found.setdefault(content[4:8], []).append(content[8:size])
        content = content[size:]
    return found


def inside(content: bytes, *path: bytes) -> bytes:
    for kind in path:
        (content,) = boxes_in(content)[kind]
    return content


def words(content: bytes, size: int = 4) -> list[int]:
    assert len(content) % size == 0
    return [int.from_bytes(content[at : at + size]) for at in range(0, len(content), size)]


def rows(tables: dict[bytes, list[bytes]], kind: bytes, *, size: int = 4, columns: int = 1) -> list[tuple[int, ...]]:
    (table,) = tables[kind]
    front = 12 if kind == b"stsz" else 8
    numbers = words(table[front:], size)
    found = [tuple(numbers[at : at + columns]) for at in range(0, len(numbers), columns)]
    assert words(table[front - 4 : front]) == [len(found)]
    return found


def samples_of(content: bytes, track: bytes) -> list[tuple[int, bytes]]:
    """Return the position and the bytes of each sample of a track."""
    tables = boxes_in(inside(track, *MDIA))
    sizes = iter(rows(tables, b"stsz"))
    runs = rows(tables, b"stsc", columns=3)
    chunks = rows(tables, b"co64", size=8) if b"co64" in tables else rows(tables, b"stco")
    found = []
    for number, (position,) in enumerate(chunks, 1):
        (count,) = [count for first, count, _ in runs if first <= number][-1:]
        for (size,) in itertools.islice(sizes, count):
            found.append((position, content[position : position + size]))
            position += size  # noqa: PLW2901
    assert next(sizes, None) is None
    return found


def tracks_of(content: bytes) -> list[list[bytes]]:
    """Return the samples of each track. They must fill the only box of samples, each byte once."""
    found = [samples_of(content, track) for track in boxes_in(inside(content, b"moov"))[b"trak"]]
    everything = b"".join(sample for _, sample in sorted(each for track in found for each in track))
    assert everything == inside(content, b"mdat")
    return [[sample for _, sample in track] for track in found]


def frames_of(sizes: list[int]) -> list[bytes]:
    sound, ends = sound_of(sizes), [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return [sound[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def text(title: str) -> bytes:
    return len(title.encode()).to_bytes(2) + title.encode() + b"\0\0\0\x0cencd\0\0\1\0"


def tags_with(*starts: float, seconds: float) -> Tags:
    chapters = tuple(Chapter(start_seconds=start, title=title) for start, title in zip(starts, TITLES, strict=False))
    return replace(TAGS, chapters=chapters).of_track(seconds)


def finished(file: Mp4File, content: bytes, tags: Tags) -> bytes:
    return b"".join(pieces_of_mp4(with_chapters(file, tags), content, mp4_tags(tags)))


@given(st.lists(st.lists(st.integers(1, 700), min_size=1, max_size=9), min_size=1, max_size=6), st.booleans())
def test_the_tables_find_the_titles_and_the_sound(parts: list[list[int]], wide: bool) -> None:
    sizes = [size for part in parts for size in part]
    content = whole(sizes, list(map(len, parts)), wide=wide)
    file = read_mp4(content)
    tags = tags_with(0, file.duration_seconds / 3, file.duration_seconds / 2, seconds=file.duration_seconds)
    track = finished(file, content, tags)
    assert tracks_of(track) == [frames_of(sizes), [text(title) for title in TITLES[:3]]]
    assert boxes_in(track).keys() == {b"ftyp", b"moov", b"mdat"}
    assert refused(track), "an encoder writes one track only"


def test_the_audio_track_refers_to_a_disabled_text_track_and_is_otherwise_as_without_chapters() -> None:
    file = read_mp4(CONTENT)
    tags = tags_with(0, 0.5, 1.25, seconds=file.duration_seconds)
    movie, bare = (inside(finished(file, CONTENT, each), b"moov") for each in (tags, replace(tags, chapters=())))
    sound, texts = boxes_in(movie)[b"trak"]
    reference = b"\0\0\0\x14tref\0\0\0\x0cchap\0\0\0\2"
    assert sound.endswith(reference)
    before, after = inside(bare, b"trak"), sound.removesuffix(reference)
    assert before[: before.index(b"stco")] == after[: after.index(b"stco")]
    assert len(before) == len(after)
    header = inside(texts, b"tkhd")
    length = round(1024 * len(SIZES))
    assert words(header[:24]) == [2, 0, 0, 2, 0, length], "disabled, with a number of its own"
    assert inside(texts, b"mdia", b"hdlr")[8:12] == b"text"
    durations = rows(boxes_in(inside(texts, *MDIA)), b"stts", columns=2)
    assert durations == [(1, 500), (1, 750), (1, round(1000 * len(SIZES) * 1024 / RATE) - 1250)]
    assert words(inside(texts, b"mdia", b"mdhd")[12:20]) == [1000, round(1000 * file.duration_seconds)]
    assert inside(movie, b"mvhd") == inside(bare, b"mvhd")[:-4] + b"\0\0\0\3"


def test_a_file_without_chapters_has_one_track() -> None:
    file = read_mp4(CONTENT)
    assert with_chapters(file, tags_with(seconds=1)) is file
    assert tracks_of(finished(file, CONTENT, TAGS)) == [frames_of(SIZES)]


def test_the_first_chapter_begins_with_the_track_and_later_ones_are_left_out_behind_its_end() -> None:
    file = read_mp4(CONTENT)
    track = finished(file, CONTENT, tags_with(0.5, 1, 1.0004, 99, seconds=file.duration_seconds))
    _, texts = boxes_in(inside(track, b"moov"))[b"trak"]
    durations = [each for _, each in rows(boxes_in(inside(texts, *MDIA)), b"stts", columns=2)]
    assert durations[:2] == [1000, 0]
    assert len(durations) == 3
    reader: Any = MP4(fileobj=io.BytesIO(track))  # type: ignore[no-untyped-call]
    assert [each.start for each in reader.chapters] == [0.5, 1, 1.0004], "the list has the exact positions"


def test_a_longer_movie_has_a_longer_header() -> None:
    content = whole([10, 20], [2], wide=True)
    file = read_mp4(content)
    file = replace(file, movie=file.movie[:32] + (2**33).to_bytes(8) + file.movie[40:])
    track = finished(file, content, tags_with(0, seconds=1))
    assert tracks_of(track)[0] == frames_of([10, 20])
    header = inside(boxes_in(inside(track, b"moov"))[b"trak"][1], b"tkhd")
    assert len(header) == 92 + 12 - 8
    assert (header[0], words(header[20:24]), words(header[28:36], 8)) == (1, [2], [2**33])


@pytest.mark.parametrize("number", [0, 2**32 - 1])
def test_an_index_without_a_number_for_another_track_is_refused(number: int) -> None:
    file = read_mp4(CONTENT)
    changed = replace(file, movie=file.movie[:104] + number.to_bytes(4) + file.movie[108:])
    with pytest.raises(BrokenError, match="no room"):
        with_chapters(changed, tags_with(0, seconds=1))


def test_audio_that_is_too_long_for_the_text_track_is_refused() -> None:
    with pytest.raises(BrokenError, match="no room"):
        with_chapters(read_mp4(CONTENT), tags_with(0, 1, seconds=2**32 / 1000))
    assert with_chapters(read_mp4(CONTENT), tags_with(0, 1, seconds=2**32 / 1000 - 1)).texts
