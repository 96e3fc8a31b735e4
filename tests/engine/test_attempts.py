"""Attempts at conversions: from a link to a track, and the ways in which one can fail."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import LEASE_SECONDS, RETENTION_SECONDS, engine, video
from tests.virtual_time import seconds, settled
from ytmp3.core.errors import FailureCode, StoreFull, StoreUnusable
from ytmp3.core.job import Stage, State, Status
from ytmp3.core.recipe import Quality
from ytmp3.engine import events

VIDEO = video(1)


async def test_a_link_becomes_a_track(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(VIDEO)
        conversion = (await now.ended(job)).conversion
        await now.check_completed(job)
        assert conversion.metadata is not None
        assert conversion.metadata.title == f"Title of {VIDEO}"
        assert (conversion.stage, conversion.progress) == (Stage.DONE, 1.0)
        assert (conversion.attempts, conversion.crashes) == (0, 0)
        assert now.leftovers() == []
        assert now.parts.runs.active == 0


async def test_fifty_jobs_for_one_link_share_one_conversion(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        may_end = now.converter.hold(VIDEO)
        jobs = await asyncio.gather(*(now.submit(VIDEO) for _ in range(50)))
        may_end.set()
        assert len({job.job_id for job in jobs}) == 50
        assert len({job.conversion_id for job in jobs}) == 1
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        await now.check_completed(jobs[0])
        assert now.converter.started == {VIDEO: 1}
        assert len(now.tracks()) == 1


async def test_two_qualities_of_a_video_are_two_conversions(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await now.submit(VIDEO, quality=quality) for quality in (Quality.K128, Quality.V0)]
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started == {VIDEO: 2}


async def test_a_conversion_that_waited_for_a_whole_retention_is_dropped(tmp_path: Path) -> None:
    """Unless another job has joined it since, or an attempt has been made before."""
    async with engine(tmp_path, workers=1) as now:
        now.converter.fail(video(3), FailureCode.UPSTREAM_ERROR)
        attempted = await now.submit(video(3))
        await settled()
        assert now.store.calls.count("retry") == 1
        blocker = await now.running(video(0))
        stale, wanted = await now.submit(video(1)), await now.submit(video(2))
        await asyncio.sleep(RETENTION_SECONDS)
        late = await now.submit(video(2))
        await asyncio.sleep(1)
        now.converter.hold(video(0)).set()
        ticket = await now.ended(stale)
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.EXPIRED_WAITING)
        ticket = await now.ended(attempted)
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.UPSTREAM_ERROR)
        for job in (blocker, wanted, late):
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started == {video(0): 1, video(2): 1, video(3): 1}
        failed = [(event.code, event.seconds) for event in now.seen(events.Failed) if isinstance(event, events.Failed)]
        assert sorted(failed) == [(FailureCode.EXPIRED_WAITING, None), (FailureCode.UPSTREAM_ERROR, None)]


async def test_a_stale_conversion_that_another_instance_holds_is_left_to_it(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(video(0))
        stale = await now.submit(VIDEO)
        await asyncio.sleep(RETENTION_SECONDS + 1)
        arrival = now.store.held_calls["fail"] = asyncio.Event()
        now.converter.hold(video(0)).set()
        await settled()
        assert "fail" in now.store.calls
        now.clock.advance(LEASE_SECONDS + 1)
        await now.records.adopt(10)
        arrival.set()
        await settled()
        assert (await now.ticket(stale)).status is Status.PENDING
        assert now.seen(events.Failed) == []


async def test_the_age_of_a_conversion_is_judged_by_the_clock_of_the_store(tmp_path: Path) -> None:
    """The instance's own clock does not count: here the store's is an hour ahead of it."""
    async with engine(tmp_path, workers=1) as now:
        await now.running(video(0))
        stale = await now.submit(video(1))
        now.clock.advance(RETENTION_SECONDS)
        fresh = await now.submit(video(2))
        now.clock.advance(1.0)
        now.converter.hold(video(0)).set()
        assert (await now.ended(stale)).status is Status.FAILED
        assert (await now.ended(fresh)).status is Status.COMPLETED


async def test_a_conversion_that_fails_twice_and_then_succeeds_is_completed(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR, FailureCode.OUTPUT_TRUNCATED)
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.attempts, ticket.conversion.error) == (Status.COMPLETED, 2, None)


async def test_a_conversion_whose_attempts_are_used_up_has_failed(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=2) as now:
        now.converter.fail(VIDEO, *[FailureCode.UPSTREAM_TIMEOUT] * 9)
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.UPSTREAM_TIMEOUT)
        assert ticket.conversion.attempts == 3
        assert now.converter.started[VIDEO] == 3


async def test_a_failure_that_no_other_attempt_can_cure_ends_the_conversion_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.PRIVATE)
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.PRIVATE)
        assert now.converter.started[VIDEO] == 1
        assert now.tracks() == {}


async def test_a_failed_conversion_does_not_serve_the_next_job(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.PRIVATE)
        assert (await now.ended(await now.submit(VIDEO))).status is Status.FAILED
        assert (await now.ended(await now.submit(VIDEO))).status is Status.COMPLETED


async def test_a_retry_waits_in_the_store_and_not_in_a_worker(tmp_path: Path) -> None:
    # The delay of the first retry is at most two seconds.
    async with engine(tmp_path, workers=1, random=lambda: 0.5) as now:
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        job = await now.submit(VIDEO)
        await settled()
        other = await now.submit(video(2))
        await settled()
        assert (await now.ticket(other)).status is Status.COMPLETED, "the only worker is free"
        assert await now.parts.janitor.adopt() == 0
        waiting = await now.conversion(job)
        assert (waiting.state, waiting.holder, waiting.error) == (State.QUEUED, None, FailureCode.UPSTREAM_ERROR)
        await asyncio.sleep(1.01)
        assert await now.parts.janitor.adopt() == 1
        assert (await now.ended(job)).status is Status.COMPLETED


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("x"), asyncio.CancelledError(), TimeoutError()])
async def test_an_unexpected_error_costs_one_attempt_and_no_worker(tmp_path: Path, error: BaseException) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.converter.raise_once(VIDEO, error)
        ticket = await now.ended(await now.submit(VIDEO))
        assert ticket.status is Status.COMPLETED
        assert (ticket.conversion.attempts, ticket.conversion.crashes) == (1, 0)
        assert seconds() < LEASE_SECONDS, "no lease had to run out"


async def test_an_unexpected_error_in_every_attempt_fails_the_conversion(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        for _ in range(5):
            now.converter.raise_once(VIDEO, ZeroDivisionError())
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.LOST)
        assert now.converter.started[VIDEO] == 2


# The store fails


@pytest.mark.parametrize("error", [StoreFull("full"), StoreUnusable("evicting")])
async def test_the_end_of_a_conversion_is_retried_until_it_is_stored(tmp_path: Path, error: StoreFull) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        now.store.broken["finish"] = error
        now.converter.hold(VIDEO).set()
        await asyncio.sleep(10)
        assert now.store.calls.count("finish") > 5
        assert (await now.ticket(job)).status is Status.PROCESSING
        now.store.broken.clear()
        assert (await now.ended(job)).status is Status.COMPLETED
        await now.check_completed(job)
        assert now.converter.started[VIDEO] == 1


@pytest.mark.parametrize("error", [StoreFull("full"), StoreUnusable("evicting")])
async def test_a_claim_is_repeated_until_the_store_replies(tmp_path: Path, error: StoreFull) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.store.broken["claim"] = error
        job = await now.submit(VIDEO)
        await asyncio.sleep(5)
        assert now.store.calls.count("claim") > 5
        assert now.parts.clients.unfinished_of(job.client) == 1
        now.store.broken.clear()
        assert (await now.ended(job)).status is Status.COMPLETED
        assert seconds() < LEASE_SECONDS, "no lease had to run out"
