"""The ID3v2.3 tag, read back by an independent reader."""

import io
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from mutagen.id3 import ID3

from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.tags import MAX_COVER_BYTES, PADDING_BYTES, Tags, tags_of
from ytmp3.core.job import Chapter, Metadata

LINK = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
# mutagen splits texts at a slash, which version 2.3 has between several values, and cuts them at a zero.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=200)
COVER = st.none() | st.binary().map(lambda end: b"\xff\xd8\xff" + end)
CHAPTERS = st.lists(st.tuples(st.floats(0, 3e6), TEXT), max_size=20)


def read(tag: bytes) -> Any:
    assert tag[:6] == b"ID3\x03\0\0"
    assert max(tag[6:10]) < 0x80
    assert tag.endswith(bytes(PADDING_BYTES))
    return cast("Any", ID3)(fileobj=io.BytesIO(tag), translate=False)


@given(TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | st.integers(1000, 9999), COVER)
def test_every_field_of_a_tag_is_read_back(
    title: str, artist: str | None, album: str | None, year: int | None, cover: bytes | None
) -> None:
    found = read(id3v2_tag(Tags(title=title, artist=artist, album=album, year=year, link=LINK, cover=cover)))
    assert found["WOAS"].url == LINK
    for name, text in (("TIT2", title), ("TPE1", artist), ("TALB", album), ("TYER", year)):
        assert (found[name].text[0] if name in found else None) == (None if text is None else str(text))
    assert (found["APIC:"].data if "APIC:" in found else None) == cover
    assert not found.getall("CHAP") + found.getall("CTOC")


@given(CHAPTERS)
def test_chapters_and_their_table_of_contents_are_read_back(rows: list[tuple[float, str]]) -> None:
    rows.sort(key=lambda row: row[0])
    chapters = tuple(Chapter(start_seconds=start, title=title) for start, title in rows)
    tags = Tags(title="t", artist=None, link=LINK, cover=None, chapters=chapters).of_track(3e6 + 1)
    found = read(id3v2_tag(tags))
    names = found["CTOC:toc"].child_element_ids if rows else []
    assert len(set(names)) == len(rows) == len(found.getall("CHAP"))
    assert not rows or (found["CTOC:toc"].flags == 3)
    shown = [found[f"CHAP:{name}"] for name in names]
    starts = [round(1000 * start) for start, _ in rows]
    assert [(each.start_time, each.end_time) for each in shown] == list(
        zip(starts, [*starts[1:], 3_000_001_000], strict=False)
    )
    assert [each.sub_frames["TIT2"].text[0] for each in shown] == [title for _, title in rows]
    assert all(each.start_offset == each.end_offset == 0xFFFFFFFF for each in shown)


def test_a_song_has_its_own_names_and_no_chapter_after_its_end() -> None:
    chapters = (Chapter(start_seconds=0, title="a"), Chapter(start_seconds=9, title="b"))
    video = Metadata(title="A song (Video)", uploader="Channel", duration_seconds=9, thumbnail_url=None)
    song = Metadata(
        title=video.title,
        uploader=video.uploader,
        duration_seconds=9,
        thumbnail_url=None,
        artist="Someone",
        track="A song",
        album="Songs",
        release_year=1999,
        chapters=chapters,
    )
    tags = tags_of(song, LINK, None).of_track(9.0)
    assert (tags.title, tags.artist, tags.album, tags.year) == ("A song", "Someone", "Songs", 1999)
    assert tags.chapters == chapters[:1]
    tags = tags_of(video, LINK, None)
    assert (tags.title, tags.artist, tags.album, tags.year, tags.chapters) == (
        "A song (Video)",
        "Channel",
        None,
        None,
        (),
    )


def test_a_part_of_a_video_has_its_own_chapters_from_its_own_start_on() -> None:
    rows = ((0, "a"), (9, "b"), (20, "c"), (30, "d"))
    chapters = tuple(Chapter(start_seconds=start, title=title) for start, title in rows)
    video = Metadata(title="t", uploader=None, duration_seconds=40.0, thumbnail_url=None, chapters=chapters)
    for start, duration, expected in (
        (0, 40.0, [(0, "a"), (9, "b"), (20, "c"), (30, "d")]),
        (12.5, 10.0, [(0, "b"), (7.5, "c")]),
        (20, 10.0, [(0, "c")]),
        (35, 5.0, [(0, "d")]),
    ):
        tags = tags_of(video, LINK, None, start_seconds=start).of_track(duration)
        assert [(chapter.start_seconds, chapter.title) for chapter in tags.chapters] == expected
    assert tags_of(structs.replace(video, chapters=()), LINK, None, start_seconds=5).chapters == ()


def test_a_cover_that_is_too_large_is_left_out() -> None:
    metadata = Metadata(title="t", uploader=None, duration_seconds=None, thumbnail_url=None)
    assert tags_of(metadata, LINK, bytes(MAX_COVER_BYTES)).cover is not None
    assert tags_of(metadata, LINK, bytes(MAX_COVER_BYTES + 1)).cover is None
