"""How many commands a cluster gets for each job, against a single server with the same load, in pairs.

Both get the same number of new links at the same pace. What idle instances send in the same time is measured before,
and is not part of the figures of a job.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Final

from aiohttp import ClientSession
from msgspec import Struct

from scripts.bench.requests import settled
from scripts.cluster_chaos.installation import Installation, installation
from scripts.cluster_chaos.nodes import primaries
from tests.fake_youtube import Spawned, watch_url
from tests.stand.failures import ask
from tests.stand.s3_server import S3Server
from tests.stand.valkey import SCRIPT_COMMANDS

JOBS: Final = 60
IDLE_SECONDS: Final = 10.0
POST_SECONDS: Final = 0.3
STATUSES: Final = 300
_INTERNAL: Final = ("cluster", "replconf", "psync", "info", "role", "config", "ping")
"""Commands of the cluster itself, of its replication, and of this measurement."""


class Side(Struct, frozen=True, kw_only=True):
    """What one installation got."""

    idle_per_second: float
    """All commands of idle instances."""
    per_job: float
    """All commands for each completed job, those inside of scripts included."""
    scripts_per_job: float
    """Scripts alone: each is one request of the service."""
    scripts_per_status: float
    """Without those of idle instances. A request that is repeated, because Redis was too slow, counts twice."""
    round_trips_per_status: float | None
    """Round trips to all nodes, without those of idle instances; only measured where proxies count them."""


def calls(its: Installation) -> Counter[str]:
    """Return how often each command was executed, over all primaries, commands inside scripts included."""
    servers = primaries(its.nodes) if its.single is None else [its.single]
    found = sum((server.calls() for server in servers), Counter[str]())
    return Counter({name: count for name, count in found.items() if name.partition("|")[0] not in _INTERNAL})


async def calls_during(its: Installation, work: Awaitable[object]) -> Counter[str]:
    before = await asyncio.to_thread(calls, its)
    await work
    return await asyncio.to_thread(calls, its) - before


async def convert(its: Installation, videos: Iterator[str], client: ClientSession) -> list[str]:
    """Submit links at a fixed pace, and return the jobs once all have ended."""
    jobs: list[str] = []
    for number in range(JOBS):
        url = its.instances[number % len(its.instances)].url
        status, job = await ask(client, "POST", f"{url}/extract", json={"url": watch_url(next(videos))})
        assert status in {200, 202}, job
        jobs.append(job["job_id"])
        await asyncio.sleep(POST_SECONDS)
    for service in its.instances:
        # This costs no commands.
        await settled(service)
    return jobs


async def measure(its: Installation, videos: Iterator[str]) -> Side:
    """Measure one installation."""
    async with ClientSession() as client:
        # Scripts are loaded, and connections opened.
        for service in its.instances:
            job = await service.submit(watch_url(next(videos)))
            await service.until(job["job_id"])
        idle = await calls_during(its, asyncio.sleep(IDLE_SECONDS))
        work, began = asyncio.ensure_future(convert(its, videos, client)), time.monotonic()
        busy = await calls_during(its, work)
        share = (time.monotonic() - began) / IDLE_SECONDS
        for job_id in work.result():
            _, job = await ask(client, "GET", f"{its.instances[0].url}/status/{job_id}")
            assert job["status"] == "completed", job

        async def poll() -> None:
            for number in range(STATUSES):
                url = its.instances[number % len(its.instances)].url
                status, _ = await ask(client, "GET", f"{url}/status/{work.result()[number % JOBS]}")
                assert status == 200

        trips, started_at = its.network.round_trips, time.monotonic()
        idle_again = await calls_during(its, asyncio.sleep(IDLE_SECONDS))
        idle_trips = (its.network.round_trips - trips) / (time.monotonic() - started_at)
        trips, started_at = its.network.round_trips, time.monotonic()
        asked = await calls_during(its, poll())
        seconds = time.monotonic() - started_at
        trips = its.network.round_trips - trips
    scripts, idle_scripts, asked_scripts, again_scripts = (
        sum(each[name] for name in SCRIPT_COMMANDS) for each in (busy, idle, asked, idle_again)
    )
    return Side(
        idle_per_second=idle.total() / IDLE_SECONDS,
        per_job=(busy.total() - share * idle.total()) / JOBS,
        scripts_per_job=(scripts - share * idle_scripts) / JOBS,
        scripts_per_status=(asked_scripts - again_scripts * seconds / IDLE_SECONDS) / STATUSES,
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
                cluster.idle_per_second / single.idle_per_second,
                cluster.per_job / single.per_job,
                cluster.scripts_per_job / single.scripts_per_job,
            )
        )
    names = ("commands of idle instances", "commands a job", "scripts a job")
    for name, values in zip(names, zip(*ratios, strict=True), strict=True):
        print(
            f"{name}: cluster / one server = {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        )
