"""Batches: how lines become items, how marks change, and the numbers that follow from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.batch import (
    MEASURED_ITEMS,
    Batch,
    BatchStatus,
    Item,
    Mark,
    counts_of,
    end_of,
    eta_seconds,
    first_like,
    first_marks,
    given_up,
    indexes_of,
    is_ended,
    items_of,
    marked,
    opened,
    tagged,
    unfinished,
)
from ytmp3.core.cut import Cut
from ytmp3.core.ids import BatchId, ClientId, InstanceId, VideoId, item_job_id, new_batch_id, parse_batch_id, shard_of
from ytmp3.core.job import Status
from ytmp3.core.recipe import DEFAULT_RECIPE, Quality, Recipe
from ytmp3.core.tag_edits import BatchTags, TagEdits

ID = new_batch_id(bytes(range(17)))
A, B = VideoId("videoaaaaaa"), VideoId("videobbbbbb")


def batch(**changed: object) -> Batch:
    fields: dict[str, object] = {
        "batch_id": ID,
        "client": ClientId("addr:192.0.2.1"),
        "recipe_spelling": DEFAULT_RECIPE.spelling,
        "marks": "w",
        "due_at": 0.0,
        "created_at": 0.0,
        "retention_seconds": 60.0,
    }
    return Batch(**(fields | changed))  # type: ignore[arg-type]


def test_lines_become_items_in_order_and_bad_ones_say_why() -> None:
    items = items_of([f"https://youtu.be/{A}", "https://example.org/x", f"youtu.be/{B}", "youtube.com/@someone", A])
    assert [item.video_id for item in items] == [A, None, B, None, A]
    assert [item.code for item in items] == [None, "unsupported_url", None, "not_a_video", None]
    assert first_marks(items) == "wrwrd"


@pytest.mark.parametrize("line", ["", "x" * 3000, "a b", "\\", "ftp://youtu.be/x", "https://youtu.be/short"])
def test_the_message_of_a_refused_line_names_no_field_and_repeats_nothing(line: str) -> None:
    (item,) = items_of([line])
    assert item.code == "unsupported_url"
    assert item.message is not None
    assert "`url`" not in item.message
    assert item.message[0].isupper()
    assert len(line) < 5 or line not in item.message


def test_equal_videos_share_the_job_of_the_first() -> None:
    items = items_of([A, B, f"https://www.youtube.com/watch?v={A}"])
    assert first_like(items, Item(video_id=A)) == 0
    assert first_like(items, Item(video_id=B)) == 1


def test_the_job_of_an_item_follows_from_the_batch_and_the_conversion_alone() -> None:
    one, other = batch(), batch(recipe_spelling=Recipe(quality=Quality.V0).spelling)
    a, b, part = Item(video_id=A), Item(video_id=B), Item(video_id=A, cut=Cut(start_ms=1000))
    assert one.job_id(a) == batch(marks="c").job_id(a) == item_job_id(ID, one.key(a))
    others = [one.job_id(b), one.job_id(part), other.job_id(a), item_job_id(BatchId("f" * 34), one.key(a))]
    assert len({one.job_id(a), *others}) == 5
    assert one.job_id(a).startswith(shard_of(one.key(a)))
    assert parse_batch_id(one.job_id(a)) is not None, "it has the form of an id"


def test_tags_decide_neither_the_job_nor_the_conversion_of_an_item() -> None:
    one = batch()
    tags = BatchTags(artist="X", album="Y", cover=False, track_numbers=True)
    plain = (Item(video_id=A), Item(code="unsupported_url", message="No."), Item(video_id=B))
    for item, same in zip(plain, tagged(plain, tags), strict=True):
        if item.video_id is None:
            assert same == item
        else:
            assert (one.key(same), one.job_id(same)) == (one.key(item), one.job_id(item))
    assert tagged(plain, None) == plain


def test_an_item_has_its_own_tags_and_those_of_the_batch() -> None:
    own = TagEdits(title="T", artist="Own", track_number=7)
    items = tagged(
        (Item(video_id=A, edits=own), Item(code="x", message="x"), Item(video_id=B)),
        BatchTags(artist="All", album="Album", track_numbers=True),
    )
    assert items[0].edits == TagEdits(title="T", artist="Own", album="Album", track_number=7)
    assert items[2].edits == TagEdits(artist="All", album="Album", track_number=3, track_total=3)
    (without,) = tagged((Item(video_id=A, edits=TagEdits(cover=True)),), BatchTags())
    assert without.edits is None
    (hidden,) = tagged((Item(video_id=A),), BatchTags(cover=False))
    assert hidden.edits == TagEdits(cover=False)


def test_only_the_form_of_an_id_is_a_batch_id() -> None:
    assert parse_batch_id(ID) == ID
    for text in ("", ID[:-1], ID + "0", ID.upper(), ID[:-1] + "g", ID + "\n"):
        assert parse_batch_id(text) is None


def test_the_next_waiting_items_are_opened_in_order() -> None:
    assert opened("wrwdww", 2) == "orodww"
    assert opened("ww", 9) == "oo"
    assert opened("ww", 0) == opened("ww", -3) == "ww"


def test_items_that_wait_are_given_up_together() -> None:
    assert given_up("wocfw", Mark.CANCELLED) == "xocfx"
    assert given_up("ww", Mark.LATE) == "ll"


def test_marks_are_replaced_by_index() -> None:
    assert marked("oow", {1: Mark.FAILED}) == "ofw"
    assert indexes_of("oowo", Mark.OPEN) == [0, 1, 3]


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        (Status.PENDING, None),
        (Status.PROCESSING, None),
        (Status.COMPLETED, Mark.COMPLETED),
        (Status.FAILED, Mark.FAILED),
        (Status.CANCELLED, Mark.CANCELLED),
    ],
)
def test_the_end_of_an_item_is_that_of_its_job(status: Status, mark: Mark | None) -> None:
    assert end_of(status) is mark


def test_a_batch_has_ended_when_no_item_waits_or_is_open() -> None:
    assert is_ended("cfxrdl")
    assert not is_ended("cw")
    assert not is_ended("co")
    assert unfinished("wocw") == 3


def test_a_batch_of_refused_lines_has_nothing_to_do() -> None:
    assert is_ended(first_marks((Item(code="unsupported_url", message="No."),)))


def test_the_status_follows_from_the_times() -> None:
    assert batch().status is BatchStatus.RUNNING
    assert batch(marks="", playlist="x").status is BatchStatus.LISTING
    assert batch(marks="", error="playlist_empty", completed_at=1.0).status is BatchStatus.FAILED
    assert batch(completed_at=1.0).status is BatchStatus.COMPLETED
    assert batch(cancelled_at=1.0).status is BatchStatus.CANCELLED
    assert batch(cancelled_at=1.0, completed_at=2.0).status is BatchStatus.CANCELLED


def test_a_lease_names_the_holder() -> None:
    held = batch(token=3, holder=InstanceId("a")).lease
    assert (held.batch_id, held.token, held.holder) == (ID, 3, "a")
    assert batch().lease.holder == ""


def test_the_estimate_is_the_own_pace_once_enough_items_have_ended() -> None:
    few = "c" * (MEASURED_ITEMS - 1) + "w" * 10
    enough = "c" * (MEASURED_ITEMS - 5) + "f" * 5 + "w" * 9 + "o"
    assert eta_seconds(few, elapsed_seconds=100.0, estimate=7.0) == 7.0
    assert eta_seconds(enough, elapsed_seconds=100.0, estimate=7.0) == 50.0
    assert eta_seconds(enough, elapsed_seconds=0.0, estimate=7.0) == 7.0


@given(st.text("woc", max_size=50), st.integers(0, 60))
def test_opening_loses_no_item(marks: str, number: int) -> None:
    before, after = counts_of(marks), counts_of(opened(marks, number))
    assert after.total() == before.total()
    assert after[Mark.OPEN] - before[Mark.OPEN] == min(number, before[Mark.WAITING])
    assert after[Mark.COMPLETED] == before[Mark.COMPLETED]
