"""`make soak`: kill, freeze and restart parts of the service under load, at full size and in many rounds.

Prints one line of figures for each round. The first failed check ends it with a traceback.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from scripts.listeners import listen_in_rounds
from scripts.out_of_memory import NoMemoryGroupError, starve
from tests.fake_youtube import Kind, Pace, Spawned, spawn
from tests.stand import failures, youtube_troubles
from tests.stand.cluster import Cluster, cluster
from tests.stand.service_process import egress

OUTAGE_SECONDS = 60.0
LISTENERS = 50
"""How many clients listen to one conversion at once."""
MANY_JOBS = 200
"""From so many conversions on, those that were under way when a client began to fail no longer decide the average."""

Round = Callable[[Cluster, int], Awaitable[dict[str, float]]]


async def over_clusters(name: str, times: int, youtube: Spawned, folder: Path, one: Round, **settings: str) -> None:
    """Run a round several times, each time with a cluster of its own."""
    for number in range(times):
        started_at = time.monotonic()
        async with cluster(folder / f"{name}-{number}", settings | egress(youtube)) as running:
            figures = await one(running, 1 + 300 * (number % 30))
        print(f"{name} {number + 1}/{times}: {figures} in {time.monotonic() - started_at:.0f} s", flush=True)


async def in_youtube_troubles(youtube: Spawned, folder: Path, *, jobs: int) -> None:
    """Convert while some player clients fail, over an outage, and while the media of running downloads are refused."""
    for number, trouble in enumerate(youtube_troubles.TROUBLES):
        figures = await youtube_troubles.convert_in_trouble(
            youtube, folder / f"trouble-{number}", jobs=jobs, first_number=5000 + jobs * number, trouble=trouble
        )
        print(f"{trouble}: {jobs} jobs: {figures}", flush=True)
        assert jobs < MANY_JOBS or figures["extractions"] <= youtube_troubles.MOST_EXTRACTIONS
    figures = await youtube_troubles.convert_over_an_outage(
        youtube, folder / "outage", jobs=jobs, first_number=5000 + 3 * jobs, seconds=OUTAGE_SECONDS
    )
    print(f"everything at YouTube fails for {OUTAGE_SECONDS:.0f} s: {jobs} jobs: {figures}", flush=True)
    for has_solver in (True, False):
        figures = await youtube_troubles.refuse_all_at_once(
            youtube, folder / f"refused-{has_solver}", downloads=20, extract_concurrency=4, has_solver=has_solver
        )
        print(f"20 running downloads refused, {'with' if has_solver else 'without'} solver: {figures}", flush=True)


async def main() -> None:
    """Run all rounds."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--weight", choices=("light", "real"), default="real", help="size of YouTube's answers; light: small ones"
    )
    options = parser.parse_args()
    times = options.rounds
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-soak-"))
    pace = Pace(slow_bytes_per_second=20_000, delay_seconds=2.0)
    kinds = (Kind.SHORT, Kind.CLIP, Kind.SONG)
    with spawn(folder / "youtube", prepare=kinds, pace=pace, weight=options.weight) as youtube:
        for number in range(times):
            started_at = time.monotonic()
            await failures.kill_and_restart(youtube, folder / f"alone-{number}", first_number=1 + 150 * number)
            print(
                f"kill-alone {number + 1}/{times}: 120 jobs in {time.monotonic() - started_at:.0f} s",
                flush=True,
            )
        try:
            print(f"out of memory: {await starve(youtube, folder / 'starved')}", flush=True)
        except NoMemoryGroupError as error:
            print(f"out of memory: NOT RUN: {error}", flush=True)
        await listen_in_rounds(youtube, folder / "listeners", rounds=1, listeners=LISTENERS)
        await in_youtube_troubles(youtube, folder, jobs=min(200, 20 * times))
        await over_clusters(
            "kill-one", times, youtube, folder, lambda c, n: failures.kill_one(c, jobs=200, first_number=n)
        )
        await over_clusters(
            "freeze-one",
            max(1, times // 2),
            youtube,
            folder,
            lambda c, n: failures.freeze_one(c, frozen_seconds=60, first_number=n),
            LEASE_SECONDS="10",
        )
        await over_clusters(
            "redis-killed", times, youtube, folder, lambda c, n: failures.restart_redis(c, jobs=200, first_number=n)
        )
        await over_clusters("redis-frozen", 1, youtube, folder, lambda c, _: failures.freeze_redis(c, seconds=20))
        await over_clusters(
            "read-your-writes",
            1,
            youtube,
            folder,
            lambda c, n: failures.read_your_writes(c, pairs=2000, first_number=n),
        )
        await over_clusters(
            "rolling-restart",
            times,
            youtube,
            folder,
            lambda c, n: failures.roll(c, requests_between=100, first_number=n),
        )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
