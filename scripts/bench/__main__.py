"""`make bench`: measure the service with the fake YouTube, and print a table. `--quick` takes under three minutes."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from scripts.bench import report
from scripts.bench.rows import ROWS
from scripts.bench.services import Bench, Row
from tests.fake_youtube import Kind, spawn

PREPARED = (Kind.SHORT, Kind.CLIP, Kind.SONG)
"""Kinds of video whose media is made before the first measurement. Some rows need longer mixes, too."""
MIXES = {"fairness": (Kind.MIX,), "long_tracks": (Kind.MIX, Kind.HOUR)}
"""The longer kinds that some rows need."""


async def main() -> None:
    """Measure and print; write the results of a full run to RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller batches, one pair of measurements")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--pairs", type=int, help="repetitions of each measurement; default: 5, quick: 1")
    parser.add_argument(
        "--weight", choices=("light", "real"), default="real", help="size of YouTube's answers; light: small ones"
    )
    options = parser.parse_args()
    names = options.rows.split(",")
    prepared = {*PREPARED, *(kind for name in names for kind in MIXES.get(name, ()))}
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell that starts this in the background makes it ignore SIGINT. All started processes must end with it.
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ytmp3-bench-") as folder:
        path = Path(folder)
        with spawn(path / "youtube", prepare=prepared, weight=options.weight) as youtube:
            bench = Bench(
                youtube=youtube,
                folder=path,
                is_quick=options.quick,
                pair_count=options.pairs or (1 if options.quick else 5),
            )
            for name in names:
                started_at = time.perf_counter()
                measured = await ROWS[name](bench)
                rows += measured
                print(f"{name}: {time.perf_counter() - started_at:.0f} s", file=sys.stderr, flush=True)
                print(report.render(measured), file=sys.stderr, flush=True)
                if not options.quick and names == list(ROWS):
                    report.write(rows)
    print(report.render(rows))


if __name__ == "__main__":
    asyncio.run(main())
