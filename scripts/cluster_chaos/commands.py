"""How many commands a cluster gets for each job, against a single server with the same load, in pairs.

Both get the same number of new links at the same pace, and are measured for the same time, in which all jobs end. The
polling of idle instances is part of the first figure of each side, and not of the others.
"""

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Final, cast

from aiohttp import ClientSession
from msgspec import Struct

from scripts.cluster_chaos.installation import Installation, installation
from scripts.cluster_chaos.nodes import primaries
from tests.fake_youtube import Spawned, watch_url
from tests.stand.failures import ask
from tests.stand.s3_server import S3Server
from tests.stand.service_process import END_STATES

JOBS: Final = 30
WINDOW_SECONDS: Final = 45.0
"""Time of a measurement. All its jobs must end in this time."""
IDLE_SECONDS: Final = 15.0
POST_SECONDS: Final = 0.3
STATUSES: Final = 300
_INTERNAL: Final = ("cluster", "replconf", "psync", "info", "role", "config", "ping")
"""Commands of the cluster itself, of its replication, and of this measurement."""
_SCRIPTS: Final = ("evalsha", "eval", "evalsha_ro", "eval_ro")


class Side(Struct, frozen=True, kw_only=True):
    """What one installation got."""

    per_job: float
    """All commands in the time of the measurement, for each completed job."""
    without_idle: float
    """The same without what idle instances send in this time."""
    scripts_per_job: float
    """Scripts alone, without those of idle instances: each is one request of the service."""
    scripts_per_status: float
    round_trips_per_status: float | None
    """Round trips to all nodes, without those of idle instances; only measured where proxies count them."""


def calls(its: Installation) -> Counter[str]:
    """Return how often each command was executed, over all primaries, commands inside scripts included."""
    servers = primaries(its.nodes) if its.single is None else [its.single]
    found: Counter[str] = Counter()
    for server in servers:
        with contextlib.closing(server.client()) as client:
            stats = cast("dict[str, dict[str, int]]", client.info("commandstats"))
        for name, entry in stats.items():
            command = name.removeprefix("cmdstat_")
            if command.partition("|")[0] not in _INTERNAL:
                found[command] += entry["calls"]
    return found


async def calls_during(its: Installation, work: Awaitable[object]) -> Counter[str]:
    before = await asyncio.to_thread(calls, its)
    await work
    return await asyncio.to_thread(calls, its) - before


async def convert(its: Installation, videos: Iterator[str], client: ClientSession) -> list[str]:
    """Submit links at a fixed pace, and return the jobs when the time of a measurement is over and all have ended."""
    ends_at = time.monotonic() + WINDOW_SECONDS
    jobs: list[str] = []
    for number in range(JOBS):
        url = its.instances[number % len(its.instances)].url
        status, job = await ask(client, "POST", f"{url}/extract", json={"url": watch_url(next(videos))})
        assert status in {200, 202}, job
        jobs.append(job["job_id"])
        await asyncio.sleep(POST_SECONDS)
    await asyncio.sleep(ends_at - time.monotonic())
    return jobs


async def measure(its: Installation, videos: Iterator[str]) -> Side:
    """Measure one installation."""
    async with ClientSession() as client:
        # Scripts are loaded, and connections opened.
        for service in its.instances:
            job = await service.submit(watch_url(next(videos)))
            await service.until(job["job_id"])
        idle = await calls_during(its, asyncio.sleep(IDLE_SECONDS))
        work = asyncio.ensure_future(convert(its, videos, client))
        busy = await calls_during(its, work)
        for job_id in work.result():
            _, job = await ask(client, "GET", f"{its.instances[0].url}/status/{job_id}")
            assert job["status"] in END_STATES, f"a job has not ended in time: {job}"

        async def poll() -> None:
            for number in range(STATUSES):
                url = its.instances[number % len(its.instances)].url
                status, _ = await ask(client, "GET", f"{url}/status/{work.result()[number % JOBS]}")
                assert status == 200

        trips, started_at = its.network.round_trips, time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        idle_trips = (its.network.round_trips - trips) / (time.monotonic() - started_at)
        trips, started_at = its.network.round_trips, time.monotonic()
        asked = await calls_during(its, poll())
        seconds = time.monotonic() - started_at
        trips = its.network.round_trips - trips
    share = WINDOW_SECONDS / IDLE_SECONDS
    scripts, idle_scripts = (sum(each[name] for name in _SCRIPTS) for each in (busy, idle))
    return Side(
        per_job=busy.total() / JOBS,
        without_idle=(busy.total() - share * idle.total()) / JOBS,
        scripts_per_job=(scripts - share * idle_scripts) / JOBS,
        scripts_per_status=sum(asked[name] for name in _SCRIPTS) / STATUSES,
        round_trips_per_status=(trips - seconds * idle_trips) / STATUSES if trips else None,
    )


async def compare(folder: Path, youtube: Spawned, s3: S3Server, videos: Iterator[str], *, pairs: int) -> None:
    """Measure pairs and print them, with the medians of their ratios."""
    ratios: list[tuple[float, ...]] = []
    for number in range(pairs):
        sides: dict[bool, Side] = {}
        for is_single in (False, True) if number % 2 else (True, False):
            own = folder / f"pair-{number}-{is_single}"
            own.mkdir()
            async with installation(own, youtube, s3, is_proxied=not is_single, is_single=is_single) as its:
                sides[is_single] = await measure(its, videos)
            print(f"pair {number + 1}, {'one server' if is_single else 'cluster'}: {sides[is_single]}", flush=True)
        cluster, single = sides[False], sides[True]
        ratios.append(
            (
                cluster.per_job / single.per_job,
                cluster.without_idle / single.without_idle,
                cluster.scripts_per_job / single.scripts_per_job,
            )
        )
    names = ("commands a job", "without idle polling", "scripts a job")
    for name, values in zip(names, zip(*ratios, strict=True), strict=True):
        print(
            f"{name}: cluster / one server = {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        )
