"""Conversions take the identities with budget and health, on virtual time: no attempt is lost to a closed one."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.doors import Doors, most_within
from tests.engine.rig import SOMEONE, Rig, engine, video
from tests.virtual_time import seconds, settled
from ytmp3.core.breaker import ENDS_TO_OPEN
from ytmp3.core.errors import FailureCode, Fault, StoreDown
from ytmp3.core.identities import Budget, IdentityState
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Job, Status
from ytmp3.engine import events
from ytmp3.engine.health import REASONS, Readiness
from ytmp3.engine.identities import Identities
from ytmp3.engine.janitor import ADOPT_SECONDS

HOUR = 3600.0
FIRST, SECOND = Budget(name="first", videos_per_hour=240), Budget(name="second", videos_per_hour=240)


async def all_ended(now: Rig, jobs: list[Job]) -> list[Status]:
    """Let time pass, adopting due conversions, until all jobs have ended."""
    while True:
        found = await now.records.get_many([job.job_id for job in jobs])
        statuses = [ticket.status for ticket in found.tickets.values()]
        if not {Status.PENDING, Status.PROCESSING} & set(statuses):
            return statuses
        for _ in range(12):
            await now.parts.janitor.adopt()
            await asyncio.sleep(5 * ADOPT_SECONDS)


async def test_a_banned_identity_costs_no_attempt_and_no_job(tmp_path: Path) -> None:
    doors = Doors()
    doors.ban_after["first"] = 40
    async with engine(tmp_path, converter=doors, workers=4, queue_capacity=250, max_retries=0) as now:
        now.parts.upstream.identities.use([Budget(name=name, videos_per_hour=480) for name in ("first", "second")])
        jobs = [await now.submit(video(number)) for number in range(250)]
        statuses = await all_ended(now, jobs)
        assert statuses == [Status.COMPLETED] * 250
        assert not now.seen(events.Retried, events.Failed)
        assert doors.refused["first"]
        assert most_within(doors.refused["first"], 60.0) <= 8
        assert len(doors.converted) == 250
        for name in ("first", "second"):
            assert most_within(doors.asked[name], HOUR) <= 480
        # The identity was used again after its ban, and is ok now.
        assert doors.asked["first"][-1] > doors.refused["first"][-1]
        assert [view.state for view in now.parts.upstream.identities.views()] == [IdentityState.OK] * 2
        paused = now.seen(events.IdentityPaused)
        assert {event.name for event in paused if isinstance(event, events.IdentityPaused)} == {"first"}
        assert now.seen(events.IdentityResumed)


async def test_starts_keep_to_the_budget_and_the_estimate_knows_it(tmp_path: Path) -> None:
    doors = Doors()
    async with engine(tmp_path, converter=doors, workers=10, queue_capacity=100) as now:
        now.parts.upstream.identities.use([Budget(name="only", videos_per_hour=60)])
        jobs = [await now.submit(video(number)) for number in range(30)]
        await settled()
        # A burst of five, then one each 65 s.
        assert len(doors.asked["only"]) == 5
        assert now.parts.estimates.eta_seconds(SOMEONE.owner, position=25, progress=0.0) >= 25 * 65
        assert await all_ended(now, jobs) == [Status.COMPLETED] * 30
        assert most_within(doors.asked["only"], HOUR) <= 60
        assert doors.asked["only"][-1] >= 25 * 65


async def test_only_when_all_identities_are_closed_is_youtube_blocked(tmp_path: Path) -> None:
    doors = Doors()
    doors.banned = {"first": FailureCode.BOT_CHECK, "second": FailureCode.BOT_CHECK}
    async with engine(tmp_path, converter=doors, workers=3, queue_capacity=20, max_retries=0) as now:
        now.parts.upstream.identities.use([FIRST, SECOND])
        jobs = [await now.submit(video(number)) for number in range(8)]
        for _ in range(40):
            await now.parts.janitor.adopt()
            await asyncio.sleep(ADOPT_SECONDS)
        assert now.parts.upstream.is_blocked
        assert now.parts.upstream.blocked_seconds() > 0
        assert (now.parts.upstream.cause, now.parts.health.upstream.ok) == (Fault.ADDRESS, False)
        assert now.parts.upstream.snapshot().state == "open"
        assert [(await now.conversion(job)).attempts for job in jobs] == [0] * 8
        doors.banned.clear()
        assert await all_ended(now, jobs) == [Status.COMPLETED] * 8
        assert now.parts.health.upstream.ok
        assert now.parts.upstream.cause is None
        assert not now.seen(events.Retried)


async def test_new_identities_end_the_state_of_closed_ones(tmp_path: Path) -> None:
    doors = Doors()
    doors.banned = {"first": FailureCode.BOT_CHECK}
    for replaced in (Budget(name="third", videos_per_hour=240), Budget(name="unlimited", videos_per_hour=0)):
        async with engine(tmp_path / replaced.name, converter=doors, queue_capacity=20) as now:
            now.parts.upstream.identities.use([FIRST])
            for number in range(4):
                await now.submit(video(number))
            await settled()
            assert now.parts.upstream.cause is Fault.ADDRESS
            assert not now.parts.health.upstream.ok
            now.parts.upstream.identities.use([replaced])
            assert now.parts.upstream.cause is None
            assert now.parts.health.upstream.ok
            assert now.parts.upstream.identities.closed_for_seconds() == 0.0


async def test_an_identity_that_recovers_does_not_hide_the_breaker(tmp_path: Path) -> None:
    """Of two reasons at the same time, `/health` shows the remaining one after the end of the other."""
    doors = Doors()
    doors.banned = {"first": FailureCode.BOT_CHECK}
    async with engine(tmp_path, converter=doors, queue_capacity=20) as now:
        upstream, health = now.parts.upstream, now.parts.health
        upstream.identities.use([FIRST])
        for number in range(4):
            await now.submit(video(number))
        await settled()
        assert health.upstream.detail == REASONS[Fault.ADDRESS]
        for number in range(ENDS_TO_OPEN):
            upstream.failed(upstream.started(), VideoId(video(100 + number)), Fault.RELEASE)
        assert health.upstream.detail == REASONS[Fault.RELEASE]
        upstream.identities.use([SECOND])
        assert (health.upstream.ok, health.upstream.detail) == (False, REASONS[Fault.RELEASE])
        assert health.readiness is Readiness.DEGRADED


async def test_a_video_that_alone_is_refused_fails_and_closes_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        now.parts.upstream.identities.use([FIRST, SECOND])
        now.converter.failing[video(1)] = FailureCode.BOT_CHECK
        job = await now.submit(video(1))
        for number in range(2, 6):
            await now.submit(video(number))
        assert (await now.ended(job)).conversion.error is FailureCode.BOT_CHECK
        # Once for nothing, because the identity could have been refused; then the two attempts that it has.
        assert now.converter.started[video(1)] == 3
        assert not now.seen(events.IdentityPaused)


@pytest.mark.parametrize("code", [FailureCode.UPSTREAM_UNREACHABLE, FailureCode.EGRESS_MISCONFIGURED])
async def test_an_identity_that_reaches_nothing_is_left_out(tmp_path: Path, code: FailureCode) -> None:
    doors = Doors()
    doors.banned = {"first": code}
    async with engine(tmp_path, converter=doors, queue_capacity=20, max_retries=0) as now:
        now.parts.upstream.identities.use([FIRST, SECOND])
        jobs = [await now.submit(video(number)) for number in range(10)]
        await settled()
        states = {view.name: view.state for view in now.parts.upstream.identities.views()}
        broken = code is FailureCode.EGRESS_MISCONFIGURED
        assert states == {
            "first": IdentityState.BROKEN if broken else IdentityState.COOLING,
            "second": IdentityState.OK,
        }
        assert not now.parts.upstream.is_blocked
        assert await all_ended(now, jobs) == [Status.COMPLETED] * 10
        assert not now.seen(events.Retried, events.Failed)


async def test_an_outage_of_the_only_identity_ends_as_soon_as_an_extraction_succeeds(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, max_retries=0) as now:
        now.parts.upstream.identities.use([FIRST])
        now.converter.failing[video(1)] = FailureCode.UPSTREAM_UNREACHABLE
        job = await now.submit(video(1))
        for _ in range(100):
            await now.parts.janitor.adopt()
            await asyncio.sleep(ADOPT_SECONDS)
        assert now.parts.upstream.cause is Fault.NETWORK
        assert (await now.conversion(job)).attempts == 0
        now.converter.failing.clear()
        now.converter.hold(video(1))
        while video(1) not in now.converter.running:
            await now.parts.janitor.adopt()
            await asyncio.sleep(ADOPT_SECONDS)
        await settled()
        # It still runs; its extraction has succeeded.
        assert now.parts.upstream.cause is None
        now.converter.held[video(1)].set()
        assert (await now.ended(job)).status is Status.COMPLETED


async def test_a_warning_of_the_page_halves_the_pace(tmp_path: Path) -> None:
    doors = Doors()
    doors.slowing = {"first"}
    async with engine(tmp_path, converter=doors) as now:
        now.parts.upstream.identities.use([FIRST])
        await now.ended(await now.submit(video(1)))
        assert [view.pace for view in now.parts.upstream.identities.views()] == [0.5]
        assert not now.parts.upstream.is_blocked


async def test_while_the_store_is_down_nothing_starts_and_nothing_is_lost(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.upstream.identities.use([FIRST])
        now.store.broken["read_value"] = StoreDown("no answer")
        job = await now.submit(video(1))
        await asyncio.sleep(30.0)
        assert now.converter.started[video(1)] == 0
        assert (await now.ticket(job)).status is Status.PENDING
        del now.store.broken["read_value"]
        assert (await now.ended(job)).status is Status.COMPLETED


async def test_a_token_of_a_cancelled_conversion_is_put_back(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.parts.upstream.identities.use([FIRST])
        reading = now.store.held_calls["read_value"] = asyncio.Event()
        job = await now.submit(video(1))
        await settled()
        await now.parts.jobs.cancel(job.job_id, None)
        reading.set()
        await settled()
        assert now.converter.started[video(1)] == 0
        assert [view.tokens for view in now.parts.upstream.identities.views()] == [20.0]


async def test_a_repeated_extraction_takes_a_token_and_waits_for_it(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.upstream.identities.use([Budget(name="small", videos_per_hour=12)])
        job = await now.submit(video(1))
        await now.ended(job)
        grant = await now.parts.upstream.identities.take(VideoId(video(2)))
        assert grant is None
        begun_at = seconds()
        while grant is None:
            await asyncio.sleep(1.0)
            grant = await now.parts.upstream.identities.take(VideoId(video(2)))
        again_at = seconds()
        await grant.extract_again()
        assert seconds() - again_at > 200.0
        assert again_at > begun_at


async def test_a_drain_releases_the_conversion_that_waits_for_an_identity(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.parts.upstream.identities.use([FIRST])
        reading = now.store.held_calls["read_value"] = asyncio.Event()
        job = await now.submit(video(1))
        await settled()
        drain = asyncio.create_task(now.parts.workers.drain(30.0, asyncio.Event()))
        await settled()
        reading.set()
        await drain
        await now.check_released(job)
        await settled()
        assert [view.tokens for view in now.parts.upstream.identities.views()] == [20.0]


async def test_two_instances_share_a_budget_and_a_pause(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        here, there = (Identities(values=now.store.values, events=now.parts.events, clock=seconds) for _ in range(2))
        for identities in (here, there):
            identities.use([FIRST])
        grants = []
        for number in range(15):
            grants += [await identities.take(VideoId(video(number))) for identities in (here, there)]
        assert sum(grant is not None for grant in grants) == 20
        for number, grant in enumerate(grants[:6]):
            assert grant is not None
            assert not await grant.failed(VideoId(video(number)), Fault.ADDRESS)
        assert there.closed_seconds() or here.closed_seconds()
        await asyncio.sleep(30.0)
        assert await there.take(VideoId(video(99))) is None
        assert await here.take(VideoId(video(99))) is None
        assert there.cause is Fault.ADDRESS
        assert here.cause is Fault.ADDRESS
