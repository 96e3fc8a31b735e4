"""Intake: which submissions become jobs, and how a missing track is replaced."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.rig import SOMEONE, engine, video
from ytmp3.core.errors import Draining, NotAVideo, QueueFull, UnsupportedUrl
from ytmp3.core.recipe import DEFAULT_RECIPE


async def test_a_draining_instance_accepts_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.health.is_draining = True
        with pytest.raises(Draining) as refused:
            await now.submit(video(1))
        assert refused.value.retry_after_seconds
        assert now.store.calls == []


@pytest.mark.parametrize(("text", "error"), [("file:///etc/passwd", UnsupportedUrl), ("https://youtu.be/", NotAVideo)])
async def test_a_refused_link_does_not_reach_the_store(tmp_path: Path, text: str, error: type[Exception]) -> None:
    async with engine(tmp_path) as now:
        with pytest.raises(error):
            await now.parts.intake.submit(text, DEFAULT_RECIPE, SOMEONE)
        assert now.store.calls == []


async def test_a_cached_track_whose_file_is_missing_is_converted_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        first = await now.submit(video(1))
        await now.ended(first)
        for name in now.tracks():
            (now.shelf.folder / name).unlink()
        second = await now.submit(video(1))
        assert second.conversion_id != first.conversion_id
        await now.ended(second)
        await now.check_completed(second)
        assert now.converter.started[video(1)] == 2


async def test_a_cached_track_of_the_wrong_size_is_converted_again_once(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.ended(await now.submit(video(1)))
        for name in now.tracks():
            (now.shelf.folder / name).write_bytes(b"short")
        jobs = await asyncio.gather(*(now.submit(video(1)) for _ in range(20)))
        for job in jobs:
            await now.ended(job)
            await now.check_completed(job)
        assert len({job.conversion_id for job in jobs}) == 1
        assert now.converter.started[video(1)] == 2


async def test_a_missing_track_is_not_converted_again_while_the_queue_is_full(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=1, queue_capacity=1) as now:
        await now.ended(await now.submit(video(9)))
        await now.running(video(0))
        await now.submit(video(1))
        for name in now.tracks():
            (now.shelf.folder / name).unlink()
        with pytest.raises(QueueFull):
            await now.submit(video(9))
