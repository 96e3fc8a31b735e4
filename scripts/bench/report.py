"""The table of results: as text, and in RESULTS.md together with the machine on which it was measured."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import imageio_ffmpeg

from scripts.bench.services import Row

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("aiohttp", "yt-dlp", "redis", "imageio-ffmpeg")

FOUND_OUT = "## What was found out on the way"
"""From this heading on, RESULTS.md is written by hand."""


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| what | measured | goal | reached | note |", "|---|---|---|---|---|"]
    for row in rows:
        sign = ">=" if row.at_least else "<="
        goal = "" if row.goal is None else f"{sign} {row.goal:g} {row.unit}".rstrip()
        reached = {None: "", True: "yes", False: "**no**"}[row.is_reached]
        lines.append(f"| {row.what} | {row.value:.2f} {row.unit} | {goal} | {reached} | {row.note} |")
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row]) -> None:
    """Write the results of a full run to RESULTS.md, and keep the part that is written by hand."""
    _, heading, found_out = RESULTS.read_text().partition(FOUND_OUT) if RESULTS.exists() else ("", "", "")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    RESULTS.write_text(
        f"# Results of `make bench`\n\n"
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores ({_processor()}), "
        f"Linux {platform.release().split('-')[0]}, CPython {platform.python_version()}, {versions}, "
        f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}.\n\n"
        "Against the fake YouTube, whose own work is on neither side but on the same cores. Ratios are medians of\n"
        "pairs in one run; CPU is that of the whole process tree. Absolute times are this machine's, and shared.\n\n"
        + render(rows)
        + (f"\n{heading}{found_out}" if heading else "")
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
