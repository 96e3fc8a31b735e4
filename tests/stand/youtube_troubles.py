"""A service that converts while YouTube is in trouble: some clients fail, or everything does for a time.

`make test` runs some of them once and small, `scripts/soak.py` all of them at full size. Each function returns the
figures of its round, and raises AssertionError if a guarantee of the service is broken.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.pipeline import RunningPipeline, running_pipeline
from tests.stand.processes import descendants
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until

MOST_EXTRACTIONS: Final = 1.3
"""Most extractions of a conversion, on average over 200. A client that fails is asked by the conversions that are under
way when it begins to fail, and after that by one of them every five minutes."""

SAMPLE_SECONDS: Final = 0.01
"""Pause between two looks at the processes. A run of deno takes at least ten times as long."""

TROUBLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "media of the first client refused": {"refused_media": {"VISIONOS": 0}},
    "SABR only but for the first client": {"sabr_clients": ["TVHTML5", "WEB"]},
    "SABR only but for the television client": {"sabr_clients": ["VISIONOS", "WEB"]},
}
"""Switches of the fake YouTube, by what they do."""


async def convert_in_trouble(
    youtube: Spawned, folder: Path, *, jobs: int, first_number: int, trouble: str
) -> dict[str, float]:
    """Convert videos while some clients fail: none fails, and few extractions are wasted."""
    await asyncio.to_thread(youtube.switch, clients="real", **TROUBLES[trouble])
    try:
        async with service_process(folder, **egress(youtube)) as service:
            ended = await convert(service, jobs=jobs, first_number=first_number)
            identifiers = [video_id(Kind.SHORT, first_number + number) for number in range(jobs)]
            counts = await asyncio.to_thread(lambda: [youtube.counts(each) for each in identifiers])
    finally:
        await asyncio.to_thread(youtube.reset)
    return figures_of(ended) | {"extractions": round(sum(each.extractions for each in counts) / jobs, 3)}


async def convert_over_an_outage(
    youtube: Spawned, folder: Path, *, jobs: int, first_number: int, seconds: float
) -> dict[str, float]:
    """Convert videos while everything at YouTube fails for some time: all are completed, and no attempt is lost.

    With MAX_JOB_RETRIES=1, a conversion that failed before the outage was recognised has no other attempt, unless it is
    given back.
    """
    async with service_process(folder, MAX_JOB_RETRIES="1", **egress(youtube)) as service:
        first = asyncio.create_task(convert(service, jobs=jobs, first_number=first_number))
        await service.until_event("conversion done", jobs // 10)
        begun_at = time.monotonic()
        await asyncio.to_thread(youtube.switch, page="500", api="500", media="500")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(youtube.reset)
        ended = await first
        counted = len(service.events("retry scheduled"))
        free = len(service.events("queued again at no cost"))
    return figures_of(ended) | {"counted": counted, "free": free, "seconds": round(time.monotonic() - begun_at)}


async def convert(service: ServiceProcess, *, jobs: int, first_number: int) -> list[dict[str, Any]]:
    """Submit videos and follow all of them to their end."""
    links = [watch_url(video_id(Kind.SHORT, first_number + number)) for number in range(jobs)]
    accepted = [(await service.post(link))[1] for link in links]
    return [await service.until(job["job_id"], seconds=1800.0) for job in accepted]


def figures_of(ended: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many jobs failed, and how many of the others needed more than one counted attempt."""
    failed = [job for job in ended if job["status"] != "completed"]
    assert not failed, failed
    return {"failed": 0, "more than one attempt": sum(job["attempt"] > 1 for job in ended)}


async def refuse_all_at_once(
    youtube: Spawned, folder: Path, *, downloads: int, extract_concurrency: int, has_solver: bool
) -> dict[str, float]:
    """Refuse the media of downloads that run: the children extract again, only so many at once, and all complete.

    The links of the next client need JavaScript. Without the solver, each child starts a deno of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(youtube.switch, clients="real")
    async with running_pipeline(youtube, folder, has_solver=has_solver, extract_concurrency=extract_concurrency) as own:
        conversions = [
            asyncio.create_task(own.convert(video_id(Kind.SLOW, number))) for number in range(1, downloads + 1)
        ]
        await until(lambda: len([each for each in own.reports if each.metadata]) == downloads, "all of them download")
        await asyncio.to_thread(youtube.switch, refused_media={"VISIONOS": 0})
        at_once = await deno_processes_during(own, asyncio.gather(*conversions))
        solved = dict(own.solver.solutions)
    await asyncio.to_thread(youtube.reset)
    assert 0 < max(at_once) <= extract_concurrency, at_once
    return {"most deno processes at once": max(at_once), **solved}


async def deno_processes_during(own: RunningPipeline, work: "asyncio.Future[Any]") -> list[int]:
    """Return how many deno processes a pipeline had, at many moments of some work. Raises what the work raises."""
    seen = [0]
    while not work.done():
        seen.append(sum(map(is_deno, descendants(own.zygote_pid))))
        await asyncio.wait([work], timeout=SAMPLE_SECONDS)
    await work
    return seen


def is_deno(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "deno\n"
    except OSError:
        return False
