"""How many instances, cores, gigabytes and addresses are needed for a number of conversions per hour?

`python -m scripts.bench.capacity --per-hour 500 --minutes 4` prints the Markdown of the documents' capacity section.
The model: a conversion costs a fixed amount of CPU time, and an amount for each minute of sound. Both are fitted to a
batch of clips and a batch of songs. Then the cost of a mixed batch is predicted and measured, and the error printed.
"""

import argparse
import asyncio
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from scripts.bench.measure import peak_pss_during, tree_cpu_seconds, tree_pss_mb
from scripts.bench.services import Bench, convert_all
from tests.fake_youtube import Kind, spawn
from tests.stand.service_process import ServiceProcess

MINUTES = {Kind.CLIP: 0.5, Kind.SONG: 4.0}
TRACK_MB_PER_MINUTE = 192 / 8 * 60 / 1000
SPOOL_MB_PER_MINUTE = 1.0
"""The size of the download: YouTube's Opus has about 128 kbit/s."""
PLAYER_CPU_SECONDS = 0.9
PLAYER_MB = 177
"""What deno needs for the JavaScript challenge of a real player. It was measured apart: the fake YouTube sends none."""
PER_ADDRESS_AND_HOUR = 250
"""Videos per hour of one address. The yt-dlp wiki says that a guest session gets about 300; this stays below."""
REDIS_KB_PER_JOB = 3.0
UTILISATION = 0.7
CORES_PER_INSTANCE = 2


class Model(Struct, frozen=True, kw_only=True):
    """CPU seconds and memory of the whole process tree."""

    fixed: float
    per_minute: float
    idle_mb: float
    peak_mb: float

    def cpu_seconds(self, kinds: Sequence[Kind]) -> float:
        return sum(self.fixed + self.per_minute * MINUTES[kind] for kind in kinds)


async def batch(bench: Bench, service: ServiceProcess, kinds: Sequence[Kind]) -> tuple[float, float, float]:
    """Convert a batch; returns CPU seconds, wall seconds and peak MB."""
    links = [bench.links(kind, 1)[0] for kind in kinds]
    before = tree_cpu_seconds(service.pid)
    wall, peak = await peak_pss_during(service.pid, convert_all(service, links))
    return tree_cpu_seconds(service.pid) - before, wall, peak


async def fit(bench: Bench, service: ServiceProcess) -> Model:
    """Measure the two parts of the model, and the memory."""
    await batch(bench, service, [Kind.CLIP] * 2)
    idle = tree_pss_mb(service.pid)
    clips, _, _ = await batch(bench, service, [Kind.CLIP] * 12)
    songs, _, peak = await batch(bench, service, [Kind.SONG] * 6)
    clip, song = clips / 12, songs / 6
    per_minute = (song - clip) / (MINUTES[Kind.SONG] - MINUTES[Kind.CLIP])
    return Model(fixed=clip - per_minute * MINUTES[Kind.CLIP], per_minute=per_minute, idle_mb=idle, peak_mb=peak)


def answer(model: Model, *, per_hour: float, minutes: float, retention_hours: float) -> str:
    """Return the plan as Markdown."""
    cpu = model.fixed + PLAYER_CPU_SECONDS + model.per_minute * minutes
    cores = per_hour * cpu / 3600 / UTILISATION
    instances = max(1, math.ceil(cores / CORES_PER_INSTANCE))
    memory = model.peak_mb + 4 * PLAYER_MB
    rows = (
        ("CPU of a conversion", f"{cpu:.1f} s ({PLAYER_CPU_SECONDS} s of it YouTube's JavaScript challenge)"),
        ("cores", f"{cores:.1f} at {UTILISATION:.0%} use"),
        ("instances of 2 cores", f"{instances}"),
        (
            "memory of an instance",
            f"{memory / 1000:.1f} GB at worst (4 challenges at once), {model.idle_mb:.0f} MB idle",
        ),
        ("disk for tracks", f"{per_hour * retention_hours * minutes * TRACK_MB_PER_MINUTE / 1000:.0f} GB"),
        ("Redis memory", f"{per_hour * retention_hours * REDIS_KB_PER_JOB / 1000:.0f} MB"),
        ("download from YouTube", f"{per_hour * minutes * SPOOL_MB_PER_MINUTE * 8 / 3600:.1f} Mbit/s"),
        ("egress addresses", f"{math.ceil(per_hour / PER_ADDRESS_AND_HOUR)}"),
    )
    head = f"{per_hour:g} conversions an hour of {minutes:g} minutes each, kept for {retention_hours:g} hours:\n\n"
    return head + "| what | how much |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


async def main() -> None:
    """Fit the model, check it, and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-hour", type=float, default=500)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--retention-hours", type=float, default=24)
    options = parser.parse_args()
    mixed = [Kind.CLIP] * 10 + [Kind.SONG] * 5
    with (
        tempfile.TemporaryDirectory(prefix="ytmp3-capacity-") as folder,
        spawn(Path(folder) / "youtube", prepare=(Kind.CLIP, Kind.SONG)) as youtube,
    ):
        bench = Bench(youtube=youtube, folder=Path(folder), is_quick=True, pair_count=1)
        async with bench.service("capacity") as service:
            model = await fit(bench, service)
            cpu, wall, _ = await batch(bench, service, mixed)
    predicted = model.cpu_seconds(mixed)
    cores = os.cpu_count() or 1
    print(answer(model, per_hour=options.per_hour, minutes=options.minutes, retention_hours=options.retention_hours))
    print(
        f"Measured on {cores} cores: {model.fixed:.2f} CPU s a conversion and {model.per_minute:.2f} for each minute of"
        f" sound. Check: 10 clips and 5 songs were predicted to take {predicted:.1f} CPU s and took {cpu:.1f}"
        f" (error {abs(predicted - cpu) / cpu:.0%}); all cores busy would be {predicted / cores:.1f} s of wall time, it"
        f" was {wall:.1f} s."
    )


if __name__ == "__main__":
    asyncio.run(main())
