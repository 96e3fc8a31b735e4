"""Cancelling jobs: a waiting conversion leaves the queue, a running one is stopped, a shared one continues."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import OTHER, engine, slow_disk, video
from tests.virtual_time import settled
from ytmp3.core.errors import QueueFull
from ytmp3.core.job import State, Status
from ytmp3.engine import events

VIDEO = video(1)


async def test_a_job_cancelled_in_the_queue_frees_its_slot(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=1) as now:
        await now.running(VIDEO)
        waiting = await now.submit(video(2))
        with pytest.raises(QueueFull):
            await now.submit(video(3))
        ticket = await now.parts.jobs.cancel(waiting.job_id, None)
        assert (ticket.status, ticket.conversion.state) == (Status.CANCELLED, State.CANCELLED)
        taken = await now.submit(video(3))
        now.converter.hold(VIDEO).set()
        assert (await now.ended(taken)).status is Status.COMPLETED
        assert now.converter.started[video(2)] == 0
        assert len(now.seen(events.Cancelled)) == 1


async def test_a_running_job_that_is_cancelled_stops_its_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        await now.parts.jobs.cancel(job.job_id, None)
        await settled()
        assert now.converter.cancelled[VIDEO] == 1
        assert now.parts.runs.active == 0
        assert (now.tracks(), now.leftovers()) == ({}, [])
        assert (await now.ticket(job)).status is Status.CANCELLED
        assert len(now.seen(events.Cancelled)) == 1
        assert now.seen(events.LeaseLost) == []


async def test_a_job_cancelled_while_its_track_is_published_leaves_no_track(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        arrival = now.store.held_calls["finish"] = asyncio.Event()
        job = await now.submit(VIDEO)
        await settled()
        assert len(now.tracks()) == 1
        await now.parts.jobs.cancel(job.job_id, None)
        arrival.set()
        await settled()
        assert now.tracks() == {}
        assert (await now.ticket(job)).status is Status.CANCELLED
        assert len(now.seen(events.Cancelled)) == 1
        assert now.seen(events.LeaseLost) == []


async def test_one_of_two_jobs_on_a_conversion_can_be_cancelled_alone(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = await now.running(VIDEO)
        second = await now.submit(VIDEO, OTHER)
        assert second.conversion_id == first.conversion_id
        assert (await now.parts.jobs.cancel(first.job_id, None)).status is Status.CANCELLED
        await settled()
        assert now.converter.cancelled[VIDEO] == 0
        now.converter.hold(VIDEO).set()
        assert (await now.ended(second)).status is Status.COMPLETED
        await now.check_completed(second)
        assert (await now.ticket(first)).status is Status.CANCELLED


async def test_the_last_job_to_be_cancelled_stops_the_attempt(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await now.running(VIDEO), await now.submit(VIDEO)]
        for job in jobs:
            await now.parts.jobs.cancel(job.job_id, None)
        await settled()
        assert now.converter.cancelled[VIDEO] == 1
        assert now.tracks() == {}


async def test_a_job_cancelled_at_another_instance_is_stopped_by_the_next_renewal(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        await now.records.cancel(job.job_id)
        await asyncio.sleep(1)
        await settled()
        assert now.converter.cancelled[VIDEO] == 1
        assert now.tracks() == {}


async def test_a_waiting_job_cancelled_at_another_instance_is_not_started(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        waiting = await now.submit(video(2))
        await now.records.cancel(waiting.job_id)
        now.converter.hold(VIDEO).set()
        await settled()
        assert "claim" in now.store.calls
        assert now.parts.queue.qsize() == 0
        assert now.converter.started[video(2)] == 0


async def test_a_job_cancelled_while_its_scratch_folder_is_made_is_not_converted(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        with slow_disk(now):
            job = await now.submit(VIDEO)
            while not now.parts.runs.active:
                await asyncio.sleep(0)
            await now.parts.jobs.cancel(job.job_id, None)
        await settled()
        assert now.converter.started[VIDEO] == 0
        assert now.leftovers() == []
        assert len(now.seen(events.Cancelled)) == 1


async def test_a_finished_job_can_be_cancelled_and_the_other_one_keeps_the_track(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        jobs = [await now.submit(VIDEO) for _ in range(2)]
        await now.ended(jobs[0])
        assert (await now.parts.jobs.cancel(jobs[0].job_id, None)).status is Status.CANCELLED
        await now.check_completed(jobs[1])
