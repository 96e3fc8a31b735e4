"""What listeners and tags cost: the first sound after the extraction, and downloads of tracks with chosen tags."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from scripts.bench.measure import median, tree_cpu_seconds
from scripts.bench.services import Bench, Row
from tests.fake_youtube import Kind
from tests.stand.service_process import ServiceProcess

HEAD_BYTES: Final = 1500
"""More than the frame that names the duration, which is sent first and has no sound: no frame of an MP3 is larger."""
POLL_SECONDS: Final = 0.005
TAGS: Final = {"title": "Another title", "artist": "Somebody", "album": "Something"}
EXTRACTED: Final = frozenset({"downloading", "converting", "publishing", "done"})
"""The stages after the extraction, in the field `stage` of a job."""


async def first_sound(bench: Bench) -> list[Row]:
    """Measure the time from the end of the extraction to the first sound at a listener, on an idle service."""
    delays, totals = [], []
    async with bench.service("listen") as service:
        for _ in range(1 + 2 * bench.pair_count):
            begun_at = time.perf_counter()
            _, job = await service.post(bench.links(Kind.SONG, 1)[0])
            extracted_at, heard_at = await asyncio.gather(_extracted_at(service, job), _heard_at(service, job))
            delays.append(heard_at - extracted_at)
            totals.append(heard_at - begun_at)
            await service.until(job["job_id"])
    # The first conversion of a service also starts its zygote's helpers.
    return [
        Row(
            what="first sound of /listen after the extraction, idle server",
            value=median(delays[1:]),
            goal=1.0,
            at_least=False,
            unit="s",
            note=f"largest {max(delays[1:]):.2f} s; {median(totals[1:]):.2f} s after the POST",
        )
    ]


async def _extracted_at(service: ServiceProcess, job: Mapping[str, Any]) -> float:
    """Return when a client sees that a job has left the extraction, which may be POLL_SECONDS and a request late."""
    while True:
        asked_at = time.perf_counter()
        if (await service.job(job["job_id"]))["stage"] in EXTRACTED:
            return asked_at
        await asyncio.sleep(POLL_SECONDS)


async def _heard_at(service: ServiceProcess, job: Mapping[str, Any]) -> float:
    async with service.client.get(service.url + job["listen_url"]) as response:
        if response.status != 200:
            raise RuntimeError(f"no sound: {response.status}")
        await response.content.readexactly(HEAD_BYTES)
        heard_at = time.perf_counter()
        await response.read()
    return heard_at


async def chosen_tags(bench: Bench) -> list[Row]:
    """Compare downloads of a track with chosen tags with those of the track as it is, in CPU time of the service."""
    downloads, link = 20 if bench.is_quick else 200, bench.links(Kind.SONG, 1)[0]
    async with bench.service("tags") as service:
        _, plain = await service.post(link)
        plain = await service.until(plain["job_id"])
        async with service.client.post(f"{service.url}/extract", json={"url": link, "metadata": TAGS}) as response:
            edited = await response.json()
        for job in (plain, edited):  # the first download of a track also reads its tags, or checks the file
            await service.download(job)
        pairs = [
            (await _cpu_of(service, edited, downloads), await _cpu_of(service, plain, downloads))
            for _ in range(bench.pair_count)
        ]
    additional = median([1000 * (mine - theirs) / downloads for mine, theirs in pairs])
    return [
        Row(
            what=f"{downloads} downloads of a song with chosen tags: CPU, over those of the song as it is",
            value=additional,
            goal=None,
            at_least=False,
            unit="ms",
            note=f"{1000 * median([mine for mine, _ in pairs]) / downloads:.1f} ms a download; no file is written",
        )
    ]


async def _cpu_of(service: ServiceProcess, job: Mapping[str, Any], downloads: int) -> float:
    before = tree_cpu_seconds(service.pid)
    for _ in range(downloads):
        await service.download(job)
    return tree_cpu_seconds(service.pid) - before
