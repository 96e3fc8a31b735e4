"""Each call to the store fails once, in each way, until a run meets no fault: all jobs end, all is whole (J05, J06).

Nobody helps: what a fault leaves behind is picked up by the janitor, by the lease that runs out, or after a restart.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.engine.rig import Engine, engine, until, video
from tests.fakes import FakeConverter, Fault, content_of
from ytmp3.core.errors import FailureCode, StoreUnavailable
from ytmp3.core.job import Job, Status

VIDEO = video(1)


def plain(converter: FakeConverter) -> None:
    pass


def retried(converter: FakeConverter) -> None:
    converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)


def doomed(converter: FakeConverter) -> None:
    converter.fail(VIDEO, *[FailureCode.PRIVATE] * 9)


SCRIPTS: dict[str, tuple[Callable[[FakeConverter], None], Status]] = {
    "plain": (plain, Status.COMPLETED),
    "retried": (retried, Status.COMPLETED),
    "doomed": (doomed, Status.FAILED),
}


async def insistent(now: Engine) -> Job:
    """A client that comes back when it is told 503."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await now.submit(VIDEO)
            except StoreUnavailable:
                continue


async def check_whole(now: Engine, jobs: list[Job], status: Status, tolerated_conversions: int) -> None:
    for job in jobs:
        ticket = await now.ticket(job)
        assert ticket.status is status
        if status is Status.COMPLETED:
            await now.check_completed(job)
    assert len({job.conversion_id for job in jobs}) == 1
    assert now.converter.finished[VIDEO] <= tolerated_conversions
    await now.parts.workers.drain(1.0, asyncio.Event())
    assert now.scratch() == []
    # A track that was published by a holder whose word did not arrive is swept; no other file is.
    await now.parts.janitor.sweep()
    assert now.tracks() == (
        {(await now.conversion(jobs[0])).track.file_name: content_of(VIDEO)}  # type: ignore[union-attr]
        if status is Status.COMPLETED
        else {}
    )
    counts = await now.records.counts()
    assert counts.pending == counts.processing == 0


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REPLY])
@pytest.mark.parametrize("script", list(SCRIPTS))
async def test_a_store_that_fails_once_at_any_call_costs_nothing(tmp_path: Path, script: str, fault: Fault) -> None:
    prepare, status = SCRIPTS[script]
    for number in count(1):
        converter = FakeConverter()
        prepare(converter)
        may_end = converter.hold(VIDEO)
        async with engine(
            tmp_path / str(number), converter=converter, progress_seconds=3600.0, stray_file_seconds=-1.0
        ) as now:
            now.store.faults[number] = fault
            jobs = [await insistent(now) for _ in range(2)]
            may_end.set()
            for job in jobs:
                await now.ended(job)
            calls = len(now.store.calls)
            now.store.faults.clear()
            await check_whole(now, jobs, status, tolerated_conversions=1)
            conversion = await now.conversion(jobs[0])
            assert conversion.attempts == {"plain": 0, "retried": 1, "doomed": 1}[script]
            assert conversion.crashes == 0
        if calls < number:
            break
    assert number > 4


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
@pytest.mark.parametrize("script", list(SCRIPTS))
async def test_an_instance_that_dies_at_any_call_loses_no_acknowledged_job(
    tmp_path: Path, script: str, fault: Fault
) -> None:
    prepare, status = SCRIPTS[script]
    for number in count(1):
        folder = tmp_path / str(number)
        converter = FakeConverter()
        prepare(converter)
        jobs: list[Job] = []
        async with engine(folder, converter=converter, progress_seconds=3600.0) as dying:
            dying.store.faults[number] = fault
            life = asyncio.create_task(live(dying, jobs))
            death = asyncio.create_task(dying.store.crashed.wait())
            await asyncio.wait({life, death}, return_when=asyncio.FIRST_COMPLETED)
            has_died = dying.store.crashed.is_set()
            life.cancel()
            death.cancel()
            await asyncio.gather(life, death, return_exceptions=True)
            await dying.kill()
        async with engine(
            folder, instance="b", converter=converter, clock=dying.clock, stray_file_seconds=-1.0
        ) as heir:
            for job in jobs:
                await heir.ended(job)
            # Whatever was not acknowledged is asked for again; it meets what is there, or starts anew.
            jobs.append(await heir.submit(VIDEO))
            await heir.ended(jobs[-1])
            if status is Status.COMPLETED:
                await check_whole(heir, jobs, status, tolerated_conversions=2)
            else:
                assert {(await heir.ticket(job)).status for job in jobs} == {status}
        if not has_died:
            break
    assert number > 3


async def live(now: Engine, jobs: list[Job]) -> None:
    jobs.append(await now.submit(VIDEO))
    await now.ended(jobs[0])


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_cancellation_that_fails_can_be_repeated(tmp_path: Path, fault: Fault) -> None:
    async with engine(tmp_path) as now:
        now.converter.hold(VIDEO)
        job = await now.submit(VIDEO)
        await until(lambda: VIDEO in now.converter.running)
        # The next two calls are the look at the job, and its cancellation; renewals may come between.
        now.store.faults = dict.fromkeys(range(len(now.store.calls) + 1, len(now.store.calls) + 40), fault)
        with pytest.raises(StoreUnavailable):
            await now.parts.jobs.cancel(job.job_id, None)
        if fault in {Fault.CRASH_BEFORE, Fault.CRASH_AFTER}:
            return
        now.store.faults.clear()
        assert (await now.parts.jobs.cancel(job.job_id, None)).status is Status.CANCELLED
        await until(lambda: now.converter.cancelled[VIDEO])
        assert now.tracks() == {}
