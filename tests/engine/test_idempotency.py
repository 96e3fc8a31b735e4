"""A request that is repeated with its idempotency key gets the job of the first one, whatever happened in between."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.lost_calls import lose_each_call
from tests.engine.rig import OTHER, RETENTION_SECONDS, SOMEONE, Rig, engine, link, video
from tests.fakes import Fault
from tests.virtual_time import settled
from ytmp3.core.client import Client
from ytmp3.core.errors import FailureCode, IdempotencyKeyReused, QueueFull
from ytmp3.core.job import Job, Status
from ytmp3.core.recipe import DEFAULT_RECIPE, Quality, Recipe
from ytmp3.engine import events
from ytmp3.engine.idempotency import UNFINISHED_SECONDS, Idempotency

VIDEO = video(1)


async def submit(
    now: Rig,
    video_id: str = VIDEO,
    *,
    key: str = "k",
    client: Client = SOMEONE,
    request: bytes = b"",
    recipe: Recipe = DEFAULT_RECIPE,
) -> Job:
    idempotency = Idempotency(key=key, request=request)
    return (await now.parts.intake.submit(link(video_id), recipe, client, idempotency=idempotency)).job


async def test_a_repeated_request_gets_the_same_job_in_every_state(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        may_convert = now.converter.hold(VIDEO)
        first = await submit(now)
        assert await submit(now) == first
        await settled()
        assert await submit(now) == first, "while it runs"
        may_convert.set()
        await now.ended(first)
        assert await submit(now) == first, "when it is done"
        await now.parts.jobs.cancel(first.job_id, None)
        assert (await now.ticket(await submit(now))).status is Status.CANCELLED
        assert (now.converter.started[VIDEO], len(now.seen(events.Accepted))) == (1, 1)


async def test_requests_at_the_same_time_make_one_job(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = await asyncio.gather(*(submit(now) for _ in range(20)))
        assert len({job.job_id for job in jobs}) == 1
        await now.check_completed(await _ended(now, jobs[0]))
        assert now.converter.order == [VIDEO]
        assert now.parts.queue.free_slots == 10


async def _ended(now: Rig, job: Job) -> Job:
    await now.ended(job)
    return job


async def test_another_request_with_the_key_is_refused_and_other_clients_have_their_own_keys(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = await submit(now, request=b"1")
        for different in (
            {"video_id": video(2), "request": b"1"}, {"request": b"2"},
            {"request": b"1", "recipe": Recipe(quality=Quality.V0)},
        ):  # fmt: skip
            with pytest.raises(IdempotencyKeyReused):
                await submit(now, **different)
        assert await submit(now, request=b"1") == first
        assert await submit(now, key="l", request=b"2") != first
        assert await submit(now, client=OTHER, request=b"3") != first


async def test_the_key_ends_with_its_job(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = await _ended(now, await submit(now))
        now.clock.advance(RETENTION_SECONDS + 1)
        await now.parts.janitor.expire()
        second = await _ended(now, await submit(now, video(2)))
        assert second != first
        assert await submit(now, video(2)) == second


async def test_a_request_that_was_refused_leaves_a_key_for_its_repetition(tmp_path: Path) -> None:
    async with engine(tmp_path, queue_capacity=1, workers=1) as now:
        now.converter.hold(VIDEO)
        await now.submit(VIDEO)
        await settled()
        await now.submit(video(2))
        for _ in range(2):
            with pytest.raises(QueueFull):
                await submit(now, video(3))
        now.converter.held[VIDEO].set()
        await settled()
        job = await _ended(now, await submit(now, video(3)))
        assert await submit(now, video(3)) == job
        # A key whose request has made nothing is free after a while.
        now.converter.hold(video(4))
        await now.submit(video(4))
        await settled()
        await now.submit(video(5))
        with pytest.raises(QueueFull):
            await submit(now, video(6), key="m")
        now.clock.advance(UNFINISHED_SECONDS)
        with pytest.raises(QueueFull):
            await submit(now, video(7), key="m")


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REPLY])
async def test_after_any_lost_call_a_repetition_makes_exactly_one_job(tmp_path: Path, fault: Fault) -> None:
    async def check(now: Rig) -> None:
        job = await submit(now)
        assert await submit(now) == job
        await now.check_completed(await _ended(now, job))
        counts = await now.records.counts()
        assert counts.completed == 1

    await lose_each_call(tmp_path, fault, submit, check)


async def test_a_repetition_after_a_failure_is_the_failed_job(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.PRIVATE)
        first = await _ended(now, await submit(now))
        assert await submit(now) == first
        assert (await now.ticket(first)).status is Status.FAILED
