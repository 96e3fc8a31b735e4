"""A zygote that is stopped instead of dying: its conversions end, and the next ones get a new zygote."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import running_pipeline
from tests.stand.processes import is_running
from tests.stand.waiting import until
from ytmp3.core.errors import NoProcess

pytestmark = pytest.mark.attack


async def test_a_stopped_zygote_is_replaced_and_its_conversions_are_retried(youtube: Spawned, tmp_path: Path) -> None:
    # Not less: a busy machine may not run a zygote for some seconds.
    async with running_pipeline(youtube, tmp_path, hang_seconds=10) as own:
        under_way = asyncio.create_task(own.convert(video_id(Kind.SLOW, 1)))
        await until(lambda: bool(own.children), "the first conversion has a child process", poll_seconds=0.01)
        stopped, children = own.zygote_pid, own.children
        os.kill(stopped, signal.SIGSTOP)
        # This one asks the stopped zygote for a process.
        beginning = asyncio.create_task(own.convert(video_id(Kind.SHORT, 2)))
        for conversion in (under_way, beginning):
            with pytest.raises(NoProcess):
                await conversion
        await until(lambda: not any(map(is_running, [stopped, *children])), "no process of it is left")

        async def is_converted() -> bool:
            # A busy machine may need longer for a new zygote than it gets; then the engine would retry.
            with contextlib.suppress(NoProcess):
                return (await own.convert(video_id(Kind.SHORT, 2))).size_bytes > 0
            return False

        await until(is_converted, "the conversion is done with another zygote")
        assert own.zygote_pid != stopped
