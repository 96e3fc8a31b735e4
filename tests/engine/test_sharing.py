"""Clients share the workers, the extractions and the encoders. Here conversions take virtual time, and no CPU."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.engine.rig import Rig, engine, video
from tests.fakes import FakeConverter
from tests.virtual_time import seconds, settled
from ytmp3.converter import ONLY_PASSAGE, Converted, Observer, Passage
from ytmp3.converter.slots import FairSlots
from ytmp3.core.client import Client
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Job, Status
from ytmp3.core.recipe import Recipe
from ytmp3.engine import events

pytestmark = pytest.mark.attack

GREEDY: Final = Client(owner=ClientId("key:greedy"))
VIDEOS: Final = 900
EXTRACTION_SECONDS: Final = 0.3
SONG_SECONDS: Final = 4.0
"""The CPU time of encoding a song of 4 minutes."""
LONG_SECONDS: Final = 20.0
"""The same for a video of 20 minutes."""


def client(number: int) -> Client:
    return Client(owner=ClientId(f"key:client-{number}"))


class StagedConverter(FakeConverter):
    """A conversion is an extraction and then an encoding, each in a slot of the real kind."""

    def __init__(self, extractions: int = 4, encoders: int = 2) -> None:
        super().__init__()
        self.extractions = FairSlots(extractions, spare=0, clock=seconds)
        self.encoders = FairSlots(encoders, spare=encoders, clock=seconds)
        self.encoding_seconds: dict[str, float] = {}

    async def convert(
        self,
        video_id: str,
        recipe: Recipe,
        client: ClientId,
        scratch: Path,
        observer: Observer,
        passage: Passage = ONLY_PASSAGE,
    ) -> Converted:
        async with self.extractions.slot(client):
            await asyncio.sleep(EXTRACTION_SECONDS)
        of_encoding = self.encoding_seconds.get(video_id, SONG_SECONDS)
        async with self.encoders.slot(client, of_encoding * 60):
            await asyncio.sleep(of_encoding)
        return await super().convert(video_id, recipe, client, scratch, observer, passage)


@asynccontextmanager
async def busy_engine(folder: Path, converter: FakeConverter, videos: int) -> AsyncIterator[Rig]:
    """Start an engine in which one client has all workers with long videos, and the rest of them in the queue."""
    async with engine(folder, converter=converter, workers=20, queue_capacity=1000) as now:
        await asyncio.gather(*(now.submit(video(number), GREEDY) for number in range(videos)))
        await settled()
        assert now.parts.runs.by_client() == {GREEDY.owner: 20}
        yield now


async def times(now: Rig, jobs: list[Job]) -> tuple[float, float]:
    """Return the median times until jobs that were submitted now begin and end."""
    began_at, begin = now.clock(), {job.conversion_id for job in jobs}
    while not all([(await now.ticket(job)).status is Status.COMPLETED for job in jobs]):
        await asyncio.sleep(1.0)
    conversions = [(await now.ticket(job)).conversion for job in jobs]
    assert {each.conversion_id for each in conversions} == begin
    starts = [(each.started_at or 0.0) - began_at for each in conversions]
    return median(starts), median((each.completed_at or 0.0) - began_at for each in conversions)


async def songs_of_20_clients(now: Rig) -> list[Job]:
    return list(await asyncio.gather(*(now.submit(video(5000 + n), client(n)) for n in range(20))))


async def test_songs_of_20_clients_are_done_soon_beside_900_long_videos_of_one(tmp_path: Path) -> None:
    async with engine(tmp_path / "idle", converter=StagedConverter(), workers=20, queue_capacity=100) as idle:
        _, idle_end = await times(idle, await songs_of_20_clients(idle))
    converter = StagedConverter()
    converter.encoding_seconds = dict.fromkeys(map(video, range(VIDEOS)), LONG_SECONDS)
    async with busy_engine(tmp_path / "busy", converter, VIDEOS) as now:
        # By now the long videos wait for an encoder, and two of them have one.
        await asyncio.sleep(10.0)
        start, end = await times(now, await songs_of_20_clients(now))
        assert start <= 5.0
        assert end <= 3 * idle_end
        assert now.parts.runs.active <= 30


async def test_long_videos_go_on_beside_an_endless_stream_of_songs(tmp_path: Path) -> None:
    converter = StagedConverter()
    converter.encoding_seconds = dict.fromkeys(map(video, range(40)), LONG_SECONDS / 2)
    async with busy_engine(tmp_path, converter, 40) as now:
        for number in range(80):
            await now.submit(video(5000 + number), client(number % 5))
            await asyncio.sleep(1.5)
        # In these 120 s the part of one of six clients is the encoding of four long videos.
        ended = [event for event in now.seen(events.Finished) if isinstance(event, events.Finished)]
        assert sum(event.conversion.client == GREEDY.owner for event in ended) >= 3
        assert sum(event.conversion.client != GREEDY.owner for event in ended) >= 30


async def test_a_client_that_arrives_gets_its_part_of_the_workers_at_once(tmp_path: Path) -> None:
    converter = FakeConverter()
    for number in range(40):
        converter.hold(video(number))
    async with busy_engine(tmp_path, converter, 40) as now:
        for number in range(1000, 1030):
            converter.hold(video(number))
            await now.submit(video(number), client(1))
        await settled()
        assert now.parts.runs.by_client() == {GREEDY.owner: 20, client(1).owner: 10}
        # What ends now goes to nobody until the first client is down at its part.
        for number in range(10):
            converter.hold(video(number)).set()
            await settled()
        assert now.parts.runs.by_client() == {GREEDY.owner: 10, client(1).owner: 10}
        converter.hold(video(10)).set()
        await settled()
        assert now.parts.runs.active == 20


async def test_each_of_many_clients_gets_one_worker_before_any_gets_a_second(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=4, queue_capacity=1000) as now:
        for number in range(40):
            now.converter.hold(video(number))
            await now.submit(video(number), client(number % 8))
        await settled()
        # The first one had all four workers for a moment, or as many as its submissions had come first.
        held = now.parts.runs.by_client()
        assert 4 <= now.parts.runs.active <= 6
        assert len(held) >= 3
        for number in range(40):
            now.converter.hold(video(number)).set()
            await settled()
            assert now.parts.runs.active <= 6
        await settled()
        assert now.parts.queue.qsize() == 0
        assert len(now.converter.converted) == 40


async def test_more_workers_than_the_pool_are_used_only_while_a_client_has_too_many(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=4, queue_capacity=100) as now:
        for number in range(12):
            now.converter.hold(video(number))
            await now.submit(video(number), client(number))
        await settled()
        assert now.parts.runs.active == 4


async def test_all_that_the_parts_allow_starts_when_a_client_leaves(tmp_path: Path) -> None:
    async with engine(tmp_path, workers=6, queue_capacity=100) as now:
        for number in range(30):
            now.converter.hold(video(number))
        for number in range(6):
            await now.submit(video(number), GREEDY)
        await settled()
        lonely = await now.submit(video(6), client(1))
        for number in range(7, 20):
            await now.submit(video(number), client(2))
        await settled()
        assert now.parts.runs.by_client() == {GREEDY.owner: 6, client(1).owner: 1, client(2).owner: 2}
        await now.parts.jobs.cancel(lonely.job_id, None)
        await settled()
        assert now.parts.runs.by_client() == {GREEDY.owner: 6, client(2).owner: 3}
