"""Jobs as their owners see them: ownership, queue position and progress."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.core.values import conversion
from tests.engine.rig import OTHER, RETENTION_SECONDS, SOMEONE, engine, video
from tests.virtual_time import settled
from ytmp3.core.errors import JobUnknown, StoreDown, StoreUnavailable
from ytmp3.core.job import Stage
from ytmp3.engine.jobs import Live

VIDEO = video(1)


@pytest.mark.parametrize("job_id", ["", "x", "A" * 34, "0" * 33, "0" * 35, "../" * 11 + "a", "0" * 34 + "\n", "0" * 34])
async def test_an_id_that_was_never_given_out_is_unknown(tmp_path: Path, job_id: str) -> None:
    async with engine(tmp_path) as now:
        with pytest.raises(JobUnknown):
            await now.parts.jobs.ticket(job_id, None)
        with pytest.raises(JobUnknown):
            await now.parts.jobs.cancel(job_id, None)
        # Only a text in the form of an id reaches the store.
        assert now.store.calls == (["get", "get"] if job_id == "0" * 34 else [])


async def test_a_job_of_another_client_is_unknown(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        assert (await now.parts.jobs.ticket(job.job_id, SOMEONE.owner)).job == job
        with pytest.raises(JobUnknown):
            await now.parts.jobs.ticket(job.job_id, OTHER.owner)
        with pytest.raises(JobUnknown):
            await now.parts.jobs.cancel(job.job_id, OTHER.owner)
        assert "cancel" not in now.store.calls


async def test_a_job_that_expires_while_it_is_cancelled_is_unknown(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(VIDEO)
        await now.ended(job)
        arrival = now.store.held_calls["cancel"] = asyncio.Event()
        cancel = asyncio.create_task(now.parts.jobs.cancel(job.job_id, None))
        await settled()
        assert "cancel" in now.store.calls
        now.clock.advance(1e6)
        await now.records.expire(10)
        arrival.set()
        with pytest.raises(JobUnknown):
            await cancel


async def test_a_job_is_not_unknown_while_the_store_does_not_reply(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(VIDEO)
        now.store.broken["get"] = StoreDown("no answer")
        with pytest.raises(StoreUnavailable) as refused:
            await now.parts.jobs.ticket(job.job_id, None)
        assert refused.value.retry_after_seconds


async def test_a_job_that_waits_here_has_a_position_and_an_estimate(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        jobs = [await now.submit(video(number)) for number in (2, 3)]
        live = [now.parts.jobs.live(await now.ticket(job)) for job in jobs]
        assert [each.queue_position for each in live] == [1, 2]
        # Before anything has ended, a conversion is expected to take 20 s.
        assert [each.eta_seconds for each in live] == [40, 60]


async def test_a_running_job_has_live_progress(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        live = now.parts.jobs.live(await now.ticket(job))
        assert live.report is not None
        assert (live.report.stage, live.report.progress) == (Stage.DOWNLOADING, 0.4)
        assert (live.queue_position, live.eta_seconds) == (None, 12)


async def test_an_ended_job_has_nothing_beyond_its_record(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(VIDEO)
        assert now.parts.jobs.live(await now.ended(job)) == Live()


async def test_a_job_that_waits_in_another_instance_has_the_recorded_position(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        ticket = await now.ticket(await now.submit(video(2)))
        elsewhere = replace(ticket, conversion=replace(conversion(8), queue_position=7))
        assert now.parts.jobs.live(elsewhere).queue_position == 7
        here = replace(ticket, conversion=replace(ticket.conversion, queue_position=7))
        assert now.parts.jobs.live(here).queue_position == 1


async def test_the_expiry_of_a_track_is_judged_by_the_clock_of_the_store(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.submit(VIDEO)
        assert not await now.parts.jobs.has_expired(await now.ticket(job)), "it has no expiry yet"
        ticket = await now.ended(job)
        assert not await now.parts.jobs.has_expired(ticket)
        now.clock.advance(RETENTION_SECONDS)
        assert await now.parts.jobs.has_expired(ticket)
