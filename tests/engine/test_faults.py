"""Each call to the store fails once, in each way, until a run meets no fault: all jobs end, and all files are whole.

Nothing else helps: the consequences of a fault are mended by the janitor, a lease that runs out, or a restart.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.engine.rig import Rig, engine, never, video
from tests.fakes import FakeConverter, Fault, content_of
from tests.virtual_time import settled
from ytmp3.core.errors import FailureCode, StoreUnavailable
from ytmp3.core.job import Job, Status

VIDEO = video(1)
NO_RENEWALS_SECONDS = 36_000.0
"""An interval of renewals that is longer than a test: they would make the number of a call depend on time."""


def plain(converter: FakeConverter) -> None:
    """The conversion succeeds at once."""


def retried(converter: FakeConverter) -> None:
    """The first attempt fails, the second succeeds."""
    converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)


def doomed(converter: FakeConverter) -> None:
    """No attempt can succeed."""
    converter.fail(VIDEO, *[FailureCode.PRIVATE] * 9)


SCRIPTS: dict[str, tuple[Callable[[FakeConverter], None], Status]] = {
    "plain": (plain, Status.COMPLETED),
    "retried": (retried, Status.COMPLETED),
    "doomed": (doomed, Status.FAILED),
}


async def submitted(now: Rig) -> Job:
    """Submit like a client that tries again after a 503."""
    for _ in range(5):
        try:
            return await now.submit(VIDEO)
        except StoreUnavailable:
            continue
    raise AssertionError("the store does not answer")


async def check_whole(now: Rig, jobs: list[Job], status: Status, *, at_most_conversions: int) -> None:
    for job in jobs:
        ticket = await now.ticket(job)
        assert ticket.status is status
        if status is Status.COMPLETED:
            await now.check_completed(job)
    assert len({job.conversion_id for job in jobs}) == 1
    assert now.converter.converted.count(VIDEO) <= at_most_conversions
    await now.parts.workers.drain(1.0, never())
    assert now.leftovers() == []
    # A track whose `finish` did not reach the store is removed by the second sweep; no other file is there.
    for _ in range(2):
        await now.parts.janitor.sweep()
    track = (await now.conversion(jobs[0])).track
    assert now.tracks() == ({} if track is None else {track.file_name: content_of(VIDEO)})
    counts = await now.records.counts()
    assert counts.pending == counts.processing == 0


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REPLY])
@pytest.mark.parametrize("script", list(SCRIPTS))
async def test_after_one_failed_call_to_the_store_no_attempt_and_no_job_is_lost(
    tmp_path: Path, script: str, fault: Fault
) -> None:
    prepare, status = SCRIPTS[script]
    for number in count(1):
        converter = FakeConverter()
        prepare(converter)
        may_end = converter.hold(VIDEO)
        async with engine(
            tmp_path / str(number),
            converter=converter,
            progress_seconds=NO_RENEWALS_SECONDS,
            stray_file_seconds=-1.0,
        ) as now:
            now.store.faults[number] = fault
            jobs = [await submitted(now) for _ in range(2)]
            may_end.set()
            for job in jobs:
                await now.ended(job)
            calls = len(now.store.calls)
            now.store.faults.clear()
            await check_whole(now, jobs, status, at_most_conversions=1)
            conversion = await now.conversion(jobs[0])
            assert conversion.attempts == {"plain": 0, "retried": 1, "doomed": 1}[script]
            assert conversion.crashes == 0
        if calls < number:
            break
    assert number > 4


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
@pytest.mark.parametrize("script", list(SCRIPTS))
async def test_an_instance_that_dies_at_any_call_to_the_store_loses_no_acknowledged_job(
    tmp_path: Path, script: str, fault: Fault
) -> None:
    prepare, status = SCRIPTS[script]
    for number in count(1):
        folder = tmp_path / str(number)
        converter = FakeConverter()
        prepare(converter)
        jobs: list[Job] = []
        async with engine(folder, converter=converter, progress_seconds=NO_RENEWALS_SECONDS) as dying:
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
            # A job that was not acknowledged is submitted again; it joins the conversion, or creates it.
            jobs.append(await heir.submit(VIDEO))
            await heir.ended(jobs[-1])
            if status is Status.COMPLETED:
                await check_whole(heir, jobs, status, at_most_conversions=2)
            else:
                assert {(await heir.ticket(job)).status for job in jobs} == {status}
        if not has_died:
            break
    assert number > 3


async def live(now: Rig, jobs: list[Job]) -> None:
    jobs.append(await now.submit(VIDEO))
    await now.ended(jobs[0])


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_cancellation_that_fails_can_be_repeated(tmp_path: Path, fault: Fault) -> None:
    async with engine(tmp_path, progress_seconds=NO_RENEWALS_SECONDS) as now:
        job = await now.running(VIDEO)
        # The call after the next is the cancellation itself; the next one looks the job up.
        now.store.faults[len(now.store.calls) + 2] = fault
        with pytest.raises(StoreUnavailable):
            await now.parts.jobs.cancel(job.job_id, None)
        if fault in {Fault.CRASH_BEFORE, Fault.CRASH_AFTER}:
            return
        assert (await now.parts.jobs.cancel(job.job_id, None)).status is Status.CANCELLED
        await settled()
        assert now.converter.cancelled[VIDEO] == 1
        assert now.tracks() == {}
