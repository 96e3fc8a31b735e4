"""Fairness: 20 clients with one song each, alone and beside one client with 900 videos of 20 minutes."""

import asyncio
from datetime import datetime
from statistics import median
from typing import Any

from scripts.bench.services import POLL_SECONDS, Bench, Row
from tests.fake_youtube import Kind
from tests.stand.service_process import ServiceProcess

CLIENTS = 20
VIDEOS = 900
AT_ONCE = 50
"""Submissions of the one client at once."""
UNTIL_BUSY_SECONDS = 20.0
"""After this time the encoders are busy with the long videos, and all workers have downloaded one."""
SETTINGS = {"TRUSTED_PROXIES": "127.0.0.1"}
"""So each request can come from another client: `X-Forwarded-For` names it."""


async def post(service: ServiceProcess, link: str, address: str) -> str:
    """Submit a link as the client with this address; return the id of the job."""
    headers = {"X-Forwarded-For": address}
    async with service.client.post(f"{service.url}/extract", json={"url": link}, headers=headers) as response:
        job = await response.json()
        if response.status != 202:
            raise RuntimeError(f"not accepted: {job}")
        return str(job["job_id"])


async def ended(service: ServiceProcess, job_id: str) -> dict[str, Any]:
    while True:
        job = await service.job(job_id)
        if job["status"] == "completed":
            return job
        if job["status"] in {"failed", "cancelled"}:
            raise RuntimeError(f"a conversion ended {job['status']}: {job['error']}")
        await asyncio.sleep(POLL_SECONDS)


def seconds(job: dict[str, Any], end: str) -> float:
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job["created_at"])).total_seconds()


async def songs_of_all(service: ServiceProcess, links: list[str]) -> tuple[float, float]:
    """Let each client convert one song at the same time; return the median seconds until they start and end."""
    ids = await asyncio.gather(*(post(service, link, f"192.0.2.{1 + n}") for n, link in enumerate(links)))
    jobs = await asyncio.gather(*(ended(service, job_id) for job_id in ids))
    return median(seconds(job, "started_at") for job in jobs), median(seconds(job, "completed_at") for job in jobs)


async def fill(service: ServiceProcess, links: list[str]) -> None:
    """Submit the long videos of the one client, and wait until they keep all workers and encoders busy."""
    for first in range(0, len(links), AT_ONCE):
        await asyncio.gather(*(post(service, link, "198.51.100.1") for link in links[first : first + AT_ONCE]))
    await asyncio.sleep(UNTIL_BUSY_SECONDS)


async def beside(bench: Bench, kind: Kind) -> list[Row]:
    """Measure one kind of short work, on an idle service and on a busy one."""
    async with bench.service("idle", **SETTINGS) as service:
        await songs_of_all(service, bench.links(Kind.SHORT, 2))
        idle_start, idle_end = await songs_of_all(service, bench.links(kind, CLIENTS))
    async with bench.service("busy", DRAIN_SECONDS="0", **SETTINGS) as service:
        await fill(service, bench.links(Kind.MIX, VIDEOS))
        start, end = await songs_of_all(service, bench.links(kind, CLIENTS))
    name = f"{CLIENTS} clients with one {kind.value} each, beside {VIDEOS} videos of 20 minutes"
    return [
        Row(
            what=f"{name}: median start",
            value=start,
            goal=5.0,
            at_least=False,
            unit="s",
            note=f"alone {idle_start:.1f} s",
        ),
        Row(
            what=f"{name}: median end / alone",
            value=end / idle_end,
            goal=3.0,
            at_least=False,
            note=f"{end:.1f} s; alone {idle_end:.1f} s",
        ),
    ]


async def fairness(bench: Bench) -> list[Row]:
    kinds = (Kind.SHORT,) if bench.is_quick else (Kind.SHORT, Kind.CLIP, Kind.SONG)
    return [row for kind in kinds for row in await beside(bench, kind)]
