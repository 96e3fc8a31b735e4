"""Some instances of the service in one process: everything is real, except for the conversions.

`python -m scripts.fleet.instances` is started by `scripts.fleet`, several times. Each line on its standard input is
answered by one line of JSON with the counts so far (`Counts`). It ends when its standard input does.
"""

import argparse
import asyncio
import hashlib
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from scripts.fleet.figures import Counts
from tests.fakes import FakeConverter, content_of
from tests.stand.waiting import until
from ytmp3.app import Service, running
from ytmp3.config import Config, load
from ytmp3.converter import Converted
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import Metadata, Report, Stage
from ytmp3.engine.assembly import Engine
from ytmp3.http.connections import Runner
from ytmp3.jobstore import JobStore, SharedValue, SharedValues
from ytmp3.jobstore.redis import RedisJobStore
from ytmp3.serve import BACKLOG

PROGRESS_SECONDS: Final = 0.25
"""Interval, in seconds, at which a simulated conversion reports progress, as ffmpeg and yt-dlp do."""
SPREAD: Final = 0.6
"""The standard deviation of the logarithm of durations: one of 20 conversions takes 2.7 times as long as the median."""
LONGEST: Final = 4.0
"""The longest duration, in medians, which one of 100 conversions takes. Without it, each step would wait for its last
job."""


class SimulatedConverter(FakeConverter):
    """Takes as long as the distribution says, reports progress, and makes a small file."""

    def __init__(self, chance: random.Random, median_seconds: float) -> None:
        super().__init__()
        self._chance = chance
        self._median_seconds = median_seconds
        self.planned_seconds = 0.0
        """The durations of all attempts, added."""
        self.begun_at: dict[str, float] = {}
        """When the first attempt of each video began."""

    async def _convert(self, video_id: str, scratch: Path, on_progress: Callable[[Report], None]) -> Converted:
        seconds = self._median_seconds * min(LONGEST, self._chance.lognormvariate(0.0, SPREAD))
        loop = asyncio.get_running_loop()
        self.planned_seconds += seconds
        self.begun_at.setdefault(video_id, loop.time())
        metadata = Metadata(
            title=f"Title of {video_id}", uploader="Someone", duration_seconds=240.0, thumbnail_url=None
        )
        on_progress(Report(stage=Stage.DOWNLOADING, progress=0.0, metadata=metadata))
        ends_at = loop.time() + seconds
        while (left := ends_at - loop.time()) > 0.0:
            on_progress(Report(stage=Stage.DOWNLOADING, progress=1.0 - left / seconds))
            await asyncio.sleep(min(PROGRESS_SECONDS, left))
        content = content_of(video_id)
        path = scratch / "track.mp3"
        path.write_bytes(content)
        return Converted(
            path=path,
            size_bytes=len(content),
            duration_seconds=240.0,
            sha256=hashlib.sha256(content).hexdigest(),
            crc32=zlib.crc32(content),
            metadata=metadata,
            stage_seconds={Stage.DOWNLOADING: seconds},
        )


class CountedValues:
    """The shared values of a store, with the number of calls."""

    def __init__(self, values: SharedValues, exchange_seconds: float = 0.0) -> None:
        """`exchange_seconds`: time of the loop between a read and the write that follows it.

        It is for virtual time, where computing and the network take none, and no instance would disturb another.
        """
        self._values = values
        self._exchange_seconds = exchange_seconds
        self.reads = self.writes = self.conflicts = 0

    async def read(self, name: str) -> SharedValue:
        self.reads += 1
        value = await self._values.read(name)
        if self._exchange_seconds:
            await asyncio.sleep(self._exchange_seconds)
        return value

    async def replace(self, name: str, old: bytes | None, new: bytes) -> bool:
        is_replaced = await self._values.replace(name, old, new)
        self.writes += is_replaced
        self.conflicts += not is_replaced
        return is_replaced


def counts_of(
    values: Iterable[CountedValues], parts: Iterable[Service | Engine], converter: SimulatedConverter
) -> Counts:
    """Return the counts of this process, whose instances have these parts."""
    values, parts = list(values), list(parts)
    return Counts(
        cpu_seconds=time.process_time(),
        loop_seconds=time.thread_time(),
        reads=sum(each.reads for each in values),
        writes=sum(each.writes for each in values),
        conflicts=sum(each.conflicts for each in values),
        queued=sum(each.queue.qsize() for each in parts),
        active=sum(each.runs.active for each in parts),
        planned_seconds=converter.planned_seconds,
        started=dict(converter.started),
        begun_at=dict(converter.begun_at),
    )


class Instances:
    """The instances of this process. They share the simulated converter, and nothing else."""

    def __init__(self, converter: SimulatedConverter, settings: dict[str, str]) -> None:
        self._converter = converter
        self._settings = settings
        self._values: list[CountedValues] = []
        self._services: list[Service] = []

    async def start(self, stack: AsyncExitStack, ports: list[int]) -> None:
        """Start one instance on each port; return when all are ready. The stack ends them."""
        for port in ports:
            config = load(self._settings | {"PORT": str(port)})
            service = await stack.enter_async_context(running(config, lambda *_: self._converter, self._open_store))
            runner = Runner(service.app, shutdown_seconds=1.0, limit=service.connections)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
            self._services.append(service)
        for service in self._services:
            await until(partial(_is_ready, service), "every instance is ready")

    def counts(self) -> Counts:
        return counts_of(self._values, self._services, self._converter)

    async def _open_store(self, config: Config, instance: InstanceId) -> JobStore:
        assert config.redis is not None
        store = RedisJobStore(config.redis, config.store, instance)
        await store.open()
        values = CountedValues(store.values)
        self._values.append(values)
        store.values = values  # type: ignore[assignment]
        return store


def _is_ready(service: Service) -> bool:
    return service.health.is_ready


def settings_of(folder: Path, redis: str) -> Iterator[tuple[str, str]]:
    """Yield the environment of an instance: the defaults, but no limit that the load would reach."""
    yield "REDIS_ADDR", redis
    yield "DATA_DIR", str(folder / "data")
    yield "TRUSTED_PROXIES", "127.0.0.1"
    yield "DRAIN_SECONDS", "1"
    yield from ((name, "100000") for name in ("REQUESTS_PER_SECOND", "BURST_SIZE"))
    yield "IDENTITIES_FILE", str(folder / "identities")


async def main() -> None:
    """Run the instances until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--median-seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    converter = SimulatedConverter(random.Random(options.seed), options.median_seconds)
    instances = Instances(converter, dict(settings_of(options.folder, options.redis)))
    async with AsyncExitStack() as stack:
        await instances.start(stack, [int(port) for port in options.ports.split(",")])
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print("ready", flush=True)
        while await reader.readline():
            print(msgspec.json.encode(instances.counts()).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
