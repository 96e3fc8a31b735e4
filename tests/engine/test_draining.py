"""Stopping an instance: no job is lost, and no attempt is counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.engine.rig import engine, never, slow_disk, some_turns, video
from tests.fakes import FakeConverter
from tests.virtual_time import seconds, settled
from ytmp3.converter import Converted
from ytmp3.converter.cleanup import to_its_end
from ytmp3.core.errors import FailureCode, StoreFull
from ytmp3.core.job import Status
from ytmp3.engine import events
from ytmp3.engine.workers import CLOSE_SECONDS, STOP_SECONDS

VIDEO = video(1)


async def test_a_drain_releases_what_waits_and_lets_the_running_end(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        job, waiting = await now.running(VIDEO), await now.submit(video(2))
        drain = asyncio.create_task(now.parts.workers.drain(5.0, never()))
        await settled()
        assert now.parts.queue.qsize() == 0
        await now.check_released(waiting)
        assert not drain.done()
        now.converter.hold(VIDEO).set()
        await drain
        assert seconds() < 5.0
        assert (await now.ticket(job)).status is Status.COMPLETED
        assert now.converter.started[video(2)] == 0


async def test_conversions_that_do_not_end_in_time_are_released_at_no_cost(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        began_at = seconds()
        await now.parts.workers.drain(60.0, never())
        assert seconds() - began_at == pytest.approx(60.0)
        assert now.converter.cancelled[VIDEO] == 1
        await now.check_released(job)
        assert (now.tracks(), now.leftovers()) == ({}, [])


async def test_a_failure_during_the_drain_is_not_counted_unless_the_video_is_at_fault(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path, workers=2) as now:
        ended, refused = await now.running(VIDEO), await now.running(video(2))
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        now.converter.fail(video(2), FailureCode.PRIVATE)
        now.parts.health.is_draining = True
        drain = asyncio.create_task(now.parts.workers.drain(60.0, never()))
        await settled()
        for each in (VIDEO, video(2)):
            now.converter.hold(each).set()
        await drain
        assert (await now.ticket(refused)).conversion.error is FailureCode.PRIVATE
        assert now.seen(events.Postponed)
        await now.check_released(ended)


async def test_a_forced_drain_releases_the_running_at_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        force = asyncio.Event()
        force.set()
        began_at = seconds()
        await now.parts.workers.drain(60.0, force)
        assert seconds() - began_at < 1.0
        assert now.converter.cancelled[VIDEO] == 1
        await now.check_released(job)


async def test_a_drain_waits_for_a_claim_under_way_and_releases_it(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        arrival = now.store.held_calls["claim"] = asyncio.Event()
        job = await now.submit(VIDEO)
        await settled()
        drain = asyncio.create_task(now.parts.workers.drain(5.0, never()))
        await settled()
        assert not drain.done()
        arrival.set()
        await drain
        await now.check_released(job)
        assert now.converter.started[VIDEO] == 0


async def test_a_drain_does_not_wait_for_a_store_that_does_not_reply(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.store.broken["claim"] = StoreFull("full")
        await now.submit(VIDEO)
        await settled()
        began_at = seconds()
        await now.parts.workers.drain(60.0, never())
        assert seconds() - began_at < 1.0


async def test_a_drain_gives_up_on_a_conversion_that_cannot_be_stopped(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        never_ends = now.converter.end_slowly(VIDEO)
        await now.running(VIDEO)
        began_at = seconds()
        await now.parts.workers.drain(0.0, never())
        assert seconds() - began_at == pytest.approx(STOP_SECONDS)
        never_ends.set()


async def test_a_job_accepted_during_the_drain_is_released_before_the_end(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        arrival = now.store.held_calls["submit"] = asyncio.Event()
        late = asyncio.create_task(now.submit(video(2)))
        await settled()
        now.parts.health.is_draining = True
        drain = asyncio.create_task(now.parts.workers.drain(1.0, never()))
        await settled()
        arrival.set()
        job = await late
        await drain
        await now.parts.workers.close()
        await now.check_released(job)
        assert now.parts.queue.qsize() == 0


async def test_a_job_that_an_idle_worker_gets_during_the_drain_is_released(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        arrival = now.store.held_calls["submit"] = asyncio.Event()
        late = asyncio.create_task(now.submit(VIDEO))
        await settled()
        await now.parts.workers.drain(0.0, never())
        arrival.set()
        job = await late
        await settled()
        await now.check_released(job)
        assert now.converter.started[VIDEO] == 0


async def test_closing_the_workers_releases_what_still_runs(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        await now.parts.workers.close()
        await now.check_released(job)
        assert now.converter.cancelled[VIDEO] == 1
        assert now.leftovers() == []


async def test_closing_does_not_hang_on_an_attempt_that_is_being_stopped(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.end_slowly(VIDEO)
        job = await now.running(VIDEO)
        await now.parts.jobs.cancel(job.job_id, None)
        await settled()
        assert now.converter.cancelled[VIDEO] == 1
        assert now.parts.runs.active == 1
        await now.parts.workers.close()
        assert now.parts.runs.active == 0
        assert now.leftovers() == []


class ConverterOnAHangingDisk(FakeConverter):
    """Its cleanup waits for the disk. As in the real converter, no cancellation aborts it."""

    def __init__(self) -> None:
        super().__init__()
        self.disk_answers = asyncio.Event()

    async def convert(self, *arguments: Any) -> Converted:
        try:
            return await super().convert(*arguments)
        finally:
            await to_its_end(self.disk_answers.wait())


async def test_closing_releases_a_conversion_whose_disk_hangs(tmp_path: Path) -> None:
    converter = ConverterOnAHangingDisk()
    async with engine(tmp_path, converter=converter) as now:
        job = await now.running(VIDEO)
        await now.parts.workers.drain(0.0, never())
        began_at = seconds()
        await now.parts.workers.close()
        assert seconds() - began_at == pytest.approx(CLOSE_SECONDS)
        await now.check_released(job)
        converter.disk_answers.set()
        await settled()
        await now.check_released(job)


async def test_a_worker_that_is_ended_while_it_cleans_up_leaves_no_scratch(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        with slow_disk(now) as disk_answers:
            await now.parts.jobs.cancel(job.job_id, None)
            while not now.converter.cancelled[VIDEO]:
                await asyncio.sleep(0)
            await some_turns()
            assert now.leftovers() != [], "the worker waits for the disk"
            close = asyncio.create_task(now.parts.workers.close())
            await some_turns()
            assert not close.done()
            disk_answers.set()
            await close
        assert now.leftovers() == []


async def test_another_instance_starts_released_conversions_without_waiting_for_a_lease(tmp_path: Path) -> None:
    async with engine(tmp_path) as first:
        jobs = [await first.running(VIDEO), await first.running(video(2))]
        await first.parts.workers.drain(0.0, never())
    async with engine(tmp_path, instance="b", clock=first.clock, converter=first.converter) as heir:
        for number in (1, 2):
            heir.converter.hold(video(number)).set()
        assert await heir.parts.janitor.adopt() == 2
        for job in jobs:
            assert (await heir.ended(job)).status is Status.COMPLETED


@pytest.mark.parametrize("seconds_to_drain", [0.0, 5.0])
async def test_leases_are_renewed_until_the_last_conversion_has_ended(tmp_path: Path, seconds_to_drain: float) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        now.converter.end_slowly(VIDEO)
        drain = asyncio.create_task(now.parts.workers.drain(seconds_to_drain, never()))
        await asyncio.sleep(STOP_SECONDS + seconds_to_drain + 60)
        assert await now.records.adopt(1) == []
        now.converter.end_slowly(VIDEO).set()
        await drain
        await settled()
        await now.check_released(job)
