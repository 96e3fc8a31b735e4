"""Conversions: CPU time, wall time and memory of batches; one clip on an idle service; the start of the service."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from scripts.bench.measure import Cost, median, peak_pss_during, tree_cpu_seconds, tree_pss_mb
from scripts.bench.references import COPIED, ffmpeg_alone, ytdlp_command
from scripts.bench.services import Bench, Row, convert_all
from tests.fake_youtube import Kind
from tests.fake_youtube.media import default_cache


def media(kind: Kind) -> Path:
    """Return the file that the fake YouTube sends for a kind of video."""
    return default_cache() / f"{kind.value}.webm"


class Goals(Struct, frozen=True, kw_only=True):
    """What a batch should reach."""

    of_ffmpeg: float
    """ffmpeg's CPU time, divided by ours."""
    of_ytdlp: float
    """The yt-dlp command's CPU time, divided by ours."""
    faster: float
    """The yt-dlp command's wall time, divided by ours."""
    memory_mb: float = 350.0


JAVASCRIPT: Final = {"YOUTUBE_CLIENTS": "tv"}
"""Settings with which each conversion asks a client whose links need JavaScript, if the fake answers at real weight.
yt-dlp itself always asks one."""


COPIES: Final = 5
"""How often ffmpeg copies the song for one measurement: once takes some hundredths of a second."""


async def conversions(bench: Bench, kind: Kind, count: int, goals: Goals, **settings: str) -> list[Row]:
    """Measure a batch, and compare it with ffmpeg alone and with the yt-dlp command."""
    name = f"{count} {kind.value}s" + (", all with JavaScript" if settings == JAVASCRIPT else "")
    target = bench.folder / "reference"
    target.mkdir(exist_ok=True)
    async with bench.service("batch", **settings) as service:
        await convert_all(service, bench.links(kind, 2))
        idle = tree_pss_mb(service.pid)

        async def ours(_: int) -> Cost:
            before = tree_cpu_seconds(service.pid)
            wall, peak = await peak_pss_during(service.pid, convert_all(service, bench.links(kind, count)))
            return Cost(cpu_seconds=tree_cpu_seconds(service.pid) - before, wall_seconds=wall, peak_pss_mb=peak)

        async def alone(_: int) -> Cost:
            return await ffmpeg_alone(media(kind), target, times=count, at_once=os.cpu_count() or 1)

        async def command(_: int) -> Cost:
            return await ytdlp_command(bench.youtube, bench.links(kind, count), bench.folder / "ytdlp")

        turns = [(await ours(number), await alone(number), await command(number)) for number in range(bench.pair_count)]
    against_ffmpeg = [(mine, theirs) for mine, theirs, _ in turns]
    against_ytdlp = [(mine, theirs) for mine, _, theirs in turns]
    costs = [mine for mine, _, _ in turns]
    cpu = median([cost.cpu_seconds for cost in costs]) / count
    per_minute = 60 * count / median([cost.wall_seconds for cost in costs])
    ytdlp_peak = median([pair[1].peak_pss_mb for pair in against_ytdlp])
    return [
        Row(
            what=f"{name}: ffmpeg's CPU alone / ours",
            value=median([theirs.cpu_seconds / mine.cpu_seconds for mine, theirs in against_ffmpeg]),
            goal=goals.of_ffmpeg,
            at_least=True,
            note=f"{cpu:.2f} CPU s a conversion, {per_minute:.0f} conversions/min",
        ),
        Row(
            what=f"{name}: yt-dlp command's CPU / ours",
            value=median([theirs.cpu_seconds / mine.cpu_seconds for mine, theirs in against_ytdlp]),
            goal=goals.of_ytdlp,
            at_least=True,
        ),
        Row(
            what=f"{name}: yt-dlp command's wall time / ours",
            value=median([theirs.wall_seconds / mine.wall_seconds for mine, theirs in against_ytdlp]),
            goal=goals.faster,
            at_least=True,
        ),
        Row(
            what=f"{name}: peak memory, whole tree (PSS)",
            value=max(cost.peak_pss_mb for cost in costs),
            goal=goals.memory_mb,
            at_least=False,
            unit="MB",
            note=f"yt-dlp commands {ytdlp_peak:.0f} MB; idle {idle:.0f} MB",
        ),
    ]


async def clips(bench: Bench) -> list[Row]:
    goals = Goals(of_ffmpeg=0.60, of_ytdlp=2.5, faster=2.0)
    return await conversions(bench, Kind.CLIP, 8 if bench.is_quick else 40, goals)


async def songs(bench: Bench) -> list[Row]:
    goals = Goals(of_ffmpeg=0.90, of_ytdlp=1.3, faster=1.0)
    return await conversions(bench, Kind.SONG, 2 if bench.is_quick else 20, goals)


async def javascript_clips(bench: Bench) -> list[Row]:
    goals = Goals(of_ffmpeg=0.75, of_ytdlp=5.0, faster=2.0, memory_mb=470.0)
    return await conversions(bench, Kind.CLIP, 8 if bench.is_quick else 40, goals, **JAVASCRIPT)


async def javascript_songs(bench: Bench) -> list[Row]:
    goals = Goals(of_ffmpeg=0.95, of_ytdlp=2.0, faster=1.0, memory_mb=470.0)
    return await conversions(bench, Kind.SONG, 2 if bench.is_quick else 20, goals, **JAVASCRIPT)


async def copies(bench: Bench) -> list[Row]:
    """Measure songs whose sound is copied, and compare them with ffmpeg making an MP3, or copying."""
    count, rows = 2 if bench.is_quick else 20, []
    sources = {"m4a": default_cache() / "m4a_song.mp4", "opus": media(Kind.SONG)}
    async with bench.service("copies") as service:
        for format_, source in sources.items():
            await convert_all(service, bench.links(Kind.SONG, 2), format=format_)
            shares, costs, additional = [], [], []
            for _ in range(bench.pair_count):
                before = tree_cpu_seconds(service.pid)
                await convert_all(service, bench.links(Kind.SONG, count), format=format_)
                costs.append((tree_cpu_seconds(service.pid) - before) / count)
                alone = await ffmpeg_alone(media(Kind.SONG), bench.folder, times=2, at_once=1)
                shares.append(costs[-1] / (alone.cpu_seconds / 2))
                copied = await ffmpeg_alone(
                    source, bench.folder, times=COPIES, at_once=1, extension=format_, options=COPIED
                )
                additional.append(costs[-1] - copied.cpu_seconds / COPIES)
            name = f"{count} songs copied as {format_}"
            rows += [
                Row(what=f"{name}: CPU ours / ffmpeg's MP3 alone", value=median(shares), goal=0.15, at_least=False),
                Row(what=f"{name}: CPU of one", value=median(costs), goal=0.4, at_least=False, unit="s"),
                Row(
                    what=f"{name}: CPU of one, over `ffmpeg -c copy`",
                    value=median(additional),
                    goal=None,
                    at_least=False,
                    unit="s",
                    note="extraction, download, verification, cover and tags",
                ),
            ]
    return rows


async def one_clip(bench: Bench) -> list[Row]:
    """Measure the time from the POST to the finished track on an idle service, less that of ffmpeg on the same file."""
    over = []
    async with bench.service("one") as service:
        await convert_all(service, bench.links(Kind.CLIP, 1))
        for _ in range(bench.pair_count):
            started_at = time.perf_counter()
            _, job = await service.post(bench.links(Kind.CLIP, 1)[0])
            while (await service.job(job["job_id"]))["status"] != "completed":  # noqa: ASYNC110  the service is polled, as a client does
                await asyncio.sleep(0.005)
            mine = time.perf_counter() - started_at
            theirs = await ffmpeg_alone(media(Kind.CLIP), bench.folder, times=1, at_once=1)
            over.append(mine - theirs.wall_seconds)
    return [
        Row(what="one clip, idle server: over ffmpeg alone", value=median(over), goal=0.5, at_least=False, unit="s")
    ]


async def start(bench: Bench) -> list[Row]:
    """Measure the time from the start of the process to the first 200 of /health, and the memory at rest."""
    seconds, memory = [], []
    for _ in range(bench.pair_count):
        started_at = time.perf_counter()
        async with bench.service("start") as service:
            seconds.append(time.perf_counter() - started_at)
            await asyncio.sleep(1.0)
            memory.append(tree_pss_mb(service.pid))
    return [
        Row(what="start to first healthy answer", value=median(seconds), goal=2.0, at_least=False, unit="s"),
        Row(what="idle memory (PSS)", value=median(memory), goal=120, at_least=False, unit="MB"),
    ]
