"""The records of batches. Every test runs on both adapters."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.contract.harness import POLICY, Harness, Ids, RedisHarness, SqliteHarness, submitted, ticket_of
from ytmp3.core.batch import Batch, BatchLease, Item, first_marks
from ytmp3.core.cut import Cut
from ytmp3.core.errors import LeaseLost
from ytmp3.core.ids import BatchId, ClientId, InstanceId, VideoId, new_batch_id
from ytmp3.core.recipe import Quality, Recipe
from ytmp3.core.tag_edits import BatchTags, TagEdits
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.batches import MAX_UNFINISHED_OF_CLIENT, Filling, NewBatch, Refusal

ITEMS = (
    Item(video_id=VideoId("video000001")),
    Item(code="unsupported_url", message="No “link”."),
    Item(video_id=VideoId("video000002")),
)


def new(number: int = 1, client: str = "addr:192.0.2.1") -> NewBatch:
    return NewBatch(
        batch_id=new_batch_id(number.to_bytes(17, "big")),
        client=ClientId(client),
        recipe=Recipe(quality=Quality.V0),
        marks=first_marks(ITEMS),
        items=ITEMS,
    )


async def created(store: JobStore, number: int = 1) -> Batch:
    batch = await store.batches.create(new(number))
    assert isinstance(batch, Batch)
    return batch


async def adopted(store: JobStore, number: int = 1) -> Batch:
    """Create a batch and adopt it."""
    await created(store, number)
    (batch,) = await store.batches.adopt(10)
    return batch


async def test_a_new_batch_has_no_holder_and_is_due_at_once(harness: Harness, store: JobStore) -> None:
    batch = await created(store)
    assert (batch.holder, batch.due_at, batch.created_at) == (None, harness.clock.now, harness.clock.now)
    assert (batch.client, batch.recipe, batch.marks) == ("addr:192.0.2.1", Recipe(quality=Quality.V0), "wrw")
    assert batch.retention_seconds == POLICY.retention_seconds
    assert (batch.cancelled_at, batch.completed_at, batch.expires_at) == (None, None, None)
    assert await store.batches.get(batch.batch_id) == batch
    assert await store.batches.items(batch.batch_id) == ITEMS
    assert await store.batches.unfinished() == 1


async def test_tags_and_parts_are_kept(store: JobStore) -> None:
    tags = BatchTags(artist="“Ä”", album="B", cover=False, track_numbers=True)
    edits = TagEdits(title="T", artist="“Ä”", track_number=1, track_total=2, cover=False)
    items = (Item(video_id=VideoId("video000001"), cut=Cut(start_ms=1, end_ms=500), edits=edits),)
    made = await store.batches.create(replace(new(), tags=tags, items=items, marks=first_marks(items)))
    assert isinstance(made, Batch)
    assert (made.tags, made.is_split, made.playlist) == (tags, False, None)
    assert await store.batches.get(made.batch_id) == made
    assert await store.batches.items(made.batch_id) == items
    assert made.recipe_of(items[0]) == Recipe(quality=Quality.V0, cut=Cut(start_ms=1, end_ms=500))


async def test_a_video_to_be_split_gets_its_chapters_as_items(store: JobStore) -> None:
    video = "https://www.youtube.com/watch?v=video000001"
    made = await store.batches.create(replace(new(), playlist=video, is_split=True, items=(), marks=""))
    assert isinstance(made, Batch)
    assert (made.playlist, made.is_split, made.tags, made.marks) == (video, True, None, "")
    (held,) = await store.batches.adopt(10)
    items = tuple(Item(video_id=VideoId("video000001"), cut=Cut(start_ms=at, end_ms=at + 500)) for at in (0, 500))
    filled = await store.batches.fill(held.lease, Filling(marks=first_marks(items), items=items, title="A video"))
    assert (filled.marks, filled.title, filled.is_split) == ("ww", "A video", True)
    assert await store.batches.items(made.batch_id) == items


async def test_an_unknown_batch_has_no_record(store: JobStore) -> None:
    unknown = BatchId("0" * 34)
    assert await store.batches.get(unknown) is None
    assert await store.batches.items(unknown) == ()
    assert await store.batches.cancel(unknown) is None
    with pytest.raises(LeaseLost):
        await store.batches.save(BatchLease(batch_id=unknown, token=0, holder=InstanceId("a")), "c")
    assert await store.batches.adopt(10) == []
    assert await store.batches.expire(10) == 0


async def test_a_repeated_creation_returns_the_first_batch(harness: Harness, store: JobStore) -> None:
    batch = await created(store)
    harness.clock.advance(5)
    assert await store.batches.create(new()) == batch
    assert await store.batches.unfinished() == 1


async def test_the_holder_renews_its_lease_with_each_write(harness: Harness, store: JobStore) -> None:
    batch = await adopted(store)
    assert (batch.holder, batch.token) == ("a", 1)
    assert batch.due_at == harness.clock.now + POLICY.lease_seconds
    harness.clock.advance(20)
    saved = await store.batches.save(batch.lease, "orw")
    assert saved == replace(batch, marks="orw", due_at=harness.clock.now + POLICY.lease_seconds)
    harness.clock.advance(20)
    assert await store.batches.adopt(10) == []
    assert await store.batches.get(batch.batch_id) == saved


async def test_a_batch_is_adopted_when_its_lease_has_run_out_and_the_old_holder_is_fenced_off(
    harness: Harness, store: JobStore
) -> None:
    batch = await adopted(store)
    harness.clock.advance(POLICY.lease_seconds + 1)
    (heir,) = await store.batches.adopt(10)
    assert heir.token == batch.token + 1
    assert heir.marks == batch.marks
    with pytest.raises(LeaseLost):
        await store.batches.save(batch.lease, "orw")
    await store.batches.release([batch.lease])
    assert await store.batches.get(batch.batch_id) == heir


async def test_the_ends_of_a_batch_are_recorded_and_repeated_ends_too(harness: Harness, store: JobStore) -> None:
    batch = await adopted(store)
    harness.clock.advance(9)
    ended = await store.batches.save(batch.lease, "crf", is_ended=True)
    assert (ended.marks, ended.holder, ended.completed_at) == ("crf", None, harness.clock.now)
    assert ended.expires_at == harness.clock.now + POLICY.retention_seconds
    harness.clock.advance(1)
    assert await store.batches.save(batch.lease, "crf", is_ended=True) == ended
    with pytest.raises(LeaseLost):
        await store.batches.save(batch.lease, "crc")
    assert await store.batches.unfinished() == 0
    harness.clock.advance(POLICY.lease_seconds + 1)
    assert await store.batches.adopt(10) == []


async def test_a_cancellation_is_recorded_once_and_leaves_the_rest_to_the_holder(
    harness: Harness, store: JobStore
) -> None:
    batch = await adopted(store)
    harness.clock.advance(3)
    cancelled = await store.batches.cancel(batch.batch_id)
    assert cancelled == replace(batch, cancelled_at=harness.clock.now)
    harness.clock.advance(3)
    assert await store.batches.cancel(batch.batch_id) == cancelled
    ended = await store.batches.save(batch.lease, "xrx", is_ended=True)
    assert ended.cancelled_at == cancelled.cancelled_at


async def test_an_ended_batch_cannot_be_cancelled(store: JobStore) -> None:
    batch = await adopted(store)
    ended = await store.batches.save(batch.lease, "crc", is_ended=True)
    assert await store.batches.cancel(batch.batch_id) == ended


async def test_a_released_batch_is_due_at_once(harness: Harness, store: JobStore) -> None:
    batch = await adopted(store)
    await store.batches.release([batch.lease, replace(batch.lease, token=7)])
    released = await store.batches.get(batch.batch_id)
    assert released is not None
    assert (released.holder, released.due_at) == (None, harness.clock.now)
    with pytest.raises(LeaseLost):
        await store.batches.save(batch.lease, "orw")
    (heir,) = await store.batches.adopt(10)
    assert heir.token > batch.token
    await store.batches.release([])


async def test_no_more_batches_are_adopted_than_asked_for(store: JobStore) -> None:
    for number in range(5):
        await created(store, number)
    assert len(await store.batches.adopt(2)) == 2
    assert len(await store.batches.adopt(10)) == 3


async def test_a_client_has_a_bounded_number_of_unfinished_batches(store: JobStore) -> None:
    for number in range(MAX_UNFINISHED_OF_CLIENT):
        await created(store, number)
    assert await store.batches.create(new(99)) is Refusal.CLIENT_FULL
    assert await store.batches.get(new(99).batch_id) is None
    assert isinstance(await store.batches.create(new(98, client="addr:198.51.100.7")), Batch)
    (batch, *_) = await store.batches.adopt(1)
    await store.batches.save(batch.lease, "crc", is_ended=True)
    assert isinstance(await store.batches.create(new(99)), Batch)


async def test_an_ended_batch_expires_after_its_retention(harness: Harness, store: JobStore) -> None:
    batch = await adopted(store)
    other = await adopted(store, 2)
    await store.batches.save(batch.lease, "crc", is_ended=True)
    harness.clock.advance(POLICY.retention_seconds - 1)
    assert await store.batches.expire(10) == 0
    harness.clock.advance(2)
    assert await store.batches.expire(10) == 1
    assert await store.batches.get(batch.batch_id) is None
    assert await store.batches.items(batch.batch_id) == ()
    assert await store.batches.get(other.batch_id) is not None


async def test_a_job_of_a_batch_names_it(store: JobStore, ids: Ids) -> None:
    batch = await created(store)
    submission = replace(ids.submission(), batch_id=batch.batch_id)
    await submitted(store, submission)
    alone = ids.submission()
    await submitted(store, alone)
    assert (await ticket_of(store, submission.job_id)).job.batch_id == batch.batch_id
    assert (await ticket_of(store, alone.job_id)).job.batch_id is None


async def test_more_jobs_than_one_round_trip_reads_are_found(store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(number) for number in range(250)]
    for submission in submissions:
        await submitted(store, submission)
    unknown = ids.submission(999)
    asked = [submission.job_id for submission in (*submissions[:120], unknown, *submissions[120:])]
    found = (await store.get_many(asked)).tickets
    assert {job_id: ticket.job.job_id for job_id, ticket in found.items()} == {
        submission.job_id: submission.job_id for submission in submissions
    }


async def test_a_restarted_process_finds_the_batches_of_its_predecessor_due(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path / "jobs.db")
    batch = await adopted(await harness.open())
    store = await harness.open("b")
    (heir,) = await store.batches.adopt(10)
    assert (heir.batch_id, heir.holder, heir.marks) == (batch.batch_id, "b", batch.marks)
    assert await store.batches.items(batch.batch_id) == ITEMS
    await harness.close()


async def test_a_store_of_an_older_version_gets_the_tables_of_batches(tmp_path: Path) -> None:
    released = Path(__file__).parent / "released" / "0.2.0.sql"
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.executescript(released.read_text())
    connection.close()
    harness = SqliteHarness(tmp_path / "jobs.db")
    assert (await created(await harness.open())).marks == "wrw"
    await harness.close()


async def test_two_instances_never_hold_one_batch(redis_harness: RedisHarness) -> None:
    a, b = await redis_harness.open("a"), await redis_harness.open("b")
    for number in range(9):
        await created(a, number)
    held = [*await a.batches.adopt(4), *await b.batches.adopt(9)]
    assert len({batch.batch_id for batch in held}) == len(held) == 9


async def test_a_lease_from_before_the_clock_was_set_back_does_not_block_a_batch(redis_harness: RedisHarness) -> None:
    a, b = await redis_harness.open("a"), await redis_harness.open("b")
    batch = await adopted(a)
    redis_harness.set_clock(-86_400)
    (heir,) = await b.batches.adopt(10)
    assert heir.batch_id == batch.batch_id
