"""The jobs of one client: joined ones count against its quota, and all of them against what the store keeps for it."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import OTHER, RETENTION_SECONDS, SOMEONE, Rig, engine, video
from tests.virtual_time import settled
from ytmp3.core.client import ApiKey, Client
from ytmp3.core.errors import ClientQuota, FailureCode, QueueFull, StoreDown, StoreUnavailable
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Job, Status
from ytmp3.engine import events
from ytmp3.engine.client_jobs import ELSEWHERE_SECONDS


async def refused(now: Rig, number: int, client: Client = SOMEONE) -> int:
    """Submit a video, which must be refused for the client's sake; return the Retry-After."""
    before = await jobs_in(now)
    with pytest.raises(ClientQuota) as error:
        await now.submit(video(number), client)
    assert await jobs_in(now) == before
    return error.value.retry_after_seconds or 0


async def until_retried(now: Rig, number: int) -> None:
    """Wait until so many attempts have failed."""
    while len(now.seen(events.Retried)) < number:
        await settled()


async def jobs_in(now: Rig) -> int:
    """Return the number of all jobs. Their states may change meanwhile, because conversions are running."""
    counts = await now.records.counts()
    return counts.pending + counts.processing + counts.completed + counts.failed + counts.cancelled


async def test_jobs_that_join_a_conversion_count_against_the_quota(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=5) as now:
        for _ in range(5):
            await now.running(video(0))
        assert await refused(now, 0) >= 1
        assert await refused(now, 1) >= 1
        # Others join it as before.
        for _ in range(5):
            await now.submit(video(0), OTHER)
        assert await refused(now, 0, OTHER) >= 1


async def test_joined_jobs_stop_counting_when_their_conversion_ends(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=3) as now:
        first = await now.running(video(0))
        for _ in range(3):
            await now.submit(video(0), OTHER)
        await refused(now, 1, OTHER)
        now.converter.hold(video(0)).set()
        await now.ended(first)
        assert now.parts.clients.unfinished_of(OTHER.owner) == 0
        await now.submit(video(1), OTHER)


async def test_a_cancelled_job_stops_counting_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=2) as now:
        await now.running(video(0))
        joined = [await now.submit(video(0), OTHER) for _ in range(2)]
        await refused(now, 0, OTHER)
        await now.parts.jobs.cancel(joined[0].job_id, None)
        await now.submit(video(0), OTHER)
        await refused(now, 0, OTHER)


async def test_conversions_that_wait_for_a_retry_count_against_the_quota_until_they_have_ended(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=2, client_max_jobs=3) as now:
        jobs = []
        for number in range(3):
            now.converter.fail(video(number), FailureCode.UPSTREAM_TIMEOUT)
            jobs.append(await now.submit(video(number)))
        await until_retried(now, 3)
        assert now.parts.clients.conversions_of(SOMEONE.owner) == 0
        await refused(now, 3)
        await now.parts.jobs.cancel(jobs[0].job_id, None)
        await now.submit(video(3))
        await asyncio.sleep(60.0)
        # Once more in the queue, each counts once, and when it has ended, not at all.
        await now.parts.janitor.adopt()
        for job in jobs[1:]:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.parts.clients.unfinished_of(SOMEONE.owner) == 0


async def test_a_retry_that_another_instance_has_adopted_counts_for_a_while(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1) as now:
        now.converter.fail(video(0), FailureCode.UPSTREAM_TIMEOUT)
        await now.submit(video(0))
        await until_retried(now, 1)
        await refused(now, 1)
        await asyncio.sleep(ELSEWHERE_SECONDS + 60.0)
        await now.submit(video(1))
        assert not now.parts.clients.retrying._clients


async def test_items_that_wait_for_a_retry_do_not_stop_a_batch(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=2, queue_capacity=1000) as now:
        room = now.parts.capacity.batch_room(SOMEONE)
        now.converter.fail(video(0), FailureCode.UPSTREAM_TIMEOUT)
        await now.submit(video(0))
        await until_retried(now, 1)
        assert now.parts.capacity.batch_room(SOMEONE) == room
        limited = Client(owner=SOMEONE.owner, key=ApiKey(name="someone", digest=b"", max_jobs=5))
        assert now.parts.capacity.batch_room(limited) == 5 - 1


async def test_a_client_over_its_quota_may_have_a_finished_track(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1) as now:
        await now.ended(await now.submit(video(9), OTHER))
        await now.running(video(0))
        assert (await now.submit(video(9))).deduplicated
        await refused(now, 0)


async def test_a_client_without_a_quota_joins_as_often_as_it_likes(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(video(0))
        for _ in range(30):
            await now.submit(video(0))
        assert now.parts.clients.joined.count(SOMEONE.owner) == 0  # nothing is kept of clients without a quota
    async with engine(tmp_path, workers=1, client_max_jobs=1) as now:
        known = Client(owner=ClientId("key:bob"), key=ApiKey(name="bob", digest=b"", max_jobs=4))
        await now.running(video(1))
        for _ in range(4):
            await now.submit(video(1), known)
        await refused(now, 1, known)


async def test_a_full_queue_still_lets_a_client_within_its_quota_join(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=1, client_max_jobs=4) as now:
        await now.running(video(0))
        await now.submit(video(1))
        with pytest.raises(QueueFull):
            await now.submit(video(2), OTHER)
        await now.submit(video(0), OTHER)


async def test_a_job_on_a_conversion_of_another_instance_counts_for_a_while(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=1) as now:
        first = await now.running(video(0))
        await now.submit(video(0), OTHER)
        # As if another instance had adopted it: here it neither runs nor waits.
        (run,) = now.parts.runs
        await now.records.release([run.conversion.lease])
        (adopted,) = await now.records.adopt(1)
        await settled()
        await asyncio.sleep(ELSEWHERE_SECONDS - 10.0)
        assert now.parts.runs.active == 0
        await refused(now, 1, OTHER)
        await asyncio.sleep(20.0)
        await now.submit(video(1), OTHER)
        assert adopted.conversion_id == first.conversion_id


async def test_nothing_is_kept_of_clients_that_do_not_return(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_jobs=5) as now:
        first = await now.running(video(0))
        for number in range(50):
            await now.submit(video(0), Client(owner=ClientId(f"addr:192.0.2.{number}")))
        joined = now.parts.clients.joined
        assert len(joined._by_client) == 50
        now.converter.hold(video(0)).set()
        await now.ended(first)
        assert not joined._by_client
        assert not joined._by_conversion


async def test_a_submission_that_stores_no_job_costs_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=1, client_max_kept_jobs=10) as now:
        await now.running(video(0))
        await now.submit(video(1))
        for _ in range(20):
            with pytest.raises(QueueFull):
                await now.submit(video(2), OTHER)
        now.store.broken["submit"] = StoreDown("no answer")
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await now.submit(video(0), OTHER)
        now.store.broken.clear()
        for _ in range(5):
            await now.submit(video(0), OTHER)
        await refused(now, 0, OTHER)


async def test_no_client_makes_more_jobs_than_the_store_keeps_for_it(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, client_max_kept_jobs=100) as now:
        await now.ended(await now.submit(video(9), OTHER))
        made = 0
        for _ in range(12):
            results = await asyncio.gather(*(now.submit(video(9)) for _ in range(60)), return_exceptions=True)
            made += sum(isinstance(result, Job) for result in results)
            assert all(isinstance(result, Job | ClientQuota) for result in results)
            await asyncio.sleep(RETENTION_SECONDS / 12)
        assert 90 <= made <= 100
        while isinstance((await asyncio.gather(now.submit(video(9)), return_exceptions=True))[0], Job):
            pass
        assert 1 <= await refused(now, 9) <= 300
        assert (await now.ended(await now.submit(video(9), OTHER))).status is Status.COMPLETED
