"""Measures what measuring the loudness costs: `python -m scripts.bench.loudness`.

Each pair of runs of ffmpeg makes the same track, with and without the measurement, one right after the other. The
figure is the ratio of their CPU times (user and system). It also measures how long a target takes in the server.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import imageio_ffmpeg

from scripts.bench.services import Bench, Row
from ytmp3.converter.audio.ffmpeg import FILE, encode_arguments
from ytmp3.converter.audio.gain import with_gain
from ytmp3.core.loudness import LoudnessMode
from ytmp3.core.recipe import Format, Recipe, recipe_for

FFMPEG: Final[str] = imageio_ffmpeg.get_ffmpeg_exe()
PAIRS: Final = 7
SECONDS: Final = 60
QUICK_SECONDS: Final = 10
"""The length of the sound that is measured, and that of a quick run."""
SOURCES: Final = {"matroska": ("libopus", "128k", "webm"), "mov": ("aac", "128k", "mp4")}
"""For each demuxer: encoder, bit rate and container of YouTube's sound."""
SOUND: Final = (
    "sine=f=330:r=48000:d={0}[a];anoisesrc=c=pink:a=0.25:r=48000:seed=7:d={0}[b];"
    "[a][b]amix,aformat=channel_layouts=stereo"
)


def cpu_seconds(command: Sequence[str], source: Path, target: Path) -> float:
    """Run ffmpeg as the service does, and return its CPU time."""
    target.unlink(missing_ok=True)
    with source.open("rb") as read:
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<>"$0"', str(target), *command],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def make_source(demuxer: str, seconds: int, folder: Path) -> None:
    codec, rate, _ = SOURCES[demuxer]
    sound = ["-f", "lavfi", "-i", SOUND.format(seconds)]
    subprocess.run(
        [FFMPEG, "-v", "error", *sound, "-c:a", codec, "-b:a", rate, str(source_of(demuxer, folder))], check=True
    )


async def loudness(bench: Bench) -> list[Row]:
    """Compare the CPU time of an MP3 with and without the measurement of its loudness, from both kinds of sound."""
    rows = []
    folder = bench.folder / "loudness"
    folder.mkdir(exist_ok=True)
    for demuxer, (codec, _, _) in SOURCES.items():
        await asyncio.to_thread(make_source, demuxer, QUICK_SECONDS if bench.is_quick else SECONDS, folder)
        ratio, plain, measured = await asyncio.to_thread(compare, demuxer, Format.MP3, bench.pair_count, folder)
        rows.append(
            Row(
                what=f"loudness measured, {codec} to mp3: CPU of ffmpeg, with / without",
                value=ratio,
                goal=1.2,
                at_least=False,
                note=f"{measured:.2f} s / {plain:.2f} s",
            )
        )
    return rows


def compare(demuxer: str, format_: Format, pair_count: int, folder: Path) -> tuple[float, float, float]:
    """Return the ratio with the measurement to without it, and both CPU times, as medians of pairs."""
    source, target = source_of(demuxer, folder), folder / "track"
    recipes = [recipe_for(format_), recipe_for(format_, loudness=LoudnessMode.TAGS)]
    pairs = [[cpu_of(recipe, demuxer, source, target) for recipe in recipes] for _ in range(pair_count)]
    plain, measured = (statistics.median(column) for column in zip(*pairs, strict=True))
    return statistics.median(measured / plain for plain, measured in pairs), plain, measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of the sound")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target = folder / "track"
        for demuxer in SOURCES:
            make_source(demuxer, options.seconds, folder)
        for demuxer, format_ in (
            ("matroska", Format.MP3),
            ("mov", Format.MP3),
            ("matroska", Format.OPUS),
            ("mov", Format.M4A),
        ):
            ratio, plain, measured = compare(demuxer, format_, options.pairs, folder)
            kind = SOURCES[demuxer][2]
            print(f"{kind:5} to {format_:4}: {measured:.3f} s / {plain:.3f} s; ratio {ratio:.3f}")
        cpu_of(Recipe(), "matroska", source_of("matroska", folder), target)
        begun = time.process_time()
        size = sum(map(len, with_gain(target.read_bytes(), -3)))
        print(f"target: {time.process_time() - begun:.3f} s for {size} bytes")


def source_of(demuxer: str, folder: Path) -> Path:
    return folder / f"source.{SOURCES[demuxer][2]}"


def cpu_of(recipe: Recipe, demuxer: str, source: Path, target: Path) -> float:
    return cpu_seconds(encode_arguments(FFMPEG, source=FILE, demuxer=demuxer, recipe=recipe), source, target)


if __name__ == "__main__":
    main()
