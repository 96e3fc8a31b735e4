"""The janitor: adopts due conversions, removes expired ones, sweeps leftovers."""

import asyncio
import os
from pathlib import Path

from tests.engine.rig import LEASE_SECONDS, RETENTION_SECONDS, Rig, engine, video
from tests.virtual_time import settled
from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.core.job import Status
from ytmp3.engine import events
from ytmp3.engine.janitor import SWEEP_SECONDS

VIDEO = video(1)
MINUTE_SECONDS = 60.0


# Adopting


async def test_conversions_of_a_dead_instance_are_carried_on(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as dead:
        jobs = [await dead.running(VIDEO)] + [await dead.submit(video(number)) for number in (2, 3, 4)]
        await dead.kill()
    dead.converter.hold(VIDEO).set()
    async with engine(tmp_path, instance="b", clock=dead.clock, converter=dead.converter) as heir:
        # The embedded store belongs to one process at a time, so its conversions are due without waiting for a lease.
        assert await heir.parts.janitor.adopt() == 4
        for job in jobs:
            assert (await heir.ended(job)).status is Status.COMPLETED
        assert [(await heir.conversion(job)).crashes for job in jobs] == [1, 0, 0, 0]
        (adopted,) = heir.seen(events.Adopted)
        assert isinstance(adopted, events.Adopted)
        assert {conversion.conversion_id for conversion in adopted.conversions} == {job.conversion_id for job in jobs}
        assert heir.leftovers() == []


async def test_a_conversion_that_was_running_at_three_crashes_has_failed(tmp_path: Path) -> None:
    converter, clock, jobs = None, None, []
    for crash in range(3):
        async with engine(tmp_path, instance=str(crash), converter=converter, clock=clock, workers=1) as now:
            converter, clock = now.converter, now.clock
            if crash == 0:
                jobs = [await now.running(VIDEO), await now.submit(video(2))]
            else:
                assert await now.parts.janitor.adopt() == 2
                await settled()
                assert VIDEO in now.converter.running
            await now.kill()
    async with engine(tmp_path, instance="last", converter=converter, clock=clock) as now:
        # The other one only waited: that costs nothing.
        assert await now.parts.janitor.adopt() == 1
        assert (await now.ended(jobs[1])).status is Status.COMPLETED
        ticket = await now.ticket(jobs[0])
        assert (ticket.status, ticket.conversion.error) == (Status.FAILED, FailureCode.POISON)
        assert ticket.conversion.crashes == 3
        assert now.converter.started[VIDEO] == 3


async def test_no_more_conversions_are_adopted_than_slots_are_free(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=10) as dead:
        await dead.running(VIDEO)
        for number in range(2, 12):
            await dead.submit(video(number))
        await dead.kill()
    for number in range(2, 12):
        dead.converter.hold(video(number))
    async with engine(
        tmp_path, instance="b", workers=1, queue_capacity=3, clock=dead.clock, converter=dead.converter
    ) as heir:
        assert await heir.parts.janitor.adopt() == 3
        await settled()
        assert await heir.parts.janitor.adopt() == 1, "a worker has taken one"
        assert heir.parts.queue.free_slots == 0


async def test_adopted_conversions_without_a_slot_are_released_at_no_cost(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=3) as now:
        blocker = await now.running(VIDEO)
        await now.submit(video(2))
        lost = await now.submit(video(3))
        await now.records.release([(await now.conversion(lost)).lease])
        now.parts.queue.remove(lost.conversion_id)
        # Two submissions take the last slots while the store answers.
        arrival = now.store.held_calls["adopt"] = asyncio.Event()
        adopt = asyncio.create_task(now.parts.janitor.adopt())
        await settled()
        await now.submit(video(4))
        await now.submit(video(5))
        arrival.set()
        await adopt
        await now.check_released(lost)
        now.converter.hold(VIDEO).set()
        assert (await now.ended(lost)).status is Status.COMPLETED
        assert (await now.ended(blocker)).status is Status.COMPLETED


async def test_a_draining_instance_adopts_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.health.is_draining = True
        assert await now.parts.janitor.adopt() == 0
        assert now.store.calls == []


async def test_a_conversion_in_no_queue_is_adopted_when_its_lease_has_run_out(tmp_path: Path) -> None:
    """As after a lost reply: the job is stored, and its instance does not know."""
    async with engine(tmp_path, workers=1) as now:
        await now.running(VIDEO)
        job = await now.submit(video(2))
        now.parts.queue.take_all()
        assert await now.parts.janitor.adopt() == 0
        await asyncio.sleep(LEASE_SECONDS + 1)
        now.converter.hold(VIDEO).set()
        assert (await now.ended(job)).status is Status.COMPLETED
        assert (await now.conversion(job)).crashes == 0


# Expiring


async def test_a_record_and_its_file_expire_together(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        old = await now.submit(VIDEO)
        await now.ended(old)
        now.converter.fail(video(2), FailureCode.PRIVATE)
        failed = await now.submit(video(2))
        await now.ended(failed)
        now.clock.advance(RETENTION_SECONDS / 2)
        young = await now.submit(video(3))
        await now.ended(young)
        assert await now.parts.janitor.expire() == 0
        now.clock.advance(RETENTION_SECONDS / 2 + 1)
        assert await now.parts.janitor.expire() == 2
        assert await now.records.get(old.job_id) is None
        assert await now.records.get(failed.job_id) is None
        await now.check_completed(young)
        assert len(now.tracks()) == 1
        assert len(now.seen(events.TrackExpired)) == 1


async def test_a_track_that_is_requested_again_is_kept_for_another_retention(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.ended(await now.submit(VIDEO))
        now.clock.advance(RETENTION_SECONDS - 1)
        again = await now.submit(VIDEO)
        now.clock.advance(RETENTION_SECONDS - 1)
        assert await now.parts.janitor.expire() == 0
        await now.check_completed(again)


async def test_conversions_without_a_file_expire_too(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=5, queue_capacity=300) as now:
        for number in range(230):
            now.converter.fail(video(number), FailureCode.PRIVATE)
        jobs = [await now.submit(video(number)) for number in range(230)]
        jobs += [await now.submit(video(number)) for number in range(300, 320)]
        for job in jobs:
            await now.ended(job)
        now.clock.advance(RETENTION_SECONDS + 1)
        assert await now.parts.janitor.expire() == 250
        counts = await now.records.counts()
        assert (counts.failed, counts.completed) == (0, 0)
        assert now.tracks() == {}


# Sweeping


async def swept(now: Rig) -> int:
    """Finish a job, put two files beside its track that no record names, and sweep twice."""
    job = await now.submit(VIDEO)
    await now.ended(job)
    (now.shelf.folder / ("0" * 34 + "-7.mp3")).write_bytes(b"stray")
    (now.shelf.folder / "unheard of").write_bytes(b"stray")
    assert await now.parts.janitor.sweep() == 0, "a record may still be written for them"
    removed = await now.parts.janitor.sweep()
    await now.check_completed(job)
    return removed


async def test_a_young_file_without_a_record_is_kept(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        assert await swept(now) == 0
        assert len(now.tracks()) == 3


async def test_an_old_file_without_a_record_is_removed(tmp_path: Path) -> None:
    async with engine(tmp_path, stray_file_seconds=-1.0) as now:
        assert await swept(now) == 2
        assert len(now.tracks()) == 1


async def test_no_file_is_removed_while_the_store_does_not_reply(tmp_path: Path) -> None:
    async with engine(tmp_path, stray_file_seconds=-1.0) as now:
        job = await now.submit(VIDEO)
        await now.ended(job)
        now.store.broken["known_files"] = StoreDown("no answer")
        now.parts.janitor.start()
        await asyncio.sleep(SWEEP_SECONDS + 1)
        await now.parts.janitor.close()
        assert now.store.calls.count("known_files") == 2
        await now.check_completed(job)


def scratch_of_a_dead_instance(folder: Path, name: str) -> Path:
    scratch = folder / "scratch" / name
    scratch.mkdir()
    (scratch / ".lock").touch()
    (scratch / "half.webm").write_bytes(b"x")
    return scratch


async def test_scratch_of_dead_instances_is_removed_and_that_of_the_living_is_kept(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.running(VIDEO)
        dead = scratch_of_a_dead_instance(tmp_path, "dead")
        starting = tmp_path / "scratch" / "starting"
        starting.mkdir()
        ancient = tmp_path / "scratch" / "half removed"
        ancient.mkdir()
        os.utime(ancient, (0, 0))
        await now.scratch.sweep()
        assert not dead.exists()
        assert not ancient.exists()
        assert starting.exists()
        assert len(now.leftovers()) >= 1


async def test_scratch_of_an_instance_that_dies_later_is_removed_within_a_minute(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.janitor.start()
        for name in ("dead", "dead too"):
            await asyncio.sleep(MINUTE_SECONDS / 7)
            dead = scratch_of_a_dead_instance(tmp_path, name)
            await asyncio.sleep(MINUTE_SECONDS)
            assert not dead.exists()
        await now.parts.janitor.close()
        assert now.store.calls.count("known_files") == 1, "it does not wait for the sweep of the tracks"


async def test_the_janitor_works_again_when_the_store_does(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.janitor.start()
        for method in ("adopt", "expire", "known_files"):
            now.store.broken[method] = StoreDown("no answer")
        await asyncio.sleep(SWEEP_SECONDS + 1)
        failed = {event.operation for event in now.happened if isinstance(event, events.StoreFailed)}
        assert failed == {"adopt", "expire", "sweep"}
        now.store.broken.clear()
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        job = await now.submit(VIDEO)
        await asyncio.sleep(MINUTE_SECONDS)
        assert (await now.ticket(job)).status is Status.COMPLETED
        await asyncio.sleep(RETENTION_SECONDS)
        assert await now.records.get(job.job_id) is None
        assert now.tracks() == {}
        await now.parts.janitor.close()
