"""The pool: conversions carried to their end, stopped, given back, tried again; never twice, never lost."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.rig import LEASE_SECONDS, RETENTION_SECONDS, SOMEONE, Engine, engine, until, video
from tests.fakes import content_of
from ytmp3.core.breaker import FIRST_PAUSE_SECONDS, REFUSALS_TO_OPEN
from ytmp3.core.client import Client
from ytmp3.core.errors import FailureCode, NoProcess, QueueFull, StoreFull, StoreUnusable, UpstreamBlocked
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Job, Stage, State, Status
from ytmp3.core.recipe import Quality
from ytmp3.engine.runs import Stop
from ytmp3.engine.settings import NO_PROCESS_PAUSE_SECONDS

VIDEO = video(1)
REFUSED_LAST = video(200)
NEVER = asyncio.Event()


async def running(now: Engine, video_id: str = VIDEO) -> Job:
    """Submit a video, and return once a worker has it and waits for its event."""
    now.converter.hold(video_id)
    job = await now.submit(video_id)
    await until(lambda: video_id in now.converter.running)
    return job


async def news_recorded(now: Engine, job: Job) -> None:
    """Return once the keeper has no more to tell of a run that waits."""
    async with asyncio.timeout(10):
        while (await now.conversion(job)).metadata is None:
            await asyncio.sleep(0.001)


# One conversion


async def test_a_link_becomes_a_track(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(VIDEO)
        ticket = await now.ended(job)
        await now.check_completed(job)
        conversion = ticket.conversion
        assert conversion.metadata is not None
        assert conversion.metadata.title == f"Title of {VIDEO}"
        assert (conversion.stage, conversion.progress) == (Stage.DONE, 1.0)
        assert (conversion.attempts, conversion.crashes) == (0, 0)
        await until(lambda: now.scratch() == [])
        await until(lambda: now.parts.runs.active == 0)


async def test_fifty_at_once_make_one_conversion(tmp_path: Path) -> None:
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
        assert now.metric("ytmp3_jobs_total", outcome="created") == 1
        assert now.metric("ytmp3_jobs_total", outcome="joined") == 49


async def test_two_qualities_of_a_video_are_two_conversions(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await now.submit(VIDEO, quality=quality) for quality in (Quality.K128, Quality.V0)]
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started == {VIDEO: 2}


async def test_no_more_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=3, capacity=20) as now:
        events = [now.converter.hold(video(number)) for number in range(10)]
        jobs = [await now.submit(video(number)) for number in range(10)]
        await until(lambda: len(now.converter.running) == 3)
        for event in events:
            event.set()
        for job in jobs:
            await now.ended(job)
        assert now.converter.most_at_once == 3


async def test_what_has_waited_too_long_is_not_begun(tmp_path: Path) -> None:
    """L12: unless somebody has asked for it since, or it has been begun before."""
    async with engine(tmp_path, workers=1) as now:
        now.converter.fail(video(3), FailureCode.UPSTREAM_ERROR)
        begun = await now.submit(video(3))
        await until(lambda: now.store.calls.count("retry") == 1)
        blocker = await running(now, video(0))
        stale, wanted = await now.submit(video(1)), await now.submit(video(2))
        now.clock.advance(RETENTION_SECONDS)
        late = await now.submit(video(2))
        now.clock.advance(1.0)
        now.converter.hold(video(0)).set()
        ticket = await now.ended(stale)
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.LOST)
        for job in (blocker, wanted, late, begun):
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started == {video(0): 1, video(2): 1, video(3): 2}
        assert now.metric("ytmp3_conversions_total", outcome="failed", code="lost") == 1


# Trying again


async def test_what_fails_twice_and_then_succeeds_is_completed(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR, FailureCode.OUTPUT_TRUNCATED)
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.attempts, ticket.conversion.error) == (Status.COMPLETED, 2, None)
        assert now.metric("ytmp3_conversion_retries_total", code="upstream_error") == 1
        assert now.metric("ytmp3_conversion_retries_total", code="output_truncated") == 1
        assert now.metric("ytmp3_conversions_total", outcome="done", code="") == 1


async def test_when_the_attempts_are_used_up_the_job_has_failed(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=2) as now:
        now.converter.fail(VIDEO, *[FailureCode.UPSTREAM_TIMEOUT] * 9)
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.UPSTREAM_TIMEOUT)
        assert ticket.conversion.attempts == 3
        assert now.converter.started[VIDEO] == 3
        assert now.metric("ytmp3_conversions_total", outcome="failed", code="upstream_timeout") == 1


async def test_what_cannot_be_helped_fails_at_once(tmp_path: Path) -> None:
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
    async with engine(tmp_path, workers=1, random=lambda: 0.5) as now:
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        job = await now.submit(VIDEO)
        await until(lambda: "retry" in now.store.calls)
        # The one worker is free for others, and the retry is not due.
        await now.ended(await now.submit(video(2)))
        assert await now.parts.janitor.adopt() == 0
        waiting = await now.conversion(job)
        assert (waiting.state, waiting.holder, waiting.error) == (State.QUEUED, None, FailureCode.UPSTREAM_ERROR)
        now.clock.advance(1.01)
        assert await now.parts.janitor.adopt() == 1
        assert (await now.ended(job)).status is Status.COMPLETED


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("x"), asyncio.CancelledError(), TimeoutError()])
async def test_an_error_nobody_expected_costs_an_attempt_and_no_worker(tmp_path: Path, error: BaseException) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.converter.raise_once(VIDEO, error)
        job = await now.submit(VIDEO)
        ticket = await now.ended(job)
        assert ticket.status is Status.COMPLETED
        assert (ticket.conversion.attempts, ticket.conversion.crashes) == (1, 0)
        assert now.clock.now == 1_700_000_000.0, "no lease had to run out"


async def test_an_error_nobody_expected_every_time_fails_the_job(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        for _ in range(5):
            now.converter.raise_once(VIDEO, ZeroDivisionError())
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.LOST)
        assert now.converter.started[VIDEO] == 2


async def test_a_disk_that_refuses_a_track_costs_an_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        (tmp_path / "tracks").rename(tmp_path / "elsewhere")
        now.converter.hold(VIDEO).set()
        await until(lambda: "retry" in now.store.calls)
        (tmp_path / "elsewhere").rename(tmp_path / "tracks")
        ticket = await now.ended(job)
        assert (ticket.status, ticket.conversion.attempts) == (Status.COMPLETED, 1)


# Cancelling


async def test_a_job_cancelled_in_the_queue_frees_its_slot(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=1) as now:
        await running(now)
        waiting = await now.submit(video(2))
        with pytest.raises(QueueFull):
            await now.submit(video(3))
        ticket = await now.parts.jobs.cancel(waiting.job_id, None)
        assert (ticket.status, ticket.conversion.state) == (Status.CANCELLED, State.CANCELLED)
        taken = await now.submit(video(3))
        now.converter.hold(VIDEO).set()
        assert (await now.ended(taken)).status is Status.COMPLETED
        assert now.converter.started[video(2)] == 0
        assert now.metric("ytmp3_conversions_total", outcome="cancelled", code="") == 1


async def test_a_running_job_that_is_cancelled_stops_its_tools(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        await now.parts.jobs.cancel(job.job_id, None)
        await until(lambda: now.converter.cancelled[VIDEO] == 1)
        await until(lambda: now.parts.runs.active == 0)
        assert (now.tracks(), now.scratch()) == ({}, [])
        assert (await now.ticket(job)).status is Status.CANCELLED
        assert now.metric("ytmp3_conversions_total", outcome="cancelled", code="") == 1
        assert now.metric("ytmp3_leases_lost_total") == 0


async def test_a_job_cancelled_while_its_track_is_published_leaves_no_track(tmp_path: Path) -> None:
    async with engine(tmp_path, progress_seconds=3600.0) as now:
        arrival = now.store.held_calls["finish"] = asyncio.Event()
        job = await now.submit(VIDEO)
        await until(lambda: "finish" in now.store.calls)
        assert len(now.tracks()) == 1
        await now.parts.jobs.cancel(job.job_id, None)
        arrival.set()
        await until(lambda: now.parts.runs.active == 0)
        assert now.tracks() == {}
        assert (await now.ticket(job)).status is Status.CANCELLED
        assert now.metric("ytmp3_conversions_total", outcome="cancelled", code="") == 1
        assert now.metric("ytmp3_leases_lost_total") == 0


async def test_of_two_jobs_on_a_conversion_one_can_be_cancelled_alone(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = await running(now)
        second = await now.submit(VIDEO, Client(owner=ClientId("addr:198.51.100.1")))
        assert second.conversion_id == first.conversion_id
        assert (await now.parts.jobs.cancel(first.job_id, None)).status is Status.CANCELLED
        assert now.converter.cancelled[VIDEO] == 0
        now.converter.hold(VIDEO).set()
        assert (await now.ended(second)).status is Status.COMPLETED
        await now.check_completed(second)
        assert (await now.ticket(first)).status is Status.CANCELLED


async def test_the_last_job_to_be_cancelled_stops_the_work(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await running(now), await now.submit(VIDEO)]
        for job in jobs:
            await now.parts.jobs.cancel(job.job_id, None)
        await until(lambda: now.converter.cancelled[VIDEO] == 1)
        assert now.tracks() == {}


async def test_a_cancellation_at_another_instance_is_noticed_with_the_next_renewal(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        # Straight to the store: this pool is not told.
        await now.records.cancel(job.job_id)
        run = now.parts.runs._runs[job.conversion_id]
        run.has_changed = True
        await until(lambda: now.converter.cancelled[VIDEO] == 1)
        assert now.tracks() == {}


# Leases


async def test_the_keeper_renews_what_runs_and_what_waits(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        job, waiting = await running(now), await now.submit(video(2))
        now.clock.advance(LEASE_SECONDS - 1)
        now.ticks.advance(LEASE_SECONDS / 3)
        async with asyncio.timeout(10):
            while (await now.conversion(waiting)).due_at <= now.clock.now + 1:
                await asyncio.sleep(0.001)
        now.clock.advance(LEASE_SECONDS - 1)
        assert await now.records.adopt(10) == []
        assert (await now.conversion(waiting)).queue_position == 1
        assert (await now.conversion(job)).progress == 0.4


async def test_who_has_lost_the_lease_publishes_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path, progress_seconds=3600.0) as now:
        job = await running(now)
        now.clock.advance(LEASE_SECONDS + 1)
        (taken,) = await now.records.adopt(10)
        now.converter.hold(VIDEO).set()
        await until(lambda: now.parts.runs.active == 0)
        assert now.converter.finished[VIDEO] == 1
        assert now.tracks() == {}
        assert "finish" not in now.store.calls
        assert now.metric("ytmp3_leases_lost_total") == 1
        assert (await now.conversion(job)).token == taken.token


async def test_who_loses_the_lease_while_publishing_takes_the_file_away_again(tmp_path: Path) -> None:
    async with engine(tmp_path, progress_seconds=3600.0) as now:
        arrival = now.store.held_calls["finish"] = asyncio.Event()
        await now.submit(VIDEO)
        await until(lambda: "finish" in now.store.calls)
        now.clock.advance(LEASE_SECONDS + 1)
        await now.records.adopt(10)
        arrival.set()
        await until(lambda: now.parts.runs.active == 0)
        assert now.tracks() == {}


async def test_a_lease_lost_while_running_stops_the_tools(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        await news_recorded(now, job)
        now.clock.advance(LEASE_SECONDS + 1)
        await now.records.adopt(10)
        now.ticks.advance(LEASE_SECONDS)
        await until(lambda: now.converter.cancelled[VIDEO] == 1)
        await until(lambda: now.parts.runs.active == 0)
        assert (await now.conversion(job)).crashes == 1
        assert now.metric("ytmp3_leases_lost_total") == 1


async def test_a_renewal_overtaken_by_a_claim_does_not_stop_the_run(tmp_path: Path) -> None:
    # Over a network the renewal of what waited may arrive after the claim, and then finds its token stale.
    async with engine(tmp_path, workers=1) as now:
        await running(now)
        waiting = await now.submit(video(2))
        now.converter.hold(video(2))
        arrival = now.store.held_calls["renew"] = asyncio.Event()
        now.ticks.advance(LEASE_SECONDS)
        await until(lambda: now.store.calls.count("renew") and now.store.calls[-1] == "renew")
        # The publication of the first asks for a renewal too: cancel it instead, which frees the worker.
        first = next(iter(now.parts.runs._runs))
        now.parts.runs._runs[first].stop(Stop.LEASE_LOST)
        await until(lambda: video(2) in now.converter.running)
        arrival.set()
        del now.store.held_calls["renew"]
        before = now.store.calls.count("renew")
        now.ticks.advance(LEASE_SECONDS)
        await until(lambda: now.store.calls.count("renew") > before)
        assert now.converter.cancelled[video(2)] == 0
        now.converter.hold(video(2)).set()
        assert (await now.ended(waiting)).status is Status.COMPLETED


async def test_what_another_instance_took_over_leaves_the_queue(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await running(now)
        waiting = await now.submit(video(2))
        await now.records.release([(await now.conversion(waiting)).lease])
        now.ticks.advance(LEASE_SECONDS)
        await until(lambda: now.parts.queue.qsize() == 0)


# The store fails


@pytest.mark.parametrize("error", [StoreFull("full"), StoreUnusable("evicting")])
async def test_an_end_is_repeated_until_the_store_takes_it(tmp_path: Path, error: Exception) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        now.store.broken["finish"] = error
        now.converter.hold(VIDEO).set()
        await until(lambda: now.store.calls.count("finish") > 5)
        assert (await now.ticket(job)).status is Status.PROCESSING
        now.store.broken.clear()
        assert (await now.ended(job)).status is Status.COMPLETED
        await now.check_completed(job)
        assert now.converter.started[VIDEO] == 1
        assert now.metric("ytmp3_store_errors_total", kind=type(error).__name__) > 5


@pytest.mark.parametrize("error", [StoreFull("full"), StoreUnusable("evicting")])
async def test_a_claim_is_repeated_until_the_store_answers(tmp_path: Path, error: Exception) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.store.broken["claim"] = error
        job = await now.submit(VIDEO)
        await until(lambda: now.store.calls.count("claim") > 5)
        assert now.parts.capacity.unfinished_of(SOMEONE.owner) == 1
        now.store.broken.clear()
        assert (await now.ended(job)).status is Status.COMPLETED
        assert now.clock.now == 1_700_000_000.0


async def test_the_keeper_survives_whatever_the_store_raises(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        now.store.broken["renew"] = RuntimeError("a bug")
        now.ticks.advance(LEASE_SECONDS)
        before = now.store.calls.count("renew")
        await until(lambda: now.store.calls.count("renew") > before + 2)
        now.store.broken.clear()
        now.converter.hold(VIDEO).set()
        assert (await now.ended(job)).status is Status.COMPLETED


# Draining


async def test_a_drain_gives_back_what_waits_and_lets_the_running_end(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        job, waiting = await running(now), await now.submit(video(2))
        drain = asyncio.create_task(now.parts.workers.drain(5.0, NEVER))
        await until(lambda: "release" in now.store.calls)
        await until(lambda: now.parts.queue.qsize() == 0)
        now.converter.hold(VIDEO).set()
        await drain
        assert (await now.ticket(job)).status is Status.COMPLETED
        given_back = await now.conversion(waiting)
        assert (given_back.state, given_back.holder, given_back.attempts, given_back.crashes) == (
            State.QUEUED, None, 0, 0,
        )  # fmt: skip
        assert given_back.due_at <= now.clock.now
        assert now.converter.started[video(2)] == 0


@pytest.mark.parametrize("is_forced", [False, True])
async def test_what_does_not_end_in_time_is_given_back_at_no_cost(tmp_path: Path, *, is_forced: bool) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        force = asyncio.Event()
        if is_forced:
            force.set()
        await now.parts.workers.drain(60.0 if is_forced else 0.0, force)
        assert now.converter.cancelled[VIDEO] == 1
        given_back = await now.conversion(job)
        assert (given_back.state, given_back.holder, given_back.attempts, given_back.crashes) == (
            State.QUEUED, None, 0, 0,
        )  # fmt: skip
        assert (now.tracks(), now.scratch()) == ({}, [])


async def test_a_drain_waits_for_a_claim_under_way_and_gives_it_back(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        arrival = now.store.held_calls["claim"] = asyncio.Event()
        job = await now.submit(VIDEO)
        await until(lambda: "claim" in now.store.calls)
        drain = asyncio.create_task(now.parts.workers.drain(5.0, NEVER))
        await asyncio.sleep(0.01)
        assert not drain.done()
        arrival.set()
        await drain
        given_back = await now.conversion(job)
        assert (given_back.state, given_back.holder, given_back.crashes) == (State.QUEUED, None, 0)
        assert now.converter.started[VIDEO] == 0


async def test_a_drain_does_not_wait_for_a_store_that_is_gone(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.store.broken["claim"] = StoreFull("full")
        await now.submit(VIDEO)
        await until(lambda: "claim" in now.store.calls)
        began_at = time.monotonic()
        await now.parts.workers.drain(5.0, NEVER)
        assert time.monotonic() - began_at < 2.0


async def test_what_comes_in_while_draining_is_given_back_before_the_end(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await running(now)
        arrival = now.store.held_calls["submit"] = asyncio.Event()
        late = asyncio.create_task(now.submit(video(2)))
        await until(lambda: now.store.calls.count("submit") == 2)
        now.parts.health.is_draining = True
        drain = asyncio.create_task(now.parts.workers.drain(0.05, NEVER))
        await asyncio.sleep(0.01)
        arrival.set()
        job = await late
        await drain
        await now.parts.workers.close()
        given_back = await now.conversion(job)
        assert (given_back.state, given_back.holder) == (State.QUEUED, None)
        assert now.parts.queue.qsize() == 0


async def test_closing_gives_back_what_still_runs(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        await now.parts.workers.close()
        given_back = await now.conversion(job)
        assert (given_back.state, given_back.holder, given_back.attempts, given_back.crashes) == (
            State.QUEUED, None, 0, 0,
        )  # fmt: skip
        assert now.converter.cancelled[VIDEO] == 1
        assert now.scratch() == []


async def closes_cleanly(now: Engine, release: Callable[[], None]) -> None:
    """Close the pool while something is held, then let go of it: the pool closes, and leaves nothing."""
    close = asyncio.create_task(now.parts.workers.close())
    await asyncio.sleep(0.01)
    release()
    async with asyncio.timeout(5):
        await close
    assert now.scratch() == []


async def test_closing_does_not_hang_on_a_run_that_was_being_stopped(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        tools_gone = now.converter.end_slowly(VIDEO)
        job = await running(now)
        await now.parts.jobs.cancel(job.job_id, None)
        await until(lambda: now.converter.cancelled[VIDEO])
        await closes_cleanly(now, tools_gone.set)


async def test_a_worker_that_is_ended_while_it_cleans_up_leaves_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        disk_answers = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, disk_answers.wait)
        await now.parts.jobs.cancel(job.job_id, None)
        await until(lambda: now.converter.cancelled[VIDEO])
        await closes_cleanly(now, disk_answers.set)


async def test_an_heir_starts_what_was_given_back_without_waiting_for_a_lease(tmp_path: Path) -> None:
    async with engine(tmp_path) as first:
        jobs = [await running(first), await running(first, video(2))]
        await first.parts.workers.drain(0.0, NEVER)
        clock, converter = first.clock, first.converter
    async with engine(tmp_path, instance="b", clock=clock, converter=converter) as heir:
        for number in (1, 2):
            converter.hold(video(number)).set()
        assert await heir.parts.janitor.adopt() == 2
        for job in jobs:
            assert (await heir.ended(job)).status is Status.COMPLETED


# YouTube refuses


async def test_enough_refusals_open_the_breaker_and_nothing_starts_until_a_trial_passes(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=2, capacity=3, max_retries=0) as now:
        last = await blocked(now)
        assert now.parts.upstream.blocked_seconds() == FIRST_PAUSE_SECONDS
        # New jobs wait, up to the capacity; then the refusal says whose matter it is.
        jobs = [await now.submit(video(number)) for number in (11, 12, 13)]
        with pytest.raises(UpstreamBlocked) as refused:
            await now.submit(video(14))
        assert refused.value.retry_after_seconds == FIRST_PAUSE_SECONDS
        joined = await now.submit(video(11))
        assert joined.deduplicated
        await now.parts.jobs.cancel(last.job_id, None)
        await asyncio.sleep(0.02)
        assert not now.converter.running
        assert [now.converter.started[video(number)] for number in (11, 12, 13)] == [0, 0, 0]
        # After the pause one trial starts, the others wait for its outcome.
        events = [now.converter.hold(video(number)) for number in (11, 12, 13)]
        now.ticks.advance(FIRST_PAUSE_SECONDS)
        await until(lambda: now.converter.running)
        await asyncio.sleep(0.02)
        assert len(now.converter.running) == 1
        for event in events:
            event.set()
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert now.parts.upstream.blocked_seconds() == 0


async def blocked(now: Engine) -> Job:
    """Let YouTube refuse until the breaker opens; returns the job that opened it. The others have failed."""
    for video_id in [*(video(number) for number in range(101, 100 + REFUSALS_TO_OPEN)), REFUSED_LAST]:
        now.converter.fail(video_id, FailureCode.BOT_CHECK)
        starts = now.converter.started.total()
        job = await now.submit(video_id)
        await until(lambda: now.converter.started.total() > starts and not now.parts.runs.active)  # noqa: B023
    assert now.parts.upstream.blocked_seconds() > 0
    return job


async def test_what_is_refused_with_the_address_waits_and_loses_no_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=0) as now:
        job = await blocked(now)
        for tried in range(1, 4):  # refused trials
            assert (await now.ticket(job)).status is Status.PENDING
            assert await now.parts.janitor.adopt() == 0
            now.converter.fail(REFUSED_LAST, FailureCode.BOT_CHECK)
            now.ticks.advance(now.parts.upstream.blocked_seconds())
            await now.parts.janitor.adopt()
            # The door is shut from the trial's start on, before a worker has it: only its converter tells that it ran.
            while now.converter.started[REFUSED_LAST] == tried:
                await asyncio.sleep(0.001)
            await until(lambda: not now.parts.runs.active)
        assert (await now.conversion(job)).attempts == 0
        now.ticks.advance(now.parts.upstream.blocked_seconds())
        assert (await now.ended(job)).status is Status.COMPLETED
        assert now.converter.started[REFUSED_LAST] == 5


async def test_a_refusal_counts_against_the_video_while_the_address_is_served(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        now.converter.fail(VIDEO, FailureCode.BOT_CHECK, FailureCode.BOT_CHECK)
        ticket = await now.ended(await now.submit(VIDEO))
        assert ticket.conversion.error is FailureCode.BOT_CHECK
        assert now.converter.started[VIDEO] == 2


async def test_a_cancelled_trial_leaves_the_door_to_the_next(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        last = await blocked(now)
        await now.parts.jobs.cancel(last.job_id, None)
        trial, next_job = await now.submit(VIDEO), await now.submit(video(2))
        now.converter.hold(VIDEO)
        now.ticks.advance(FIRST_PAUSE_SECONDS)
        await until(lambda: VIDEO in now.converter.running)
        await now.parts.jobs.cancel(trial.job_id, None)
        assert (await now.ended(next_job)).status is Status.COMPLETED
        assert now.parts.upstream.blocked_seconds() == 0


async def test_a_refused_process_costs_one_job_an_attempt_and_the_others_five_seconds(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.converter.raise_once(VIDEO, NoProcess("fork: Resource temporarily unavailable"))
        jobs = [await now.submit(VIDEO), await now.submit(video(2))]
        await until(lambda: now.converter.started[VIDEO] and not now.parts.runs.active)
        assert (await now.conversion(jobs[0])).attempts == 1
        await asyncio.sleep(0.02)
        assert now.converter.started[video(2)] == 0
        now.ticks.advance(NO_PROCESS_PAUSE_SECONDS)
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        assert (await now.conversion(jobs[1])).attempts == 0


async def test_a_cached_track_is_served_while_youtube_refuses(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=0) as now:
        await now.ended(await now.submit(VIDEO))
        await blocked(now)
        ticket = await now.ended(await now.submit(VIDEO))
        assert (ticket.status, ticket.job.deduplicated) == (Status.COMPLETED, True)


async def test_retries_are_not_brought_in_while_youtube_refuses(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        for number in range(REFUSALS_TO_OPEN):
            now.converter.fail(video(number), FailureCode.BOT_CHECK)
            await now.submit(video(number))
        await until(now.parts.upstream.blocked_seconds)
        assert await now.parts.janitor.adopt() == 0
        now.ticks.advance(FIRST_PAUSE_SECONDS)
        assert await now.parts.janitor.adopt() > 0


# Fairness


async def test_one_clients_many_do_not_delay_the_others_few(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=200) as now:
        await running(now)
        for number in range(2, 92):
            await now.submit(video(number), Client(owner=ClientId("greedy")))
        few = [video(number) for number in range(100, 110)]
        jobs = [await now.submit(video_id, Client(owner=ClientId(f"client of {video_id}"))) for video_id in few]
        now.converter.hold(VIDEO).set()
        for job in jobs:
            assert (await now.ended(job)).status is Status.COMPLETED
        places = [now.converter.order.index(video_id) for video_id in few]
        assert max(places) <= 12


async def test_a_job_waiting_here_has_a_position(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await running(now)
        jobs = [await now.submit(video(number)) for number in (2, 3)]
        assert [now.parts.jobs.live(await now.ticket(job)).queue_position for job in jobs] == [1, 2]


async def test_a_running_job_has_a_report_here_and_in_the_record(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await running(now)
        report = now.parts.jobs.live(await now.ticket(job)).report
        assert report is not None
        assert (report.stage, report.progress) == (Stage.DOWNLOADING, 0.4)
        await news_recorded(now, job)
        assert (await now.conversion(job)).progress == 0.4


async def test_what_was_measured_is_counted(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.ended(await now.submit(VIDEO))
        await until(lambda: now.parts.runs.active == 0)
        assert now.metric("ytmp3_conversions_total", outcome="done", code="") == 1
        assert now.metric("ytmp3_conversion_duration_seconds_count") == 1
        assert now.metric("ytmp3_conversion_stage_duration_seconds_count", stage="downloading") == 1
        assert now.metric("ytmp3_conversion_stage_duration_seconds_count", stage="publishing") == 1
        assert now.parts.estimates._pace.durations().mean is not None
        assert content_of(VIDEO) in now.tracks().values()
