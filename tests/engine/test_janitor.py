"""The janitor: brings in what is due, removes what has expired, sweeps leftovers, watches the house."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.engine.rig import LEASE_SECONDS, RETENTION_SECONDS, Engine, engine, until, video
from ytmp3.converter import ToolCheck
from ytmp3.core.errors import FailureCode, StoreDown, StoreUnusable
from ytmp3.core.job import Job, State, Status
from ytmp3.engine import janitor
from ytmp3.engine.health import Health, Readiness

VIDEO = video(1)


async def running(now: Engine, video_id: str = VIDEO) -> Job:
    now.converter.hold(video_id)
    job = await now.submit(video_id)
    await until(lambda: video_id in now.converter.running)
    return job


# Adopting


async def test_what_a_dead_instance_had_is_carried_on(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as dead:
        jobs = [await running(dead)] + [await dead.submit(video(number)) for number in (2, 3, 4)]
        await dead.kill()
    dead.converter.hold(VIDEO).set()
    async with engine(tmp_path, instance="b", clock=dead.clock, converter=dead.converter) as heir:
        # The embedded store knows that its last process is dead: nobody waits for a lease.
        assert await heir.parts.janitor.adopt() == 4
        for job in jobs:
            ticket = await heir.ended(job)
            assert ticket.status is Status.COMPLETED
        assert [(await heir.conversion(job)).crashes for job in jobs] == [1, 0, 0, 0]
        assert heir.metric("ytmp3_conversions_adopted_total") == 4
        assert heir.scratch() == []


async def test_what_was_running_at_three_crashes_is_poison_and_the_rest_is_not(tmp_path: Path) -> None:
    converter, clock, jobs = None, None, []
    for crash in range(3):
        async with engine(tmp_path, instance=str(crash), converter=converter, clock=clock, workers=1) as now:
            converter, clock = now.converter, now.clock
            if crash == 0:
                jobs = [await running(now), await now.submit(video(2))]
            else:
                assert await now.parts.janitor.adopt() == 2
                await until(lambda now=now: VIDEO in now.converter.running)  # type: ignore[misc]
            await now.kill()
    async with engine(tmp_path, instance="last", converter=converter, clock=clock) as now:
        assert await now.parts.janitor.adopt() == 1
        assert (await now.ended(jobs[1])).status is Status.COMPLETED
        ticket = await now.ticket(jobs[0])
        assert (ticket.status, ticket.conversion.error, ticket.conversion.crashes) == (
            Status.FAILED, FailureCode.POISON, 3,
        )  # fmt: skip
        assert now.converter.started[VIDEO] == 3


async def test_no_more_is_adopted_than_there_is_room(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=10) as dead:
        await running(dead)
        for number in range(2, 12):
            await dead.submit(video(number))
        await dead.kill()
    async with engine(
        tmp_path, instance="b", workers=1, capacity=3, clock=dead.clock, converter=dead.converter
    ) as heir:
        assert await heir.parts.janitor.adopt() == 3
        assert await heir.parts.janitor.adopt() <= 1
        assert heir.parts.queue.free_slots == 0


async def test_what_does_not_fit_any_more_goes_back_at_no_cost(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, capacity=3) as now:
        blocker = await running(now)
        await now.submit(video(2))
        lost = await now.submit(video(3))
        await now.records.release([(await now.conversion(lost)).lease])
        now.parts.queue.remove(lost.conversion_id)
        arrival = now.store.held_calls["adopt"] = asyncio.Event()
        adopt = asyncio.create_task(now.parts.janitor.adopt())
        await until(lambda: "adopt" in now.store.calls)
        await now.submit(video(4))
        await now.submit(video(5))
        arrival.set()
        await adopt
        given_back = await now.conversion(lost)
        assert (given_back.state, given_back.holder, given_back.crashes) == (State.QUEUED, None, 0)
        for number in range(1, 6):
            now.converter.hold(video(number)).set()
        assert (await now.ended(lost)).status is Status.COMPLETED
        assert (await now.ended(blocker)).status is Status.COMPLETED


async def test_a_draining_instance_adopts_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.health.is_draining = True
        assert await now.parts.janitor.adopt() == 0
        assert now.store.calls == []


# Expiring


async def test_record_and_file_vanish_together(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        old, failed = await now.submit(VIDEO), None
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
        assert now.metric("ytmp3_tracks_expired_total") == 1


async def test_a_track_asked_for_again_lives_on(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.ended(await now.submit(VIDEO))
        now.clock.advance(RETENTION_SECONDS - 1)
        again = await now.submit(VIDEO)
        now.clock.advance(RETENTION_SECONDS - 1)
        assert await now.parts.janitor.expire() == 0
        await now.check_completed(again)


async def test_what_has_no_file_expires_too(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=5, capacity=300) as now:
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


async def test_a_young_file_without_a_record_stays_and_an_old_one_goes(tmp_path: Path) -> None:
    async with engine(tmp_path) as young, engine(tmp_path / "b", stray_file_seconds=-1.0) as old:
        for now, swept in ((young, 0), (old, 2)):
            job = await now.submit(VIDEO)
            await now.ended(job)
            (now.storage.tracks / ("0" * 34 + "-7.mp3")).write_bytes(b"stray")
            (now.storage.tracks / "unheard of").write_bytes(b"stray")
            assert await now.parts.janitor.sweep() == swept
            assert len(now.tracks()) == 3 - swept
            await now.check_completed(job)


async def test_a_store_that_does_not_answer_makes_no_file_a_stray(tmp_path: Path) -> None:
    async with engine(tmp_path, stray_file_seconds=-1.0) as now:
        job = await now.submit(VIDEO)
        await now.ended(job)
        now.store.broken["known_files"] = StoreDown("no answer")
        now.parts.janitor.start()
        await until(lambda: "known_files" in now.store.calls)
        await now.parts.janitor.close()
        await now.check_completed(job)


async def test_the_scratch_of_the_dead_is_swept_and_that_of_the_living_is_not(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await running(now)
        dead = tmp_path / "scratch" / "dead"
        dead.mkdir()
        (dead / ".lock").touch()
        (dead / "half.webm").write_bytes(b"x")
        fresh = tmp_path / "scratch" / "being made"
        fresh.mkdir()
        ancient = tmp_path / "scratch" / "half removed"
        ancient.mkdir()
        os.utime(ancient, (0, 0))
        await now.storage.sweep()
        assert not dead.exists()
        assert not ancient.exists()
        assert fresh.exists()
        assert len(now.scratch()) >= 1


async def test_what_the_dead_leave_later_is_gone_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: on a clock of its own, which does not wait for the sweep of the tracks."""
    assert 2 * janitor.SCRATCH_SECONDS <= 60
    monkeypatch.setattr(janitor, "SCRATCH_SECONDS", 0.01)
    async with engine(tmp_path) as now:
        now.parts.janitor.start()
        await until(lambda: "known_files" in now.store.calls)
        for name in ("dead", "dead too"):
            dead = tmp_path / "scratch" / name
            dead.mkdir()
            (dead / "half.webm").write_bytes(b"x")
            (dead / ".lock").touch()
            await until(lambda folder=dead: not folder.exists())  # type: ignore[misc]
        await now.parts.janitor.close()
        assert now.store.calls.count("known_files") == 1


# Watching


async def test_the_board_shows_what_was_seen(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.health.space = None
        await now.parts.watcher.watch()
        assert now.parts.health.space is not None
        assert now.parts.health.store.ok
        now.store.broken["ping"] = StoreUnusable("maxmemory-policy is allkeys-lru")
        await now.parts.watcher.watch()
        assert not now.parts.health.store.ok
        assert now.parts.health.store.detail == "maxmemory-policy is allkeys-lru"
        now.store.broken["ping"] = StoreDown()
        await now.parts.watcher.watch()
        assert now.parts.health.store.detail == "StoreDown"
        now.store.broken.clear()
        await now.parts.watcher.watch()
        assert now.parts.health.store.ok


async def test_a_folder_that_is_gone_is_low_storage(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as now:
        (tmp_path / "data").rename(tmp_path / "moved")
        await now.parts.watcher.watch()
        assert now.parts.health.is_storage_low
        assert not now.parts.health.checks["storage"].ok
        (tmp_path / "moved").rename(tmp_path / "data")
        await now.parts.watcher.watch()
        assert now.parts.health.storage_error is None


def test_an_instance_that_has_not_looked_is_not_ready() -> None:
    health = Health()
    assert health.readiness is Readiness.UNREADY
    assert {name for name, check in health.checks.items() if not check.ok} == {"store", "storage", "tools"}
    assert Health(is_draining=True).readiness is Readiness.DRAINING


async def test_the_loops_turn_by_themselves_and_survive_a_store_that_fails(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.health.tools = []
        now.converter.tools = [ToolCheck(name="ffmpeg", ok=False, version=None, detail="not found")]
        now.store.broken["adopt"] = StoreDown("no answer")
        now.parts.watcher.start()
        now.parts.janitor.start()
        await until(lambda: {"adopt", "expire", "known_files", "ping"} <= set(now.store.calls))
        await until(lambda: now.parts.health.tools)
        assert now.parts.health.readiness is Readiness.UNREADY
        await until(lambda: now.metric("ytmp3_store_errors_total", kind="StoreDown"))
        await until(lambda: now.metric("ytmp3_event_loop_lag_seconds_count"))
        await now.parts.janitor.close()
        await now.parts.watcher.close()


async def test_what_nobody_renews_is_taken_over_after_a_lease(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        # A reply that was lost: the job is in the store, and in no queue.
        await running(now)
        job = await now.submit(video(2))
        now.parts.queue.take_all()
        assert await now.parts.janitor.adopt() == 0
        now.clock.advance(LEASE_SECONDS + 1)
        now.converter.hold(VIDEO).set()
        assert (await now.ended(job)).status is Status.COMPLETED
        assert (await now.conversion(job)).crashes == 0
