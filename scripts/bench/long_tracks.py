"""One long track on an idle service: wall time, CPU time, memory, and when a listener gets the first sound.

The wall time says nothing on a machine that does other work: the encoders share only idle cores.
"""

import asyncio
import os
import re
import time
from collections.abc import Sequence
from typing import Final

import imageio_ffmpeg

from scripts.bench.conversions import media
from scripts.bench.measure import Cost, children_cpu_seconds, median, peak_pss_during, tree_cpu_seconds
from scripts.bench.services import Bench, Row, convert_all
from tests.fake_youtube import Kind
from tests.stand.service_process import ServiceProcess

SOUND: Final = ("-vn", "-c:a", "libmp3lame", "-b:a", "192k", "-f", "mp3")
POLL_SECONDS: Final = 0.005
SOUND_BYTES: Final = 2048
"""Bytes of a response that has sound: more than the first frame, which has none."""


MOST_PAIRS: Final = 3
"""Most pairs of measurements: one of a mix of an hour takes more than a minute."""


async def long_tracks(bench: Bench) -> list[Row]:
    """Measure mixes of an hour and of 20 minutes, which several encoders share, each beside one ffmpeg on one core."""
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        raise RuntimeError("on one core, no track is divided")
    count = min(bench.pair_count, MOST_PAIRS)
    async with bench.service("long") as service:
        await convert_all(service, bench.links(Kind.CLIP, 1))
        hours = [await _pair(bench, service, Kind.HOUR, number) for number in range(count)]
        mixes = [await _pair(bench, service, Kind.MIX, number) for number in range(count)]
        first_sounds = [await _first_sound(bench, service) for _ in range(bench.pair_count)]
        _, peak = await peak_pss_during(service.pid, convert_all(service, bench.links(Kind.HOUR, 1)))
        await _check(service, divided=2 * count + bench.pair_count + 1)
    name = f"on {cores} idle cores, a mix of"
    return [
        *_ratios(f"{name} an hour", hours, wall_goal=0.75, cpu_goal=1.3),
        *_ratios(f"{name} 20 minutes", mixes, wall_goal=None, cpu_goal=None),
        Row(
            what=f"{name} 20 minutes: first sound for a listener, after the extraction",
            value=median(first_sounds),
            goal=1.0,
            at_least=False,
            unit="s",
        ),
        Row(
            what=f"{name} an hour: peak memory, whole tree (PSS)",
            value=peak,
            goal=350.0,
            at_least=False,
            unit="MB",
        ),
    ]


def _ratios(
    name: str, pairs: Sequence[tuple[Cost, Cost]], *, wall_goal: float | None, cpu_goal: float | None
) -> list[Row]:
    """Compare our costs with those of ffmpeg on one core."""
    return [
        Row(
            what=f"{name}: wall time ours / ffmpeg on one core",
            value=median([ours.wall_seconds / theirs.wall_seconds for ours, theirs in pairs]),
            goal=wall_goal,
            at_least=False,
            note=f"{median([ours.wall_seconds for ours, _ in pairs]):.1f} s",
        ),
        Row(
            what=f"{name}: CPU ours / ffmpeg's",
            value=median([ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs]),
            goal=cpu_goal,
            at_least=False,
        ),
    ]


async def _pair(bench: Bench, service: ServiceProcess, kind: Kind, number: int) -> tuple[Cost, Cost]:
    """Return our costs, and those of ffmpeg. They are measured in turns, so that no slow change favours one of them."""
    if number % 2:
        theirs = await _on_one_core(bench, kind)
        return await _divided(bench, service, kind), theirs
    ours = await _divided(bench, service, kind)
    return ours, await _on_one_core(bench, kind)


async def _divided(bench: Bench, service: ServiceProcess, kind: Kind) -> Cost:
    """Convert a mix. Measured is the whole tree of processes, and the time from the request to the finished track."""
    before = tree_cpu_seconds(service.pid)
    wall = await convert_all(service, bench.links(kind, 1))
    return Cost(cpu_seconds=tree_cpu_seconds(service.pid) - before, wall_seconds=wall)


async def _on_one_core(bench: Bench, kind: Kind) -> Cost:
    core = min(os.sched_getaffinity(0))
    before, started_at = children_cpu_seconds(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(core), str(imageio_ffmpeg.get_ffmpeg_exe())),
        *("-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", str(media(kind)), *SOUND),
        str(bench.folder / "mix.mp3"),
    )
    if await process.wait() != 0:
        raise RuntimeError("ffmpeg failed")
    return Cost(cpu_seconds=children_cpu_seconds() - before, wall_seconds=time.perf_counter() - started_at)


async def _first_sound(bench: Bench, service: ServiceProcess) -> float:
    """Return the seconds from the end of the extraction to the first sound of a listener who asks at once."""
    _, job = await service.post(bench.links(Kind.MIX, 1)[0])

    async def heard() -> float:
        async with service.client.get(service.url + job["listen_url"]) as response:
            response.raise_for_status()
            await response.content.readexactly(SOUND_BYTES)
            heard_at = time.perf_counter()
            await response.read()
            return heard_at

    hearing = asyncio.create_task(heard())
    while (await service.job(job["job_id"]))["metadata"] is None:  # noqa: ASYNC110  the service is polled, as a client does
        await asyncio.sleep(POLL_SECONDS)
    extracted_at = time.perf_counter()
    return await hearing - extracted_at


async def _check(service: ServiceProcess, *, divided: int) -> None:
    """Raise RuntimeError if not all of these tracks were divided: then the figures describe something else."""
    async with service.client.get(f"{service.url}/metrics") as response:
        counts = dict(
            re.findall(r'^ytmp3_long_tracks_total\{how="(\w+)"\} (\S+)$', await response.text(), re.MULTILINE)
        )
    if float(counts.get("divided", 0)) != divided:
        raise RuntimeError(f"{divided} long tracks should have been divided: {counts}")
