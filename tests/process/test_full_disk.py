"""Disks that are really full: the conversion that meets one is retried; other jobs and the records are untouched."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Pace, Spawned, spawn, video_id, watch_url
from tests.stand.pipeline import running_pipeline
from tests.stand.service_process import egress, service_process
from ytmp3.converter import Observer
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.converter.audio.segments import GRID_FRAMES, Plan
from ytmp3.converter.live_sound import LiveSound
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.recipe import Quality, Recipe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system of its own")


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system of its own on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def fill(folder: Path) -> list[Path]:
    """Make empty files until the file system has no inode left."""
    files: list[Path] = []
    while True:
        file = folder / f"ballast-{len(files)}"
        try:
            file.touch()
        except OSError:
            return files
        files.append(file)


async def test_a_conversion_on_a_300_kb_disk_fails_alone_and_passes_when_there_is_space(
    youtube: Spawned, tmp_path: Path
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        with disk(tmp_path / "scratch-1", "size=300k") as small:
            small_scratch = small / "scratch"
            small_scratch.mkdir()

            async def on_small(number: int) -> int:
                converted = await own.pipeline.convert(
                    VideoId(video_id(Kind.CLIP, number)),
                    Recipe(quality=Quality.K128),
                    ClientId("addr:192.0.2.1"),
                    small_scratch,
                    Observer(lambda _: None, LiveSound()),
                )
                return converted.size_bytes

            own.count = 1
            cramped, free = await asyncio.gather(
                on_small(1), own.convert(video_id(Kind.CLIP, 2)), return_exceptions=True
            )
            assert isinstance(cramped, ConversionError)
            assert cramped.code is FailureCode.STORAGE_FULL
            assert cramped.failure.retryable
            assert not isinstance(free, BaseException)
            await own.until_no_child_is_left()
            for file in small_scratch.iterdir():
                file.unlink()
            resize(small, "20m")
            assert await on_small(1) == free.size_bytes


async def test_a_disk_too_small_for_the_segments_of_a_long_track_is_enough_for_the_track(
    youtube: Spawned, tmp_path: Path
) -> None:
    # The samples of a segment take 2.5 MB, and those of three of them exist at once. Download and track take 1 MB.
    plan = Plan(min_seconds=8.0, segment_frames=3 * GRID_FRAMES)
    cores = Cores(range(16), max_encoders=16)
    async with running_pipeline(youtube, tmp_path, cores=cores, division=plan, encode_concurrency=4) as own:
        with disk(tmp_path / "scratch-1", "size=3m") as small:
            small_scratch = small / "scratch"
            small_scratch.mkdir()
            converted = await own.pipeline.convert(
                VideoId(video_id(Kind.CLIP, 4)),
                Recipe(quality=Quality.K128),
                ClientId("addr:192.0.2.1"),
                small_scratch,
                Observer(lambda _: None, LiveSound()),
            )
            assert own.pipeline.long_tracks()["not_divisible"] == 1
            assert converted.duration_seconds == pytest.approx(30, abs=0.05)
            assert not (small_scratch / "segments").exists()
        await own.until_no_child_is_left()


async def test_a_service_on_a_300_kb_disk_refuses_work_until_there_is_space(youtube: Spawned, tmp_path: Path) -> None:
    with disk(tmp_path / "data", "size=4g") as data:
        async with service_process(tmp_path, **egress(youtube)) as service:
            resize(data, "300k")
            await service.until_health(503)
            for number in range(50):
                status, problem = await service.post(watch_url(video_id(Kind.SHORT, number)))
                assert (status, problem["code"]) == (503, "storage_full")
            _, health = await service.get("/health")
            assert (health["checks"]["storage"]["ok"], health["checks"]["store"]["ok"]) == (False, True)
            resize(data, "4g")
            await service.until_health(200)
            _, job = await service.post(watch_url(video_id(Kind.SHORT, 1)))
            assert (await service.until(job["job_id"]))["status"] == "completed"


async def test_a_disk_that_fills_up_under_a_job_delays_it_and_costs_no_attempt(tmp_path: Path) -> None:
    # Inodes run out, not bytes: the service sees enough free space, and then no file can be made.
    with (
        disk(tmp_path / "data", "size=4g,nr_inodes=200") as data,
        # The download takes half a minute, unless it is hurried: also on a busy machine, the disk is full before its
        # end.
        spawn(
            tmp_path / "youtube", prepare=(Kind.SHORT, Kind.CLIP), pace=Pace(slow_bytes_per_second=16_000)
        ) as youtube,
    ):
        async with service_process(tmp_path, **egress(youtube)) as service:
            _, before = await service.post(watch_url(video_id(Kind.SHORT, 1)))
            before = await service.until(before["job_id"])
            _, job = await service.post(watch_url(video_id(Kind.SLOW, 2)))
            await service.until(job["job_id"], "downloading")
            ballast = fill(data)
            assert len(ballast) > 100
            await asyncio.to_thread(youtube.switch, hurried=True)
            await service.until_event("queued again at no cost")
            await service.until_health(503)
            assert len(await service.download(before)) == before["file"]["size_bytes"]
            status, problem = await service.post(watch_url(video_id(Kind.SHORT, 3)))
            assert (status, problem["code"]) == (503, "storage_full")
            for file in ballast:
                file.unlink()
            job = await service.until(job["job_id"])
            assert (job["status"], job["attempt"]) == ("completed", 1)
            track = tmp_path / "track.mp3"
            track.write_bytes(await service.download(job))
            assert walk_file(track).duration_seconds == pytest.approx(job["file"]["duration_seconds"])
