"""Shared by all rows of the bench: the form of a result, the measured service, and batches of conversions."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.valkey import Valkey

POLL_SECONDS = 0.1
BURST = 200


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table: a measured value, and the value that it should reach."""

    what: str
    value: float
    goal: float | None
    at_least: bool
    """True if the value should be the goal or more; false if it should be the goal or less."""
    unit: str = ""
    note: str = ""

    @property
    def is_reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


class Bench(Struct, kw_only=True):
    """What the measurement of each row gets. A quick run has smaller batches, and its figures say little."""

    youtube: Spawned
    folder: Path
    is_quick: bool
    pair_count: int
    """How often a measurement is repeated; the result is the median."""
    last_number: int = 0
    """The number of the video that was asked for last."""

    def links(self, kind: Kind, count: int) -> list[str]:
        """Return links to videos that were not converted before, so that no track is taken from an earlier run."""
        self.last_number += count
        return [watch_url(video_id(kind, (self.last_number - n) % 10_000)) for n in range(count)]

    @asynccontextmanager
    async def service(self, name: str, **settings: str) -> AsyncIterator[ServiceProcess]:
        async with service_process(
            self.folder / f"{name}-{time.monotonic_ns()}", LOG_LEVEL="warning", **egress(self.youtube), **settings
        ) as running:
            yield running


async def submit_all(service: ServiceProcess, links: Sequence[str], **fields: str) -> list[str]:
    """Submit links, BURST at a time, and return the ids of their jobs. Raises RuntimeError if one is not accepted."""
    jobs: list[str] = []
    for first in range(0, len(links), BURST):
        posts = (service.post(link, **fields) for link in links[first : first + BURST])
        for status, job in await asyncio.gather(*posts):
            if status != 202:
                raise RuntimeError(f"not accepted: {job}")
            jobs.append(job["job_id"])
    return jobs


async def convert_all(service: ServiceProcess, links: Sequence[str], **fields: str) -> float:
    """Submit at once, with the fields of the recipe, and return the seconds until all are completed."""
    started_at = time.perf_counter()
    waiting = await submit_all(service, links, **fields)
    while waiting:
        job = await service.job(waiting[-1])
        if job["status"] == "completed":
            waiting.pop()
        elif job["status"] in {"failed", "cancelled"}:
            raise RuntimeError(f"a conversion ended {job['status']}: {job['error']}")
        else:
            await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter() - started_at


def asking(service: ServiceProcess, path: str) -> Callable[[int], Awaitable[int]]:
    """Return a function that requests `path` and returns the status, for `load.open_loop`."""

    async def ask(_: int) -> int:
        async with service.client.get(service.url + path) as response:
            await response.read()
            return response.status

    return ask


def posting(service: ServiceProcess, links: Sequence[str]) -> Callable[[int], Awaitable[int]]:
    """Return a function that submits the link of its number and returns the status, for `load.open_loop`."""

    async def ask(number: int) -> int:
        async with service.client.post(f"{service.url}/extract", json={"url": links[number]}) as response:
            await response.read()
            return response.status

    return ask


@asynccontextmanager
async def running_valkey(bench: Bench) -> AsyncIterator[Valkey]:
    """Run a Valkey with an append-only file, as docs/operating.md recommends for Redis."""
    folder = bench.folder / f"valkey-{time.monotonic_ns()}"
    folder.mkdir()
    valkey = Valkey(folder, settings={"appendonly": "yes"})
    await asyncio.to_thread(valkey.start)
    try:
        yield valkey
    finally:
        valkey.stop()


@asynccontextmanager
async def service_with(bench: Bench, store: str, **settings: str) -> AsyncIterator[ServiceProcess]:
    """Run a service with the job store `sqlite` or `redis`."""
    async with AsyncExitStack() as stack:
        if store == "redis":
            settings["REDIS_ADDR"] = (await stack.enter_async_context(running_valkey(bench))).address
        yield await stack.enter_async_context(bench.service(store, **settings))


@asynccontextmanager
async def held_service(bench: Bench, store: str) -> AsyncIterator[ServiceProcess]:
    """Run a service whose only worker is busy with a download that does not end, so all other jobs stay queued."""
    settings = {"WORKER_POOL_SIZE": "1", "DRAIN_SECONDS": "0", "JOB_QUEUE_CAPACITY": "100000"}
    async with service_with(bench, store, **settings) as service:
        _, job = await service.post(bench.links(Kind.STALLED, 1)[0])
        await service.until(job["job_id"], "downloading", "converting")
        yield service


def own_cpu_seconds(pid: int) -> float:
    """Return the CPU time of one process without its children, to the nanosecond."""
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9
