"""One long track on an idle service: the wall time and the CPU time, against one ffmpeg on one core."""

import asyncio
import os
import time

import imageio_ffmpeg

from scripts.bench.conversions import media
from scripts.bench.measure import Cost, children_cpu_seconds, median, tree_cpu_seconds
from scripts.bench.services import Bench, Row, convert_all
from tests.fake_youtube import Kind

SOUND = ("-vn", "-c:a", "libmp3lame", "-b:a", "192k", "-f", "mp3")


async def long_tracks(bench: Bench) -> list[Row]:
    """Measure a mix of 20 minutes, which several encoders share where cores are idle."""
    pairs: list[tuple[Cost, Cost]] = []
    async with bench.service("long") as service:
        await convert_all(service, bench.links(Kind.CLIP, 1))
        for _ in range(bench.pair_count):
            before = tree_cpu_seconds(service.pid)
            wall = await convert_all(service, bench.links(Kind.MIX, 1))
            cpu = tree_cpu_seconds(service.pid) - before
            pairs.append((Cost(cpu_seconds=cpu, wall_seconds=wall), await _on_one_core(bench)))
    cores = len(os.sched_getaffinity(0))
    name = f"a mix of 20 minutes, on {cores} idle cores"
    return [
        Row(
            what=f"{name}: wall time ours / ffmpeg on one core",
            value=median([ours.wall_seconds / theirs.wall_seconds for ours, theirs in pairs]),
            goal=0.75,
            at_least=False,
            note=f"{median([ours.wall_seconds for ours, _ in pairs]):.1f} s",
        ),
        Row(
            what=f"{name}: CPU ours / ffmpeg's",
            value=median([ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs]),
            goal=1.3,
            at_least=False,
        ),
    ]


async def _on_one_core(bench: Bench) -> Cost:
    core = min(os.sched_getaffinity(0))
    before, started_at = children_cpu_seconds(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(core), str(imageio_ffmpeg.get_ffmpeg_exe())),
        *("-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i", str(media(Kind.MIX)), *SOUND),
        str(bench.folder / "mix.mp3"),
    )
    if await process.wait() != 0:
        raise RuntimeError("ffmpeg failed")
    return Cost(cpu_seconds=children_cpu_seconds() - before, wall_seconds=time.perf_counter() - started_at)
