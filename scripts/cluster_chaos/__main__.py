"""`python -m scripts.cluster_chaos`: break a whole installation on Redis Cluster and S3 under load, many times.

Three real instances behind nginx, a cluster of three Valkey primaries with replicas, and an S3 server, all on loopback;
only YouTube is replaced. Each fault gets an installation of its own. In every round, clients submit new and repeated
links of short videos at all instances and poll the jobs, while something breaks and heals. Then each acknowledged job
must be completed and its track whole, or Redis itself must have lost it: its replica never had it. Prints a line for
each round and a table, and exits with 1 if anything else was lost or left behind.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from redis import RedisError

from scripts.cluster_chaos.checks import Figures, Repeats, check_end, check_later, check_round, until_ended
from scripts.cluster_chaos.commands import compare
from scripts.cluster_chaos.faults import FAULTS, PROXIED, until_healed
from scripts.cluster_chaos.installation import Installation, installation
from scripts.cluster_chaos.load import KINDS, Load, clients, video_numbers
from scripts.cluster_chaos.nodes import elections_won
from tests.fake_youtube import Spawned, spawn
from tests.stand.s3_server import S3Server

COLUMNS = (
    "promoted",
    "accepted",
    "videos",
    "refused",
    "unreplicated",
    "unknown",
    "reverted",
    "surplus",
    "explained",
    "swept",
)


async def run_round(its: Installation, load: Load, repeats: Repeats, fault: str, number: int) -> Figures:
    """Break and heal an installation once under load, and check what it did."""
    load.round = number
    promoted = elections_won(its.nodes)
    started_at = time.monotonic()
    async with load.running():
        await load.more(10)
        broken_at = time.monotonic()
        harm = await FAULTS[fault](its, load, number)
        await until_healed(its)
        broken_seconds = time.monotonic() - broken_at
        await load.more(5)
    refused = Counter(load.refused)
    figures = await check_round(load, harm, await until_ended(load), repeats)
    figures.promoted = elections_won(its.nodes) - promoted
    figures.seconds = time.monotonic() - started_at
    shown = ", ".join(f"{name} {getattr(figures, name)}" for name in COLUMNS[:-1])
    times = f"broken {broken_seconds:.0f} of {figures.seconds:.0f} s"
    print(f"{fault} {number + 1}: {shown}; {dict(refused)}; {times}", flush=True)
    return figures


async def run_fault(
    fault: str, folder: Path, youtube: Spawned, s3: S3Server, videos: Iterator[str], options: argparse.Namespace
) -> tuple[int, Figures]:
    """Run all rounds of a fault. Returns the number of rounds that the time allowed, and their figures."""
    total, rounds = Figures(), 0
    ends_at = time.monotonic() + options.seconds
    async with (
        installation(folder / fault, youtube, s3, is_proxied=fault in PROXIED) as its,
        clients(
            its, videos, pause_seconds=options.pause, most_unfinished=options.unfinished, seed=options.seed
        ) as load,
    ):
        repeats = Repeats(its)
        while rounds < options.rounds and time.monotonic() < ends_at:
            rounds += 1
            try:
                figures = await run_round(its, load, repeats, fault, rounds - 1)
            except (AssertionError, ExceptionGroup, RedisError) as error:
                # The installation may not be whole any more, so no round follows.
                figures = Figures(violations=[f"the round was not completed: {error!r}"])
                traceback.print_exc()
                ends_at = 0.0
            total.add(figures)
            for violation in figures.violations:
                print(f"  VIOLATION {violation}", flush=True)
        before = len(total.violations)
        total.violations += await check_later(load)
        await check_end(its, total)
        for violation in total.violations[before:]:
            print(f"  VIOLATION at the end: {violation}", flush=True)
    return rounds, total


def table(results: dict[str, tuple[int, Figures]]) -> str:
    """Return the figures of all faults as a table in Markdown."""
    lines = [f"| fault | rounds | {' | '.join(COLUMNS)} | violations | seconds |", "|---" * (len(COLUMNS) + 4) + "|"]
    for fault, (rounds, total) in results.items():
        cells = " | ".join(str(getattr(total, name)) for name in COLUMNS)
        lines.append(f"| {fault} | {rounds} | {cells} | {len(total.violations)} | {total.seconds:.0f} |")
    return "\n".join(lines)


async def run(options: argparse.Namespace, folder: Path) -> dict[str, tuple[int, Figures]]:
    """Run all rounds of all chosen faults."""
    results: dict[str, tuple[int, Figures]] = {}
    (folder / "s3").mkdir()
    s3 = S3Server(folder / "s3")
    videos = video_numbers()
    try:
        await asyncio.to_thread(s3.start)
        with spawn(folder / "youtube", prepare=KINDS) as youtube:
            if options.commands:
                await compare(folder, youtube, s3, videos, pairs=options.pairs)
                return results
            for fault in options.fault:
                (folder / fault).mkdir()
                results[fault] = await run_fault(fault, folder, youtube, s3, videos, options)
    finally:
        s3.stop()
    return results


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m scripts.cluster_chaos", description=__doc__)
    found.add_argument("--rounds", type=int, default=10, help="of each fault")
    found.add_argument("--fault", nargs="+", choices=tuple(FAULTS), default=tuple(FAULTS), metavar="NAME")
    found.add_argument("--seconds", type=float, default=900.0, help="no round of a fault begins after this time")
    found.add_argument("--pause", type=float, default=0.25, help="seconds between two POSTs")
    found.add_argument("--unfinished", type=int, default=12, help="videos under way from which no new ones come")
    found.add_argument("--seed", type=int, default=1)
    found.add_argument("--commands", action="store_true", help="instead: count the commands, against a single server")
    found.add_argument("--pairs", type=int, default=3, help="of these measurements")
    return found


async def main() -> int:
    """Run what the command line says; return the exit status."""
    options = parser().parse_args()
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        # All started processes must end with this one, also if a shell started it in the background.
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    with tempfile.TemporaryDirectory(prefix="ytmp3-cluster-chaos-") as name:
        results = await run(options, Path(name))
    print(table(results) if results else "")
    return 1 if any(total.violations for _, total in results.values()) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
