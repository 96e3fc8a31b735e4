"""While YouTube refuses this address, or no process can be started, new conversions wait and lose no attempt."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import Rig, engine, video
from tests.virtual_time import settled
from ytmp3.core.breaker import PAUSES, REFUSALS_TO_OPEN
from ytmp3.core.errors import FailureCode, Fault, NoProcess, UpstreamBlocked
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Job, Status
from ytmp3.engine import events
from ytmp3.engine.settings import NO_PROCESS_PAUSE_SECONDS

VIDEO = video(1)
FIRST_PAUSE_SECONDS = PAUSES[Fault.ADDRESS].first
REFUSED_LAST = video(200)


async def blocked(now: Rig) -> Job:
    """Let YouTube refuse until the breaker opens. Returns the job that opened it; the others have failed."""
    for video_id in [*(video(number) for number in range(101, 100 + REFUSALS_TO_OPEN)), REFUSED_LAST]:
        now.converter.fail(video_id, FailureCode.BOT_CHECK)
        job = await now.submit(video_id)
        await settled()
        assert now.converter.started[video_id] == 1
    assert now.parts.upstream.is_blocked
    return job


async def pause_over(now: Rig) -> None:
    """Let the pause of the breaker pass, and a worker notice it."""
    await asyncio.sleep(now.parts.upstream.blocked_seconds() + 1)
    await settled()


async def test_enough_refusals_stop_all_starts_until_a_trial_has_passed(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=2, queue_capacity=3, max_retries=0) as now:
        last = await blocked(now)
        assert now.parts.upstream.blocked_seconds() == FIRST_PAUSE_SECONDS
        # New jobs wait, up to the capacity; then the refusal says that YouTube is the reason.
        jobs = [await now.submit(video(number)) for number in (11, 12, 13)]
        with pytest.raises(UpstreamBlocked) as refused:
            await now.submit(video(14))
        assert refused.value.retry_after_seconds == FIRST_PAUSE_SECONDS
        joined = await now.submit(video(11))
        assert joined.deduplicated
        await now.parts.jobs.cancel(last.job_id, None)
        await asyncio.sleep(FIRST_PAUSE_SECONDS - 1)
        assert [now.converter.started[video(number)] for number in (11, 12, 13)] == [0, 0, 0]
        # After the pause one trial starts; the others wait for its outcome.
        holds = [now.converter.hold(video(number)) for number in (11, 12, 13)]
        await asyncio.sleep(20)
        assert len(now.converter.running) == 1
        for hold in holds:
            hold.set()
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.parts.upstream.blocked_seconds() == 0


async def test_a_conversion_refused_with_the_address_waits_and_loses_no_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=0) as now:
        job = await blocked(now)
        for trial in (2, 3, 4):
            assert (await now.ticket(job)).status is Status.PENDING
            assert await now.parts.janitor.adopt() == 0
            now.converter.fail(REFUSED_LAST, FailureCode.BOT_CHECK)
            await pause_over(now)
            assert await now.parts.janitor.adopt() == 1
            await settled()
            assert now.converter.started[REFUSED_LAST] == trial
        assert (await now.conversion(job)).attempts == 0
        await pause_over(now)
        assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started[REFUSED_LAST] == 5
        assert len(now.seen(events.Postponed)) == 4


async def test_a_refusal_counts_against_the_video_while_the_address_is_served(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        now.converter.fail(VIDEO, FailureCode.BOT_CHECK, FailureCode.BOT_CHECK)
        ticket = await now.ended(await now.submit(VIDEO))
        assert ticket.conversion.error is FailureCode.BOT_CHECK
        assert now.converter.started[VIDEO] == 2


async def test_a_trial_that_is_cancelled_makes_room_for_the_next(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        last = await blocked(now)
        await now.parts.jobs.cancel(last.job_id, None)
        trial, next_job = await now.submit(VIDEO), await now.submit(video(2))
        now.converter.hold(VIDEO)
        await pause_over(now)
        assert now.converter.running == {VIDEO}
        await now.parts.jobs.cancel(trial.job_id, None)
        assert (await now.ended(next_job)).status is Status.COMPLETED
        assert now.parts.upstream.blocked_seconds() == 0


async def test_a_refused_process_costs_one_conversion_an_attempt_and_the_others_a_pause(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.converter.raise_once(VIDEO, NoProcess("fork: Resource temporarily unavailable"))
        jobs = [await now.submit(VIDEO), await now.submit(video(2))]
        await asyncio.sleep(NO_PROCESS_PAUSE_SECONDS - 0.1)
        assert now.converter.started == {VIDEO: 1}
        assert (await now.conversion(jobs[0])).attempts == 1
        await asyncio.sleep(1)
        assert now.converter.started[video(2)] == 1
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert (await now.conversion(jobs[1])).attempts == 0


async def test_a_cached_track_is_served_while_youtube_refuses(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=0) as now:
        await now.ended(await now.submit(VIDEO))
        await blocked(now)
        job = await now.submit(VIDEO)
        assert ((await now.ticket(job)).status, job.deduplicated) == (Status.COMPLETED, True)


async def test_retries_are_not_adopted_while_youtube_refuses(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        for number in range(REFUSALS_TO_OPEN):
            now.converter.fail(video(number), FailureCode.BOT_CHECK)
            await now.submit(video(number))
        await settled()
        assert await now.parts.janitor.adopt() == 0
        await pause_over(now)
        assert await now.parts.janitor.adopt() > 0


async def test_a_worker_puts_back_a_conversion_that_it_took_when_youtube_began_to_refuse(tmp_path: Path) -> None:
    """Idle workers wait for the queue, not for YouTube: a conversion that they get then must not start."""
    async with engine(tmp_path, workers=3, max_retries=0) as now:
        await settled()
        for number in range(REFUSALS_TO_OPEN):
            now.parts.upstream.failed(now.parts.upstream.started(), VideoId(video(number)), Fault.ADDRESS)
        assert now.parts.upstream.is_blocked
        job = await now.submit(VIDEO)
        await settled()
        assert now.converter.started[VIDEO] == 0
        assert now.parts.queue.qsize() == 1
        await pause_over(now)
        assert (await now.ticket(job)).status is Status.COMPLETED
