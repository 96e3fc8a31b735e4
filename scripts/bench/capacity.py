"""How many instances, cores, gigabytes, identities and Redis nodes does a number of conversions an hour need?

`python -m scripts.bench.capacity --per-hour 500 --minutes 4` prints a table like the one in the documents. A conversion
costs a fixed amount of CPU time, and an amount for each minute of sound. Both are fitted to a batch of clips and one of
songs. Then the cost of a mixed batch is predicted and measured, and the error printed. Everything else is computed by
`capacity_model`. With `--model`, nothing is measured: the answer is for the costs on two cores of a cloud machine.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.bench.capacity_model import MEASURED, Costs, Demand, Storage, answer
from scripts.bench.measure import peak_pss_during, tree_cpu_seconds, tree_pss_mb
from scripts.bench.services import Bench, convert_all
from tests.fake_youtube import Kind, spawn
from tests.stand.service_process import ServiceProcess

MINUTES = {Kind.CLIP: 0.5, Kind.SONG: 4.0}


def predicted_seconds(costs: Costs, kinds: Sequence[Kind]) -> float:
    """Return the CPU seconds of a batch. The fake YouTube sends no JavaScript challenge."""
    return sum(costs.fixed + costs.per_minute * MINUTES[kind] for kind in kinds)


async def batch(bench: Bench, service: ServiceProcess, kinds: Sequence[Kind]) -> tuple[float, float, float]:
    """Convert a batch; returns CPU seconds, wall seconds and peak MB."""
    links = [bench.links(kind, 1)[0] for kind in kinds]
    before = tree_cpu_seconds(service.pid)
    wall, peak = await peak_pss_during(service.pid, convert_all(service, links))
    return tree_cpu_seconds(service.pid) - before, wall, peak


async def fit(bench: Bench, service: ServiceProcess) -> Costs:
    """Measure the two costs of a conversion, and the memory."""
    await batch(bench, service, [Kind.CLIP] * 2)
    idle = tree_pss_mb(service.pid)
    clips, _, _ = await batch(bench, service, [Kind.CLIP] * 12)
    songs, _, peak = await batch(bench, service, [Kind.SONG] * 6)
    clip, song = clips / 12, songs / 6
    per_minute = (song - clip) / (MINUTES[Kind.SONG] - MINUTES[Kind.CLIP])
    return Costs(fixed=clip - per_minute * MINUTES[Kind.CLIP], per_minute=per_minute, idle_mb=idle, peak_mb=peak)


async def measure(demand: Demand) -> None:
    """Fit the costs, check them, and print the plan."""
    mixed = [Kind.CLIP] * 10 + [Kind.SONG] * 5
    with (
        tempfile.TemporaryDirectory(prefix="ytmp3-capacity-") as folder,
        spawn(Path(folder) / "youtube", prepare=(Kind.CLIP, Kind.SONG)) as youtube,
    ):
        bench = Bench(youtube=youtube, folder=Path(folder), is_quick=True, pair_count=1)
        async with bench.service("capacity") as service:
            costs = await fit(bench, service)
            cpu, wall, _ = await batch(bench, service, mixed)
    predicted = predicted_seconds(costs, mixed)
    cores = os.cpu_count() or 1
    print(answer(costs, demand))
    print(
        f"Measured on {cores} cores: {costs.fixed:.2f} CPU s a conversion and {costs.per_minute:.2f} for each minute of"
        f" sound. Check: 10 clips and 5 songs were predicted to take {predicted:.1f} CPU s and took {cpu:.1f}"
        f" (error {abs(predicted - cpu) / cpu:.0%}); all cores busy would be {predicted / cores:.1f} s of wall time, it"
        f" was {wall:.1f} s."
    )


def main() -> None:
    """Parse the options, and print the answer."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.capacity", description=__doc__)
    parser.add_argument("--per-hour", type=float, default=500)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--retention-hours", type=float, default=24)
    parser.add_argument("--copied", type=float, default=0.0, help="share of conversions to M4A or Opus, from 0 to 1")
    parser.add_argument("--jobs-per-conversion", type=float, default=1.0, help="jobs that share one conversion")
    parser.add_argument("--polls", type=float, default=5.0, help="requests for the status of a job")
    parser.add_argument("--downloads", type=float, default=1.0, help="downloads of a job's track")
    parser.add_argument("--storage", choices=list(Storage), default=Storage.DISK)
    parser.add_argument("--model", action="store_true", help="measure nothing")
    options = parser.parse_args()
    demand = Demand(
        per_hour=options.per_hour,
        minutes=options.minutes,
        retention_hours=options.retention_hours,
        copied=options.copied,
        jobs_per_conversion=options.jobs_per_conversion,
        polls_per_job=options.polls,
        downloads_per_job=options.downloads,
        storage=Storage(options.storage),
    )
    if options.model:
        print(answer(MEASURED, demand))
    else:
        asyncio.run(measure(demand))


if __name__ == "__main__":
    main()
