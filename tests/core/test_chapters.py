"""Splitting a video into its chapters: the parts join without a gap, and every part can be converted."""

import itertools
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ytmp3.core.batch import Batch, Item, first_marks
from ytmp3.core.chapters import album_of, items_of_chapters
from ytmp3.core.cut import Cut
from ytmp3.core.ids import BatchId, ClientId, VideoId
from ytmp3.core.job import Chapter, Metadata
from ytmp3.core.recipe import Recipe, parse_recipe
from ytmp3.core.tag_edits import MAX_TEXT_CHARACTERS, TagEdits, clean_text, text_of

VIDEO: Final = VideoId("video000001")


def video(*chapters: tuple[float, str], title: str = "A mix", album: str | None = None) -> Metadata:
    found = tuple(Chapter(start_seconds=start, title=text) for start, text in chapters)
    return Metadata(
        title=title, uploader="Someone", duration_seconds=None, thumbnail_url=None, album=album, chapters=found
    )


def test_each_chapter_is_a_part_with_its_title() -> None:
    assert items_of_chapters(VIDEO, video((0, "one"), (61.5, "two\u202e"))) == (
        Item(video_id=VIDEO, cut=Cut(end_ms=61_500), edits=TagEdits(title="one")),
        Item(video_id=VIDEO, cut=Cut(start_ms=61_500), edits=TagEdits(title="two")),
    )
    assert items_of_chapters(VIDEO, video()) == ()


def test_a_chapter_that_is_too_short_before_the_end_is_part_of_the_one_before() -> None:
    def cuts(*starts: float, duration: float | None, following: float | None = None) -> list[tuple[int, int | None]]:
        metadata = replace(video(*((start, "x") for start in starts)), duration_seconds=duration)
        items = items_of_chapters(VIDEO, metadata, next_chapter_seconds=following)
        return [(item.cut.start_ms, item.cut.end_ms) for item in items]

    assert cuts(0, 50, 99.95, duration=100) == [(0, 50_000), (50_000, None)]
    assert cuts(0, 99.85, 99.95, duration=100) == [(0, 99_850), (99_850, None)]
    assert cuts(0, 50, 99.9, duration=100) == [(0, 50_000), (50_000, 99_900), (99_900, None)]
    assert cuts(0, 50, duration=None) == [(0, 50_000), (50_000, None)]
    assert cuts(0, duration=0.05) == [(0, None)]
    assert cuts(0, 50, duration=100, following=60) == [(0, 50_000), (50_000, 60_000)]
    assert cuts(0, 50, duration=100, following=50.05) == [(0, 50_050)]


def test_the_album_is_the_title_of_the_video_unless_it_is_a_song() -> None:
    assert album_of(video(title="A\u200b mix ")) == "A mix"
    assert album_of(video(album="Songs")) is None


@given(st.lists(st.tuples(st.floats(0, 10_000), st.text(max_size=300)), max_size=30, unique_by=lambda each: each[0]))
def test_the_parts_join_without_a_gap_and_have_valid_recipes(chapters: list[tuple[float, str]]) -> None:
    chapters = [(round(start, 3), title) for start, title in sorted(chapters)]
    items = items_of_chapters(VIDEO, video(*chapters))
    assert bool(items) == bool(chapters)
    for item, following in itertools.pairwise(items):
        assert item.cut.end_ms == following.cut.start_ms
    if items:
        assert items[-1].cut.end_ms is None
        assert items[0].cut.start_ms == round(1000 * chapters[0][0])
        assert set(first_marks(items)) == {"w"}
    batch = Batch(
        batch_id=BatchId("b"),
        client=ClientId("c"),
        recipe_spelling=Recipe().spelling,
        marks="",
        due_at=0,
        created_at=0,
        retention_seconds=1,
    )
    for item in items:
        recipe = batch.recipe_of(item)
        assert parse_recipe(recipe.spelling) == recipe
    assert len({batch.job_id(item) for item in items}) == len(items)


@given(st.text(max_size=400))
def test_texts_of_youtube_become_valid_tags(text: str) -> None:
    made = text_of(text)
    if made is not None:
        assert clean_text(made) == made
        assert len(made) <= MAX_TEXT_CHARACTERS
