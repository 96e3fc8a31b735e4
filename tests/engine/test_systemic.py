"""Faults that affect every conversion pause new starts, count no attempt, and are shown; every wait is bounded."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import OTHER, RETENTION_SECONDS, Rig, engine, video
from tests.virtual_time import seconds, settled
from ytmp3.core.breaker import ENDS_TO_OPEN, PAUSES, UNREACHED_TO_OPEN, BreakerState
from ytmp3.core.errors import FailureCode, Fault, UpstreamBlocked
from ytmp3.core.job import Job, Status
from ytmp3.engine import events
from ytmp3.engine.health import Readiness
from ytmp3.storage import Space

VIDEO = video(1)
NO_ATTEMPT = [
    FailureCode.EXTRACTOR_BROKEN, FailureCode.UPSTREAM_UNREACHABLE, FailureCode.EGRESS_MISCONFIGURED,
]  # fmt: skip
"""One code for each fault that never costs an attempt."""


async def outage(now: Rig, code: FailureCode, videos: int) -> list[Job]:
    """Submit videos, all of which fail with `code` until `over`; return their jobs once all have been tried."""
    for number in range(videos):
        now.converter.failing[video(number)] = code
    return [await now.submit(video(number)) for number in range(videos)]


async def pass_time(now: Rig, duration_seconds: float) -> None:
    """Let time pass, with the loops of the janitor and of the expiry at work."""
    now.parts.janitor.start()
    now.parts.expiry.start()
    await asyncio.sleep(duration_seconds)
    await now.parts.janitor.close()
    await now.parts.expiry.close()
    await settled()


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (FailureCode.UPSTREAM_UNREACHABLE, Fault.NETWORK),
        (FailureCode.EGRESS_MISCONFIGURED, Fault.SETTINGS),
        (FailureCode.EXTRACTOR_BROKEN, Fault.RELEASE),
        (FailureCode.UPSTREAM_ERROR, Fault.YOUTUBE),
        (FailureCode.UPSTREAM_TIMEOUT, Fault.YOUTUBE),
        (FailureCode.BOT_CHECK, Fault.ADDRESS),
    ],
)
async def test_an_outage_of_minutes_fails_no_job(tmp_path: Path, code: FailureCode, cause: Fault) -> None:
    async with engine(tmp_path, workers=20, queue_capacity=200, max_retries=1) as now:
        jobs = await outage(now, code, 50)
        await pass_time(now, 300)
        assert now.parts.upstream.cause is cause
        assert {(await now.ticket(job)).status for job in jobs} == {Status.PENDING}
        now.converter.failing.clear()
        await pass_time(now, 600)
        assert {(await now.ticket(job)).status for job in jobs} == {Status.COMPLETED}
        assert now.parts.upstream.cause is None


@pytest.mark.parametrize("code", [FailureCode.UPSTREAM_ERROR, FailureCode.BOT_CHECK])
async def test_an_attempt_that_was_counted_before_the_outage_was_recognised_is_given_back(
    tmp_path: Path, code: FailureCode
) -> None:
    async with engine(tmp_path, workers=20, queue_capacity=200, max_retries=1) as now:
        jobs = await outage(now, code, 40)
        await settled()
        assert now.parts.upstream.is_blocked
        counted = [job for job in jobs if (await now.conversion(job)).attempts]
        assert counted
        now.converter.failing.clear()
        # The next failure of these is their own. Without the refund it would be the last one that they may have.
        for job in counted[:3]:
            now.converter.fail((await now.conversion(job)).video_id, code)
        await pass_time(now, 900)
        assert {(await now.ticket(job)).status for job in jobs} == {Status.COMPLETED}
        assert {(await now.conversion(job)).attempts for job in jobs} == {0, 1}


@pytest.mark.parametrize("code", NO_ATTEMPT)
async def test_a_fault_that_is_not_the_videos_costs_no_attempt(tmp_path: Path, code: FailureCode) -> None:
    async with engine(tmp_path, max_retries=0) as now:
        now.converter.fail(VIDEO, code, code)
        job = await now.submit(VIDEO)
        await settled()
        waiting = await now.conversion(job)
        assert (waiting.state, waiting.attempts, waiting.error) == ("queued", 0, code)
        assert waiting.due_at > now.clock()
        ticket = await now.ended(job)
        assert (ticket.status, ticket.conversion.attempts) == (Status.COMPLETED, 0)
        assert [event.code for event in now.seen(events.Postponed) if isinstance(event, events.Postponed)] == [code] * 2


async def test_a_network_that_is_away_stops_all_starts_after_three_conversions(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=200) as now:
        jobs = await outage(now, FailureCode.UPSTREAM_UNREACHABLE, 150)
        await settled()
        assert now.converter.started.total() == UNREACHED_TO_OPEN
        await pass_time(now, 600)
        # One probe at a time, after 2, 4, 8, 16, 30, 30 ... seconds.
        assert now.converter.most_at_once == 1
        assert now.converter.started.total() < UNREACHED_TO_OPEN + 4 + 600 / 30 + 1
        assert {(await now.conversion(job)).attempts for job in jobs} == {0}


async def test_a_video_that_alone_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.failing[VIDEO] = FailureCode.EXTRACTOR_BROKEN
        job = await now.submit(VIDEO)
        await pass_time(now, 600)
        assert now.parts.upstream.cause is None
        assert (await now.ended(await now.submit(video(2)))).status is Status.COMPLETED
        assert (await now.ticket(job)).status is Status.PENDING
        assert now.converter.started[VIDEO] < 15


async def test_a_proof_of_the_network_lets_the_others_start_before_the_trial_has_ended(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=5) as now:
        jobs = await outage(now, FailureCode.UPSTREAM_UNREACHABLE, 5)
        await settled()
        assert now.parts.upstream.cause is Fault.NETWORK
        now.converter.failing.clear()
        for number in range(5):
            now.converter.hold(video(number))
        await pass_time(now, 60)
        assert len(now.converter.running) == len(jobs)


@pytest.mark.parametrize("code", [FailureCode.UPSTREAM_UNREACHABLE, FailureCode.EXTRACTOR_BROKEN])
async def test_an_outage_makes_the_instance_degraded_but_leaves_it_ready(tmp_path: Path, code: FailureCode) -> None:
    async with engine(tmp_path, workers=20, queue_capacity=20) as now:
        health = now.parts.health
        assert (health.readiness, health.is_ready) == (Readiness.OK, True)
        await outage(now, code, ENDS_TO_OPEN)
        await settled()
        assert (health.readiness, health.is_ready, health.checks["upstream"].ok) == (Readiness.DEGRADED, True, False)
        now.converter.failing.clear()
        await pass_time(now, 120)
        assert (health.readiness, health.checks["upstream"].ok) == (Readiness.OK, True)
        assert (len(now.seen(events.UpstreamPaused)), len(now.seen(events.UpstreamResumed))) == (1, 1)


async def test_the_state_of_the_breaker_can_be_read(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=20, queue_capacity=20) as now:
        upstream, pause = now.parts.upstream, PAUSES[Fault.RELEASE].first
        assert (upstream.snapshot().state, upstream.snapshot().cause) == (BreakerState.CLOSED, None)
        await outage(now, FailureCode.EXTRACTOR_BROKEN, ENDS_TO_OPEN)
        await settled()
        await asyncio.sleep(pause - 10)
        snapshot = upstream.snapshot()
        assert (snapshot.state, snapshot.cause) == (BreakerState.OPEN, Fault.RELEASE)
        assert (round(snapshot.open_seconds), round(snapshot.next_trial_seconds)) == (pause - 10, 10)


async def test_the_estimates_know_the_pause(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=20, queue_capacity=11) as now:
        (job, *_) = await outage(now, FailureCode.EXTRACTOR_BROKEN, ENDS_TO_OPEN)
        await settled()
        pause = PAUSES[Fault.RELEASE].first
        eta_seconds = now.parts.jobs.live(await now.ticket(job)).eta_seconds
        assert eta_seconds is not None
        assert eta_seconds >= pause
        assert await now.parts.janitor.adopt() == 0
        for number in range(11):
            await now.submit(video(500 + number))
        with pytest.raises(UpstreamBlocked) as refused:
            await now.submit(video(600), OTHER)
        assert refused.value.retry_after_seconds is not None
        assert refused.value.retry_after_seconds >= pause


@pytest.mark.parametrize("code", [*NO_ATTEMPT, FailureCode.BOT_CHECK])
@pytest.mark.parametrize("videos", [1, 15])
async def test_every_job_ends_by_its_lifetime_in_an_outage_without_end(
    tmp_path: Path, code: FailureCode, videos: int
) -> None:
    async with engine(tmp_path, workers=2, queue_capacity=50, max_retries=3) as now:
        jobs = await outage(now, code, videos)
        await pass_time(now, RETENTION_SECONDS + 100)
        failed = [event for event in now.seen(events.Failed) if isinstance(event, events.Failed)]
        assert len({event.conversion.conversion_id for event in failed}) == len(jobs)
        assert {event.code for event in failed} <= {code, FailureCode.EXPIRED_WAITING}


async def test_waiting_jobs_end_by_their_lifetime_while_the_disk_is_full(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        waiting = await now.submit(video(2))
        now.parts.health.space = Space(total_bytes=10**12, free_bytes=0)
        await asyncio.sleep(RETENTION_SECONDS)
        assert await now.parts.expiry.expire() == 0
        late = await now.submit(video(2))
        await asyncio.sleep(2)
        # The record decides: another job has joined.
        assert await now.parts.expiry.expire() == 0
        assert (await now.ticket(late)).status is Status.PENDING
        await asyncio.sleep(RETENTION_SECONDS)
        assert await now.parts.expiry.expire() == 1
        assert (await now.conversion(waiting)).error is FailureCode.EXPIRED_WAITING


async def test_a_waiting_conversion_that_another_instance_took_over_is_left_to_it(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        waiting = await now.submit(video(2))
        now.parts.health.space = Space(total_bytes=10**12, free_bytes=0)
        await asyncio.sleep(RETENTION_SECONDS + 1)
        await now.records.release([(await now.conversion(waiting)).lease])
        (taken,) = await now.records.adopt(1)
        assert await now.parts.expiry.expire() == 0
        assert (await now.conversion(waiting)).token == taken.token


async def test_conversions_that_no_instance_holds_are_looked_at_and_given_back(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3, queue_capacity=3) as now:
        jobs = await outage(now, FailureCode.BOT_CHECK, 5)
        await settled()
        assert now.parts.upstream.is_blocked
        started_at = seconds()
        assert await now.parts.expiry.expire() == 0
        assert seconds() == started_at
        assert {(await now.conversion(job)).holder for job in jobs} == {None}
        assert {(await now.ticket(job)).status for job in jobs} == {Status.PENDING}
