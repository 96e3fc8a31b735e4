"""A wave of refused downloads does not make all children extract at once, each with a JavaScript runtime of its own."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, spawn, video_id
from tests.stand.pipeline import running_pipeline
from tests.stand.waiting import until
from tests.stand.youtube_troubles import deno_processes_during
from ytmp3.converter.youtube.permits import Permits, wait_for_permit
from ytmp3.core.ids import ClientId

CONVERSIONS = 8
AT_ONCE = 2


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=[Kind.SHORT]) as running:
        running.switch(clients="real", refused_media={"VISIONOS": 0})
        yield running


async def test_refused_downloads_extract_again_only_so_many_at_once(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, has_solver=False, extract_concurrency=AT_ONCE) as own:
        conversions = asyncio.gather(*(own.convert(video_id(Kind.SHORT, number)) for number in range(CONVERSIONS)))
        assert 0 < max(await deno_processes_during(own, conversions)) <= AT_ONCE
        assert not own.pipeline._slots[0]._held


async def test_a_cancelled_conversion_gives_its_permit_back(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_concurrency=1) as own:
        slots = own.pipeline._slots[0]
        conversion = asyncio.create_task(own.convert(video_id(Kind.SHORT, 100)))
        await until(lambda: bool(own.reports), "the first extraction is over", poll_seconds=0.001)
        async with slots.slot(ClientId("another")):
            # Whether its child waits for the permit, has it, or needs none any more: nothing may stay behind.
            conversion.cancel()
            await asyncio.wait([conversion])
            assert slots._held == {"another": 1}
        assert (await own.convert(video_id(Kind.SHORT, 101))).size_bytes


async def test_a_permit_is_one_slot_from_its_grant_until_it_is_given_back() -> None:
    slots = asyncio.Semaphore(1)
    first, second = Permits(lambda: slots), Permits(lambda: slots)
    pipes = [each.open() for each in (first, second)]
    for permits in (first, second, first):
        permits.want()
    await asyncio.to_thread(wait_for_permit, pipes[0])
    assert slots.locked()
    assert (second.is_wanted, second.used_seconds) == (True, 0.0)
    second.give_back()  # not granted yet
    first.give_back()
    await asyncio.to_thread(wait_for_permit, pipes[1])
    assert (first.is_wanted, slots.locked()) == (False, True)
    first.want()
    await first.close()
    await second.close()
    assert not slots.locked()
    await second.close()


async def test_a_child_is_not_left_waiting_by_a_server_that_gives_no_more_permits() -> None:
    permits = Permits(lambda: asyncio.Semaphore(0))
    pipe = os.dup(permits.open())
    permits.want()
    waiting = asyncio.create_task(asyncio.to_thread(wait_for_permit, pipe))
    await permits.close()
    with pytest.raises(ConnectionError):
        await waiting
    os.close(pipe)
