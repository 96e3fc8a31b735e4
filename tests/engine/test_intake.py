"""Intake: what is taken, what is refused, and that a refusal leaves nothing behind."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.engine.rig import SOMEONE, Engine, engine, link, until, video
from ytmp3.core.client import ApiKey, Client
from ytmp3.core.errors import (
    ClientQuota,
    Draining,
    JobUnknown,
    NotAVideo,
    QueueFull,
    StorageFull,
    StoreDown,
    StoreFull,
    StoreUnavailable,
    UnsupportedUrl,
)
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Job, Status
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.jobstore import Counts
from ytmp3.storage import Space

OTHER = Client(owner=ClientId("addr:198.51.100.9"))


async def busy(now: Engine) -> Job:
    """Give the one worker something that does not end."""
    now.converter.hold(video(0))
    job = await now.submit(video(0))
    await until(lambda: now.parts.runs.active == 1)
    return job


async def recorded(now: Engine) -> int:
    counts: Counts = await now.records.counts()
    return counts.pending + counts.processing + counts.completed + counts.failed + counts.cancelled


async def test_a_full_queue_refuses_at_once_and_stores_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=5) as now:
        jobs = [await busy(now)] + [await now.submit(video(number)) for number in range(1, 6)]
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


async def test_in_a_race_no_more_are_taken_than_there_are_slots(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=7) as now:
        await busy(now)
        answers = await asyncio.gather(*(now.submit(video(n)) for n in range(1, 60)), return_exceptions=True)
        assert sum(isinstance(answer, Job) for answer in answers) == 7
        assert sum(isinstance(answer, QueueFull) for answer in answers) == 52
        assert await recorded(now) == 8


async def test_in_ten_thousand_races_for_slots_no_more_are_taken_than_there_are(tmp_path: Path) -> None:
    """L05: forty at once for seven slots, some are cancelled while they wait for the store, and slots become free."""
    chance = random.Random(5)
    async with engine(tmp_path, workers=1, capacity=7) as now:
        await busy(now)
        taken, waiting = 0, list[Job]()
        for round_number in range(250):
            free = now.parts.queue.free_slots
            videos = range(40 * round_number + 1, 40 * round_number + 41)
            calls = [asyncio.create_task(now.submit(video(number))) for number in videos]
            await asyncio.sleep(0)
            for call in chance.sample(calls, 3):
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            jobs = [answer for answer in answers if isinstance(answer, Job)]
            assert len(jobs) <= free
            assert len(jobs) + sum(isinstance(answer, QueueFull) for answer in answers) >= 37
            assert now.parts.queue.qsize() <= 7
            taken += len(jobs)
            waiting += jobs
            chance.shuffle(waiting)
            for _ in range(chance.randint(0, len(waiting))):
                await now.parts.jobs.cancel(waiting.pop().job_id, None)
            assert now.parts.queue.qsize() == len(waiting) == 7 - now.parts.queue.free_slots
        assert taken > 500


async def test_who_joins_or_finds_a_track_is_not_refused_for_a_full_queue(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=1) as now:
        await now.ended(await now.submit(video(9)))
        running = await busy(now)
        waiting = await now.submit(video(1))
        with pytest.raises(QueueFull):
            await now.submit(video(2))
        assert (await now.submit(video(0))).conversion_id == running.conversion_id
        assert (await now.submit(video(1))).conversion_id == waiting.conversion_id
        cached = await now.parts.intake.submit(link(video(9)), DEFAULT_RECIPE, SOMEONE)
        assert cached.status is Status.COMPLETED
        assert now.metric("ytmp3_jobs_total", outcome="cached") == 1
        assert now.parts.queue.free_slots == 0


async def test_a_refused_slot_is_free_again(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=2) as now:
        await busy(now)
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
        assert now.parts.capacity.unfinished_of(SOMEONE.owner) == 1


async def test_a_caller_who_goes_away_leaves_no_slot_behind(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=2) as now:
        await busy(now)
        arrival = now.store.held_calls["submit"] = asyncio.Event()
        calls = [asyncio.create_task(now.submit(video(number))) for number in (1, 2)]
        await until(lambda: now.parts.queue.free_slots == 0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        arrival.set()
        assert now.parts.queue.free_slots == 2


async def test_without_space_new_work_is_refused_and_the_rest_is_served(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.ended(await now.submit(video(9)))
        running = await busy(now)
        now.parts.health.space = Space(total_bytes=100 * 2**30, free_bytes=2**30)
        with pytest.raises(StorageFull) as refused:
            await now.submit(video(1))
        assert refused.value.retry_after_seconds == 60
        assert (await now.submit(video(0))).conversion_id == running.conversion_id
        assert (await now.submit(video(9))).deduplicated
        assert await now.parts.janitor.adopt() == 0
        now.parts.health.space = None
        now.parts.health.storage_error = "the data folder cannot be read"
        with pytest.raises(StorageFull):
            await now.submit(video(1))


async def test_a_draining_instance_takes_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.health.is_draining = True
        with pytest.raises(Draining) as refused:
            await now.submit(video(1))
        assert refused.value.retry_after_seconds
        assert now.store.calls == []


@pytest.mark.parametrize(("text", "error"), [("file:///etc/passwd", UnsupportedUrl), ("https://youtu.be/", NotAVideo)])
async def test_a_refused_link_does_not_reach_the_store(tmp_path: Path, text: str, error: type[Exception]) -> None:
    async with engine(tmp_path) as now:
        with pytest.raises(error):
            await now.parts.intake.submit(text, DEFAULT_RECIPE, SOMEONE)
        assert now.store.calls == []


# Quota


async def test_a_client_has_no_more_unfinished_than_its_quota(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=3) as now:
        running = await busy(now)
        for number in (1, 2):
            await now.submit(video(number))
        with pytest.raises(ClientQuota) as refused:
            await now.submit(video(3))
        assert (refused.value.retry_after_seconds or 0) >= 1
        assert (await now.submit(video(0))).conversion_id == running.conversion_id
        await now.submit(video(3), OTHER)
        now.converter.hold(video(0)).set()
        await now.ended(running)
        await until(lambda: now.parts.capacity.unfinished_of(SOMEONE.owner) < 3)
        await now.submit(video(4))


async def test_whoever_is_over_its_quota_is_told_when_its_own_may_have_ended(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1, random=random.Random(1).random) as now:
        for _ in range(100):
            now.parts.estimates._pace.ended(30.0, 0.0)  # many at once: for the queue there is a slot every moment
        await busy(now)
        await now.submit(video(1), Client(owner=ClientId("addr:198.51.100.1")))
        await now.submit(video(2), OTHER)
        for client, seconds in ((SOMEONE, 30), (OTHER, 90)):  # one is running, the other's is the second to come
            told = set()
            for number in range(50):
                with pytest.raises(ClientQuota) as refused:
                    await now.submit(video(3 + number), client)
                told.add(refused.value.retry_after_seconds or 0)
            assert seconds <= min(told)
            assert max(told) <= 2 * seconds
            assert len(told) > 10


async def test_a_burst_does_not_slip_past_the_quota(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=100, client_max_jobs=5) as now:
        await busy(now)
        answers = await asyncio.gather(*(now.submit(video(n), OTHER) for n in range(1, 50)), return_exceptions=True)
        assert sum(isinstance(answer, Job) for answer in answers) == 5
        assert sum(isinstance(answer, ClientQuota) for answer in answers) == 44


async def test_a_key_may_have_a_quota_of_its_own(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1) as now:
        await busy(now)
        known = Client(owner=ClientId("key:bob"), key=ApiKey(name="bob", digest=b"", max_jobs=2))
        plain = Client(owner=ClientId("key:eve"), key=ApiKey(name="eve", digest=b""))
        for number in (1, 2):
            await now.submit(video(number), known)
        with pytest.raises(ClientQuota):
            await now.submit(video(3), known)
        await now.submit(video(3), plain)
        with pytest.raises(ClientQuota):
            await now.submit(video(4), plain)


# A track that is not there any more


async def test_a_cached_track_whose_file_is_missing_is_made_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = await now.submit(video(1))
        await now.ended(first)
        for name in now.tracks():
            now.storage.path(name).unlink()
        second = await now.submit(video(1))
        assert second.conversion_id != first.conversion_id
        await now.ended(second)
        await now.check_completed(second)
        assert now.converter.started[video(1)] == 2


async def test_a_cached_track_of_the_wrong_size_is_made_again_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.ended(await now.submit(video(1)))
        for name in now.tracks():
            now.storage.path(name).write_bytes(b"short")
        jobs = await asyncio.gather(*(now.submit(video(1)) for _ in range(20)))
        for job in jobs:
            await now.ended(job)
            await now.check_completed(job)
        assert len({job.conversion_id for job in jobs}) == 1
        assert now.converter.started[video(1)] == 2


async def test_a_missing_track_and_a_full_queue_is_a_refusal(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=1) as now:
        await now.ended(await now.submit(video(9)))
        await busy(now)
        await now.submit(video(1))
        for name in now.tracks():
            now.storage.path(name).unlink()
        with pytest.raises(QueueFull):
            await now.submit(video(9))


# Tickets


@pytest.mark.parametrize("job_id", ["", "x", "A" * 34, "0" * 33, "0" * 35, "../" * 11 + "a", "0" * 34 + "\n", "0" * 34])
async def test_an_id_that_never_was_is_unknown(tmp_path: Path, job_id: str) -> None:
    async with engine(tmp_path) as now:
        with pytest.raises(JobUnknown):
            await now.parts.jobs.ticket(job_id, None)
        with pytest.raises(JobUnknown):
            await now.parts.jobs.cancel(job_id, None)
        # Only what has the form of an id is looked up at all.
        assert now.store.calls == (["get", "get"] if job_id == "0" * 34 else [])


async def test_another_clients_job_is_unknown(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.hold(video(1))
        job = await now.submit(video(1))
        assert (await now.parts.jobs.ticket(job.job_id, SOMEONE.owner)).job == job
        with pytest.raises(JobUnknown):
            await now.parts.jobs.ticket(job.job_id, OTHER.owner)
        with pytest.raises(JobUnknown):
            await now.parts.jobs.cancel(job.job_id, OTHER.owner)
        assert "cancel" not in now.store.calls


async def test_a_job_that_expires_while_it_is_cancelled_is_unknown(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(video(1))
        await now.ended(job)
        arrival = now.store.held_calls["cancel"] = asyncio.Event()
        cancel = asyncio.create_task(now.parts.jobs.cancel(job.job_id, None))
        await until(lambda: "cancel" in now.store.calls)
        now.clock.advance(1e6)
        await now.records.expire(10)
        arrival.set()
        with pytest.raises(JobUnknown):
            await cancel


async def test_a_finished_job_can_be_cancelled_and_its_neighbour_keeps_the_track(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await now.submit(video(1)) for _ in range(2)]
        await now.ended(jobs[0])
        assert (await now.parts.jobs.cancel(jobs[0].job_id, None)).status is Status.CANCELLED
        await now.check_completed(jobs[1])


async def test_a_store_that_does_not_answer_is_no_unknown_job(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(video(1))
        now.store.broken["get"] = StoreDown("no answer")
        with pytest.raises(StoreUnavailable) as refused:
            await now.parts.jobs.ticket(job.job_id, None)
        assert refused.value.retry_after_seconds
