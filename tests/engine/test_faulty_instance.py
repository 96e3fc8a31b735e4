"""Faults of one instance, such as a disk that hangs or a tool that is broken: they cost no job one of its attempts."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.engine.rig import HangingThreads, Rig, engine, video
from tests.virtual_time import settled
from ytmp3.converter import ToolCheck
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import Job, Status
from ytmp3.engine import events
from ytmp3.engine.health import Readiness
from ytmp3.engine.relief import GIVE_BACK_SECONDS
from ytmp3.storage.scratch import Scratch

pytestmark = pytest.mark.attack

VIDEO = video(1)
BROKEN = ToolCheck(name="ffmpeg", ok=False, version=None, detail="not found")


def readiness(now: Rig) -> Readiness:
    return now.parts.health.readiness


async def check_no_attempt_was_counted(now: Rig, job: Job) -> None:
    assert (await now.ended(job)).status is Status.COMPLETED
    await now.check_completed(job)
    conversion = await now.conversion(job)
    assert (conversion.attempts, conversion.crashes) == (0, 0)


@pytest.mark.parametrize("folder", ["tracks", "scratch", "scratch/a"])
async def test_a_folder_removed_under_a_running_service_is_made_again(tmp_path: Path, folder: str) -> None:
    async with engine(tmp_path) as now:
        running = await now.running(VIDEO)
        shutil.rmtree(tmp_path / folder)
        now.converter.hold(VIDEO).set()
        await check_no_attempt_was_counted(now, running)
        assert now.parts.health.fault is None
        await check_no_attempt_was_counted(now, await now.submit(video(2)))
        # The folder is locked again, so another instance leaves it alone.
        other = Scratch(tmp_path / "scratch", instance=InstanceId("b"))
        await other.open()
        assert (tmp_path / "scratch" / "a" / ".lock").exists()
        await other.close()


async def test_a_data_folder_that_is_gone_stops_all_work_until_it_is_back(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as now:
        running = await now.running(VIDEO)
        (tmp_path / "data").rename(tmp_path / "moved")
        await now.parts.checks.disk.look()
        assert readiness(now) is Readiness.UNREADY
        assert not (tmp_path / "data").exists(), "a folder made here would hide the volume that is mounted later"
        (tmp_path / "moved").rename(tmp_path / "data")
        await now.parts.checks.disk.look()
        assert now.parts.health.fault is None
        now.converter.hold(VIDEO).set()
        await check_no_attempt_was_counted(now, running)


async def test_an_attempt_that_cannot_publish_is_not_counted_and_no_other_one_starts(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        running = await now.running(VIDEO)
        (tmp_path / "tracks").rename(tmp_path / "elsewhere")
        (tmp_path / "tracks").touch()  # as on a disk that turned read-only: nothing can be published
        now.converter.hold(VIDEO).set()
        await settled()
        await now.check_released(running)
        assert now.parts.health.fault is not None
        waiting = await now.conversion(running)
        await asyncio.sleep(60)
        assert await now.parts.janitor.adopt() == 0
        assert now.converter.started[VIDEO] == 1
        assert waiting.error is FailureCode.STORAGE_FULL
        (tmp_path / "tracks").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "tracks")
        await now.parts.checks.disk.look()
        await check_no_attempt_was_counted(now, running)


async def test_a_disk_that_hangs_is_noticed_within_ten_seconds(tmp_path: Path) -> None:
    checkers = HangingThreads()
    async with engine(tmp_path, checkers=checkers) as now:
        now.parts.watcher.start()
        await settled()
        running = await now.running(VIDEO)
        assert readiness(now) is Readiness.OK
        checkers.answers.clear()
        await asyncio.sleep(10)
        assert readiness(now) is Readiness.UNREADY
        assert "has not answered for" in now.parts.health.checks["storage"].detail
        assert now.parts.health.checks["store"].ok, "the store is checked all the same"
        # What the tools say of such a disk is not believed: the download stops, and no attempt is counted.
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_TIMEOUT)
        now.converter.hold(VIDEO).set()
        await settled()
        await now.check_released(running)
        checkers.answers.set()
        await asyncio.sleep(10)
        assert readiness(now) is Readiness.OK
        await check_no_attempt_was_counted(now, running)


async def test_a_disk_that_hung_for_a_moment_costs_no_attempt(tmp_path: Path) -> None:
    checkers = HangingThreads()
    async with engine(tmp_path, checkers=checkers) as now:
        now.parts.watcher.start()
        running = await now.running(VIDEO)
        checkers.answers.clear()
        await asyncio.sleep(15)
        checkers.answers.set()
        await asyncio.sleep(10)
        assert now.parts.health.fault is None
        now.converter.fail(VIDEO, FailureCode.OUTPUT_TRUNCATED)
        now.converter.hold(VIDEO).set()
        await check_no_attempt_was_counted(now, running)


async def test_a_broken_tool_costs_no_attempt_and_stops_the_intake(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        now.parts.watcher.start()
        await settled()
        works, now.converter.tools = list(now.converter.tools), [BROKEN]
        now.converter.fail(VIDEO, FailureCode.TOOL_MISSING)
        job = await now.submit(VIDEO)
        await settled()
        assert now.parts.health.fault == "ffmpeg: not found"
        await now.check_released(job)
        now.converter.tools = works
        await asyncio.sleep(20)
        await check_no_attempt_was_counted(now, job)


async def test_a_tool_that_works_lets_the_failure_count(tmp_path: Path) -> None:
    async with engine(tmp_path, max_retries=1) as now:
        now.converter.fail(VIDEO, *[FailureCode.TOOL_MISSING] * 5)
        assert (await now.ended(await now.submit(VIDEO))).conversion.error is FailureCode.TOOL_MISSING
        assert now.converter.started[VIDEO] == 2


async def test_a_faulty_instance_gives_its_work_to_the_others(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, is_shared=True) as now:
        running, waiting = await now.running(VIDEO), await now.submit(video(2))
        now.parts.relief.start()
        now.parts.health.storage_error = "the data folder has not answered for 9 s"
        await asyncio.sleep(GIVE_BACK_SECONDS - 2)
        assert (await now.conversion(running)).holder == "a"
        await asyncio.sleep(5)
        for job in (running, waiting):
            await now.check_released(job)
        assert now.parts.queue.qsize() == now.parts.runs.active == 0
        assert len(now.seen(events.LeaseLost)) == 1
        assert now.leftovers() == []


async def test_an_instance_that_is_alone_keeps_its_work(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1) as now:
        running, waiting = await now.running(VIDEO), await now.submit(video(2))
        now.parts.relief.start()
        now.parts.health.storage_error = "the data folder has not answered for 9 s"
        await asyncio.sleep(2 * GIVE_BACK_SECONDS)
        assert {(await now.conversion(job)).holder for job in (running, waiting)} == {"a"}
        now.parts.health.storage_error = None
        now.converter.hold(VIDEO).set()
        for job in (running, waiting):
            await check_no_attempt_was_counted(now, job)
