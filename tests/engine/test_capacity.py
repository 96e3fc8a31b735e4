"""Capacity: how many conversions are accepted, and that a refusal leaves nothing behind."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.core.values import conversion
from tests.engine.rig import OTHER, SOMEONE, Rig, engine, link, video
from tests.virtual_time import settled
from ytmp3.core.client import ApiKey, Client
from ytmp3.core.errors import (
    ClientQuota,
    FailureCode,
    QueueFull,
    StorageFull,
    StoreDown,
    StoreFull,
    StoreUnavailable,
    Unready,
)
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Job, Status
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.engine import events
from ytmp3.storage import Space


async def recorded(now: Rig) -> int:
    """Count the jobs in the store."""
    counts = await now.records.counts()
    return counts.pending + counts.processing + counts.completed + counts.failed + counts.cancelled


async def test_a_full_queue_refuses_at_once_and_stores_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=5) as now:
        jobs = [await now.running(video(0))] + [await now.submit(video(number)) for number in range(1, 6)]
        for number in range(100, 110):
            with pytest.raises(QueueFull) as refused:
                await now.submit(video(number))
            assert (refused.value.retry_after_seconds or 0) >= 1
        assert await recorded(now) == 6
        assert now.parts.queue.qsize() == 5
        now.converter.hold(video(0)).set()
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started.total() == 6


async def test_no_more_submissions_are_accepted_at_once_than_there_are_slots(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=7) as now:
        await now.running(video(0))
        results = await asyncio.gather(*(now.submit(video(n)) for n in range(1, 60)), return_exceptions=True)
        assert sum(isinstance(result, Job) for result in results) == 7
        assert sum(isinstance(result, QueueFull) for result in results) == 52
        assert await recorded(now) == 8


async def test_ten_thousand_racing_submissions_neither_lose_nor_exceed_slots(
    tmp_path: Path,
) -> None:
    """Forty at once for seven slots, 250 times; some callers go away meanwhile, and waiting jobs are cancelled."""
    chance = random.Random(5)
    async with engine(tmp_path, workers=1, queue_capacity=7) as now:
        await now.running(video(0))
        taken, waiting = 0, list[Job]()
        for round_number in range(250):
            free = now.parts.queue.free_slots
            videos = range(40 * round_number + 1, 40 * round_number + 41)
            calls = [asyncio.create_task(now.submit(video(number))) for number in videos]
            await asyncio.sleep(0)
            for call in chance.sample(calls, 3):
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            jobs = [result for result in results if isinstance(result, Job)]
            assert len(jobs) <= free
            assert len(jobs) + sum(isinstance(result, QueueFull) for result in results) >= 37
            assert now.parts.queue.qsize() <= 7
            taken += len(jobs)
            waiting += jobs
            chance.shuffle(waiting)
            for _ in range(chance.randint(0, len(waiting))):
                await now.parts.jobs.cancel(waiting.pop().job_id, None)
            assert now.parts.queue.qsize() == len(waiting) == 7 - now.parts.queue.free_slots
        assert taken > 500


async def test_a_full_queue_refuses_no_job_that_joins_a_conversion_or_finds_a_track(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=1) as now:
        await now.ended(await now.submit(video(9)))
        running = await now.running(video(0))
        waiting = await now.submit(video(1))
        with pytest.raises(QueueFull):
            await now.submit(video(2))
        assert (await now.submit(video(0))).conversion_id == running.conversion_id
        assert (await now.submit(video(1))).conversion_id == waiting.conversion_id
        cached = await now.parts.intake.submit(link(video(9)), DEFAULT_RECIPE, SOMEONE)
        assert cached.status is Status.COMPLETED
        assert now.parts.queue.free_slots == 0


async def test_a_submission_that_the_store_refuses_leaves_its_slot_free(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=2) as now:
        await now.running(video(0))
        now.store.broken["submit"] = StoreDown("no answer")
        for number in range(1, 10):
            with pytest.raises(StoreUnavailable):
                await now.submit(video(number))
        now.store.broken["submit"] = StoreFull("full")
        with pytest.raises(StorageFull):
            await now.submit(video(1))
        now.store.broken.clear()
        for _ in range(5):
            await now.submit(video(0))
        assert now.parts.queue.free_slots == 2
        assert now.parts.clients.unfinished_of(SOMEONE.owner) == 1


async def test_a_submission_whose_caller_goes_away_leaves_its_slot_free(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=2) as now:
        await now.running(video(0))
        arrival = now.store.held_calls["submit"] = asyncio.Event()
        calls = [asyncio.create_task(now.submit(video(number))) for number in (1, 2)]
        await settled()
        assert now.parts.queue.free_slots == 0
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        arrival.set()
        assert now.parts.queue.free_slots == 2


async def test_a_full_disk_refuses_new_conversions_only(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.ended(await now.submit(video(9)))
        running = await now.running(video(0))
        now.parts.health.space = Space(total_bytes=100 * 2**30, free_bytes=2**30)
        with pytest.raises(StorageFull) as refused:
            await now.submit(video(1))
        assert refused.value.retry_after_seconds == 60
        assert (await now.submit(video(0))).conversion_id == running.conversion_id
        assert (await now.submit(video(9))).deduplicated
        assert await now.parts.janitor.adopt() == 0
        now.parts.health.space = None


@pytest.mark.parametrize(
    ("total_gb", "free_gb", "set_gb", "is_low"),
    [
        (1000, 45, 0, False),  # 5 % of it would be 50 GB
        (1000, 17, 0, True),
        (100, 6, 0, False),
        (100, 4, 0, True),
        (10, 1, 0, True),
        (1000, 45, 60, True),
        (1000, 2, 1, False),
    ],
)
def test_the_reserve_is_a_share_of_the_disk_within_bounds(
    total_gb: int, free_gb: int, set_gb: int, *, is_low: bool
) -> None:
    gb = 10**9
    space = Space(total_bytes=total_gb * gb, free_bytes=free_gb * gb, set_reserve_bytes=set_gb * gb)
    assert space.is_low == is_low


async def test_an_instance_with_a_fault_refuses_new_conversions_only_and_adopts_none(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.ended(await now.submit(video(9)))
        running = await now.running(video(0))
        now.parts.health.storage_error = "the data folder cannot be used"
        with pytest.raises(Unready):
            await now.submit(video(1))
        assert (await now.submit(video(0))).conversion_id == running.conversion_id
        assert (await now.submit(video(9))).deduplicated
        assert await now.parts.janitor.adopt() == 0


async def test_a_client_has_no_more_unfinished_conversions_than_its_quota(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=3) as now:
        running = await now.running(video(0))
        for number in (1, 2):
            await now.submit(video(number))
        with pytest.raises(ClientQuota) as refused:
            await now.submit(video(3))
        assert (refused.value.retry_after_seconds or 0) >= 1
        await now.submit(video(3), OTHER)
        now.converter.hold(video(0)).set()
        await now.ended(running)
        await now.submit(video(4))


async def test_a_client_over_its_quota_gets_the_time_when_one_of_its_conversions_may_end(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1, random=random.Random(1).random) as now:
        ended = events.Failed(conversion=conversion(), code=FailureCode.LOST, reason="", seconds=30.0)
        for _ in range(100):
            # Many at one moment: a slot of the queue becomes free all the time, and says nothing about this client.
            now.parts.events.emit(ended)
        await now.running(video(0))
        await now.submit(video(1), Client(owner=ClientId("addr:198.51.100.1")))
        await now.submit(video(2), OTHER)
        for client, seconds in ((SOMEONE, 30), (OTHER, 90)):  # one runs, the other is the second to come
            waits = set()
            for number in range(50):
                with pytest.raises(ClientQuota) as refused:
                    await now.submit(video(3 + number), client)
                waits.add(refused.value.retry_after_seconds or 0)
            assert seconds <= min(waits)
            assert max(waits) <= 2 * seconds
            assert len(waits) > 10


async def test_submissions_at_once_do_not_slip_past_the_quota(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=100, client_max_jobs=5) as now:
        await now.running(video(0))
        results = await asyncio.gather(*(now.submit(video(n), OTHER) for n in range(1, 50)), return_exceptions=True)
        assert sum(isinstance(result, Job) for result in results) == 5
        assert sum(isinstance(result, ClientQuota) for result in results) == 44


async def test_a_key_may_have_a_quota_of_its_own(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1) as now:
        await now.running(video(0))
        known = Client(owner=ClientId("key:bob"), key=ApiKey(name="bob", digest=b"", max_jobs=2))
        plain = Client(owner=ClientId("key:eve"), key=ApiKey(name="eve", digest=b""))
        for number in (1, 2):
            await now.submit(video(number), known)
        with pytest.raises(ClientQuota):
            await now.submit(video(3), known)
        await now.submit(video(3), plain)
        with pytest.raises(ClientQuota):
            await now.submit(video(4), plain)
