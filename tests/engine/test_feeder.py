"""Feeding batches: how many jobs are unfinished at once, and what happens after crashes, cancellations and refusals."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.engine.batch_steps import batch_of, ended, state, turn, videos
from tests.engine.rig import LEASE_SECONDS, MUCH_SPACE, OTHER, SOMEONE, Rig, engine, video
from tests.fakes import Fault
from tests.virtual_time import settled
from ytmp3.core.batch import LONGEST_SECONDS, Batch, BatchStatus, ItemStatus
from ytmp3.core.errors import BatchQuota, BatchUnknown, FailureCode, NothingToConvert, StoreDown, TooManyItems
from ytmp3.core.job import Ticket
from ytmp3.engine import events
from ytmp3.engine.feeder import FEED_SECONDS, MAX_OPEN, OPEN_ITEMS
from ytmp3.jobstore.batches import MAX_UNFINISHED_OF_CLIENT
from ytmp3.storage import Space


async def test_every_item_is_converted_once_and_the_batch_completes(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        batch_id = await batch_of(rig, [*videos(50), "not a link", *videos(2)])
        now = await ended(rig, batch_id)
        assert now.batch.status is BatchStatus.COMPLETED
        assert now.counts == Counter(completed=50, refused=1, duplicate=2)
        assert rig.converter.started == Counter(videos(50))
        assert now.eta_seconds is None
        assert [event.batch.batch_id for event in rig.seen(events.BatchEnded)] == [batch_id]  # type: ignore[union-attr]


async def test_some_failures_are_normal(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.failing[video(2)] = FailureCode.PRIVATE
        now = await ended(rig, await batch_of(rig, videos(3)))
        assert now.batch.status is BatchStatus.COMPLETED
        assert now.counts == Counter(completed=2, failed=1)


async def test_a_batch_uses_at_most_half_of_the_queue(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3, queue_capacity=10) as rig:
        for name in videos(50):
            rig.converter.hold(name)
        batch_id = await batch_of(rig, videos(50))
        for _ in range(10):
            await turn(rig)
        assert len(rig.converter.running) == 3
        assert rig.parts.queue.qsize() <= 5
        assert (await state(rig, batch_id)).counts[ItemStatus.WAITING] >= 50 - 8
        for name in videos(50):
            rig.converter.hold(name).set()
        assert (await ended(rig, batch_id)).counts == Counter(completed=50)


async def test_all_batches_of_a_client_share_its_part_and_others_are_served(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3, queue_capacity=1000) as rig:
        for name in videos(200):
            rig.converter.hold(name)
        for first in (1, 31, 61):
            await batch_of(rig, videos(30, first))
        other = await batch_of(rig, videos(5, 100), OTHER)
        for _ in range(5):
            await turn(rig)
        by_client = Counter(rig.parts.queue.clients())
        by_client.update(run.conversion.client for run in rig.parts.runs)
        assert by_client == {SOMEONE.owner: 20, OTHER.owner: 5}
        assert (await state(rig, other)).counts[ItemStatus.WAITING] == 0


async def test_the_quota_of_a_client_is_respected_and_nothing_is_lost(tmp_path: Path) -> None:
    async with engine(tmp_path, client_max_jobs=2) as rig:
        rig.converter.hold(video(99))
        await rig.submit(video(99))
        batch_id = await batch_of(rig, videos(6))
        await turn(rig)
        assert (await state(rig, batch_id)).counts[ItemStatus.WAITING] == 5
        now = await ended(rig, batch_id)
        assert now.counts == Counter(completed=6)


async def test_refused_submissions_are_repeated(tmp_path: Path) -> None:
    """The room is taken by others between the decision and the submission."""
    async with engine(tmp_path, workers=1, queue_capacity=4) as rig:
        rig.converter.hold(video(90))
        await rig.submit(video(90))
        await settled()
        batch_id = await batch_of(rig, videos(4))
        arrival = rig.store.held_calls["batches.save"] = asyncio.Event()
        feeding = asyncio.create_task(rig.parts.feeder.feed())
        await settled()
        for number in range(91, 95):
            await rig.submit(video(number))
        arrival.set()
        await feeding
        assert (await state(rig, batch_id)).counts == Counter(pending=2, waiting=2)
        assert rig.parts.queue.clients()[SOMEONE.owner] == 4, "only the single jobs"
        rig.converter.hold(video(90)).set()
        assert (await ended(rig, batch_id)).counts == Counter(completed=4)


async def test_finished_tracks_end_their_items_within_one_turn(tmp_path: Path) -> None:
    async with engine(tmp_path, queue_capacity=200) as rig:
        await ended(rig, await batch_of(rig, videos(60)))
        again = await batch_of(rig, videos(60))
        await turn(rig)
        assert (await state(rig, again)).counts == Counter(completed=60)
        assert rig.converter.started == Counter(videos(60))


async def test_nothing_opens_while_the_disk_is_full(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.parts.health.space = Space(total_bytes=10**12, free_bytes=1)
        batch_id = await batch_of(rig, videos(2))
        await turn(rig)
        assert (await state(rig, batch_id)).counts == Counter(waiting=2)
        rig.parts.health.space = MUCH_SPACE
        assert (await ended(rig, batch_id)).counts == Counter(completed=2)


# Cancelling


async def test_a_cancelled_batch_stops_its_jobs_and_keeps_finished_tracks(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3) as rig:
        for name in videos(20, 3):
            rig.converter.hold(name)
        batch_id = await batch_of(rig, videos(22))
        for _ in range(3):
            await turn(rig)
        before = await state(rig, batch_id)
        assert before.counts[ItemStatus.COMPLETED] == 2
        cancelled = await rig.parts.batches.cancel(batch_id, None)
        assert cancelled.batch.status is BatchStatus.CANCELLED
        assert cancelled.counts[ItemStatus.WAITING] == 0
        await turn(rig)
        now = await state(rig, batch_id)
        assert now.counts == Counter(completed=2, cancelled=20)
        assert now.batch.completed_at is not None
        assert not rig.converter.running
        assert rig.parts.queue.qsize() == 0
        assert await rig.parts.batches.cancel(batch_id, None) == now
        assert len(rig.seen(events.BatchCancelled)) == 1


async def test_a_job_that_others_share_goes_on(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        job = await rig.running(video(1))
        batch_id = await batch_of(rig, videos(1))
        await turn(rig)
        await rig.parts.batches.cancel(batch_id, None)
        await turn(rig)
        assert (await state(rig, batch_id)).counts == Counter(cancelled=1)
        rig.converter.hold(video(1)).set()
        await rig.ended(job)
        await rig.check_completed(job)


async def test_a_cancelled_item_ends_alone(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.converter.hold(video(1))
        batch_id = await batch_of(rig, videos(3))
        await turn(rig)
        page = await rig.parts.batches.items(batch_id, None, start=0, limit=10)
        assert page.items[0].ticket is not None
        await rig.parts.jobs.cancel(page.items[0].ticket.job.job_id, None)
        assert (await ended(rig, batch_id)).counts == Counter(completed=2, cancelled=1)


# Crashes


@pytest.mark.parametrize("call", range(1, 26))
@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
async def test_a_crash_at_any_call_loses_no_item_and_converts_none_twice(
    tmp_path: Path, call: int, fault: Fault
) -> None:
    links = [*videos(6), video(2), "no link"]
    async with engine(tmp_path, queue_capacity=4, workers=2) as dead:
        batch_id = await batch_of(dead, links)
        dead.store.faults[len(dead.store.calls) + call] = fault
        for _ in range(12):
            try:
                await turn(dead)
            except Exception:  # noqa: BLE001  the instance is dead
                break
            await asyncio.sleep(FEED_SECONDS)
        await dead.kill()
    finished = list(dead.converter.converted)
    async with engine(
        tmp_path, instance="b", queue_capacity=4, workers=2, clock=dead.clock, converter=dead.converter
    ) as heir:
        now = await ended(heir, batch_id)
        assert now.counts == Counter(completed=6, duplicate=1, refused=1)
        counts = await heir.records.counts()
        assert counts.completed == 6, "one job for each video"
        published = {ticket.conversion.video_id for ticket in await _tickets(heir, batch_id)}
        assert published == set(videos(6))
        assert len(heir.tracks()) >= 6
        assert set(finished) <= set(videos(6))


async def _tickets(rig: Rig, batch_id: str) -> list[Ticket]:
    page = await rig.parts.batches.items(batch_id, None, start=0, limit=100)
    return [item.ticket for item in page.items if item.ticket is not None]


async def test_an_instance_that_was_frozen_feeds_a_lost_batch_no_more(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        for name in videos(9):
            rig.converter.hold(name)
        batch_id = await batch_of(rig, videos(9))
        await turn(rig)
        rig.clock.advance(LEASE_SECONDS + 1)
        (heir,) = await rig.records.batches.adopt(10)
        assert heir.batch_id == batch_id
        assert rig.parts.feeder.held == 1
        await turn(rig)
        assert rig.parts.feeder.held == 0
        assert await rig.records.batches.get(heir.batch_id) == heir


async def test_jobs_submitted_after_a_lost_cancellation_are_cancelled(tmp_path: Path) -> None:
    """The instance is frozen between its write and its submissions. Meanwhile another one ends the cancelled batch."""
    async with engine(tmp_path) as rig:
        rig.converter.hold(video(1))
        batch_id = await batch_of(rig, videos(1))
        arrival = rig.store.held_calls["submit"] = asyncio.Event()
        feeding = asyncio.create_task(rig.parts.feeder.feed())
        await settled()
        rig.clock.advance(LEASE_SECONDS + 1)
        (heir,) = await rig.records.batches.adopt(10)
        await rig.records.batches.cancel(heir.batch_id)
        await rig.records.batches.save(heir.lease, "x", is_ended=True)
        arrival.set()
        await feeding
        await settled()
        assert rig.converter.running == {video(1)}
        await turn(rig)
        assert not rig.converter.running
        assert (await state(rig, batch_id)).counts == Counter(cancelled=1)


async def test_a_draining_instance_gives_its_batches_back(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        for name in videos(3):
            rig.converter.hold(name)
        batch_id = await batch_of(rig, videos(3))
        await turn(rig)
        rig.parts.health.is_draining = True
        await turn(rig)
        assert rig.parts.feeder.held == 0
        stored = (await state(rig, batch_id)).batch
        assert (stored.holder, stored.completed_at) == (None, None)
        assert stored.due_at <= rig.clock()


async def test_an_outage_of_the_store_only_delays_a_batch(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        rig.parts.feeder.start()
        batch_id = await batch_of(rig, videos(9))
        rig.store.broken["batches.save"] = rig.store.broken["submit"] = StoreDown("no answer")
        await asyncio.sleep(20 * FEED_SECONDS)
        assert (await state(rig, batch_id)).counts[ItemStatus.COMPLETED] == 0
        rig.store.broken.clear()
        await asyncio.sleep(20 * FEED_SECONDS)
        await settled()
        assert (await state(rig, batch_id)).counts == Counter(completed=9)


async def test_unreadable_jobs_do_not_stop_their_batch(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        batch_id = await batch_of(rig, videos(OPEN_ITEMS + 10))
        batch = (await state(rig, batch_id)).batch
        items = await rig.records.batches.items(batch.batch_id)
        rig.store.unread = {batch.job_id(item) for item in items[:OPEN_ITEMS]}
        for _ in range(10):
            await turn(rig)
            await asyncio.sleep(LEASE_SECONDS / 4)
        now = await state(rig, batch_id)
        assert now.counts == Counter(completed=10, pending=OPEN_ITEMS)
        assert now.batch.lease.token == (await _adopted(rig)).lease.token, "its lease was never lost"
        rig.store.unread = set()
        assert (await ended(rig, batch_id)).counts == Counter(completed=OPEN_ITEMS + 10)


async def _adopted(rig: Rig) -> Batch:
    """Return the batch as it was adopted for the first time."""
    (first, *_) = rig.seen(events.BatchesAdopted)
    assert isinstance(first, events.BatchesAdopted)
    return first.batches[0]


async def test_few_items_are_opened_while_none_can_be_read(tmp_path: Path) -> None:
    async with engine(tmp_path, queue_capacity=1000) as rig:
        batch_id = await batch_of(rig, videos(MAX_OPEN + 1))
        batch = (await state(rig, batch_id)).batch
        items = await rig.records.batches.items(batch.batch_id)
        rig.store.unread = {batch.job_id(item) for item in items}
        for _ in range(10):
            await turn(rig)
        assert (await state(rig, batch_id)).counts == Counter(pending=MAX_OPEN, waiting=1)


async def test_a_cancelled_batch_ends_when_its_last_job_can_be_cancelled(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3) as rig:
        for name in videos(3):
            rig.converter.hold(name)
        batch_id = await batch_of(rig, videos(3))
        await turn(rig)
        batch = (await state(rig, batch_id)).batch
        first, *_ = await rig.records.batches.items(batch.batch_id)
        rig.store.unread = {batch.job_id(first)}
        await rig.parts.batches.cancel(batch_id, None)
        await turn(rig)
        assert rig.converter.running == {video(1)}
        assert (await state(rig, batch_id)).batch.completed_at is None
        rig.store.unread = set()
        await turn(rig)
        assert not rig.converter.running
        now = await state(rig, batch_id)
        assert now.counts == Counter(cancelled=3)
        assert now.batch.completed_at is not None


async def test_a_batch_whose_tracks_cannot_be_kept_ends_later(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        batch_id = await batch_of(rig, videos(2))
        rig.store.broken["batches.keep"] = StoreDown("no answer")
        for _ in range(10):
            await turn(rig)
            await asyncio.sleep(LEASE_SECONDS / 4)
        now = await state(rig, batch_id)
        assert (now.counts, now.batch.completed_at) == (Counter(completed=2), None)
        assert now.batch.lease.token == (await _adopted(rig)).lease.token, "its lease was never lost"
        rig.store.broken.clear()
        assert (await ended(rig, batch_id)).counts == Counter(completed=2)


# Bounds


async def test_items_that_wait_for_a_week_are_given_up(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        batch_id = await batch_of(rig, videos(2))
        rig.parts.health.space = Space(total_bytes=10**12, free_bytes=1)
        await turn(rig)
        rig.clock.advance(LONGEST_SECONDS)
        await asyncio.sleep(LEASE_SECONDS)
        for _ in range(3):
            await turn(rig)
            await asyncio.sleep(LEASE_SECONDS / 2)
        assert (await state(rig, batch_id)).counts == Counter(failed=2)
        page = await rig.parts.batches.items(batch_id, None, start=0, limit=1)
        assert page.items[0].code == FailureCode.EXPIRED_WAITING
        assert page.items[0].message


async def test_a_batch_without_a_video_and_one_with_too_many_are_refused(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        with pytest.raises(NothingToConvert):
            await batch_of(rig, ["https://example.org/a", ""])
        with pytest.raises(TooManyItems):
            await batch_of(rig, videos(1001))
        assert await rig.records.batches.unfinished() == 0


async def test_a_client_has_a_bounded_number_of_batches(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        for _ in range(MAX_UNFINISHED_OF_CLIENT):
            await batch_of(rig, videos(1))
        with pytest.raises(BatchQuota) as refusal:
            await batch_of(rig, videos(1))
        assert refusal.value.retry_after_seconds


async def test_another_owner_sees_no_batch(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        batch_id = await batch_of(rig, videos(1))
        for text in (batch_id, "0" * 34, "x"):
            with pytest.raises(BatchUnknown):
                await rig.parts.batches.read(text, OTHER.owner)
        assert (await rig.parts.batches.read(batch_id, SOMEONE.owner)).batch.batch_id == batch_id


async def test_ended_batches_are_removed_after_their_retention(tmp_path: Path) -> None:
    async with engine(tmp_path) as rig:
        now = await ended(rig, await batch_of(rig, videos(1)))
        assert await rig.parts.feeder.expire() == 0
        rig.clock.advance(now.batch.retention_seconds + 1)
        assert await rig.parts.feeder.expire() == 1
        with pytest.raises(BatchUnknown):
            await state(rig, now.batch.batch_id)
