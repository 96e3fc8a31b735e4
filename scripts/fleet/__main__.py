"""`python -m scripts.fleet`: many instances with simulated conversions, to find the part that is full first.

    python -m scripts.fleet --instances 50 --per-hour 100000 --seconds 60
    python -m scripts.fleet --per-hour 100000 --steps 4          # doubles the rate until something is full

The instances are whole services on real sockets, several in one process, with a real Valkey and one folder of tracks.
Only the conversions are simulated: each takes a random time and makes a small file, and starts no child process.
Clients submit links at the rate, and poll each job every two seconds at any of the instances. One of ten links was
submitted before. The identities are as many as the rate needs; `--identities 0` sets no budget.

Shares of CPU time and costs a job are comparable between machines, latencies are not. On a machine that is too busy for
the rate, `--virtual` runs all engines in one process on simulated time, without HTTP. Then the costs are right, but
latencies and conflicts between instances are not measured.

Exit code 1: a job was lost, or has failed.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from scripts.fleet.figures import FULL, Counts, Figures, Sample, attempts, figures, report
from scripts.fleet.load import POLL_SECONDS, Ask, Clients, HttpClient
from scripts.fleet.processes import fleet
from scripts.fleet.servers import redis_of
from scripts.fleet.virtual import virtual_fleet
from tests.virtual_time import VirtualTimeLoop


class Running(Protocol):
    """A fleet that runs."""

    @property
    def instances(self) -> int:
        """The number of instances."""

    async def sample(self) -> Sample:
        """Return everything at this moment."""

    async def measure(self, for_seconds: float) -> Figures:
        """Measure the instances while nobody asks them."""


async def run_rate(
    running: Running, clients: Clients, idle: Figures, per_hour: float, options: argparse.Namespace
) -> bool:
    """Apply the load of one rate, print its table, and return whether something was full."""
    before = await running.sample()
    known = attempts(before.counts)
    await clients.submit_for(options.seconds, per_hour / 3600.0)
    at_end = await running.sample()
    unfinished = await clients.until_ended(options.grace_seconds)
    after = await running.sample()
    under_load = figures(before, at_end, instances=running.instances, cores=None if options.virtual else os.cpu_count())
    load = clients.load
    after = msgspec.structs.replace(after, counts=[_without(each, known) for each in after.counts])
    print(report(load, idle, under_load, after, per_hour=per_hour, instances=running.instances), end="")
    queued = sum(each.queued for each in at_end.counts)
    print(f"| waiting at the end | {queued}, not ended {options.grace_seconds:g} s later {unfinished} |", flush=True)
    return (
        max(under_load.redis, under_load.instance, under_load.loop, under_load.machine) >= FULL
        or load.refused.total() > 0.01 * load.submitted
        or queued > 2 * per_hour / 3600.0
        or unfinished > 0
    )


def _without(counts: Counts, known: object) -> Counts:
    """Leave out the videos of earlier rates."""
    assert isinstance(known, dict)
    return msgspec.structs.replace(counts, started={k: v for k, v in counts.started.items() if k not in known})


async def run_rates(running: Running, ask: Ask, options: argparse.Namespace) -> int:
    """Measure the idle fleet, and then each rate. Returns the exit code."""
    idle = await running.measure(options.idle_seconds)
    per_hour, chance, faults = options.per_hour, random.Random(options.seed), 0
    for step in range(options.steps):
        clients = Clients(ask, again=options.again, poll_seconds=options.poll_seconds, chance=chance, step=step)
        is_full = await run_rate(running, clients, idle, per_hour, options)
        faults += clients.load.unknown + clients.load.ended["failed"]
        if is_full:
            print(f"\nsomething is full at {per_hour:,.0f} an hour")
            break
        per_hour *= 2
    return int(faults > 0)


async def run(folder: Path, addresses: str, options: argparse.Namespace) -> int:
    """Run on the clock of the loop."""
    if options.virtual:
        async with virtual_fleet(folder, addresses, options) as running:
            return await run_rates(running, running.ask, options)
    async with (
        fleet(folder, addresses, options) as (processes, urls),
        ClientSession(
            connector=TCPConnector(limit=0), timeout=ClientTimeout(30.0), cookie_jar=DummyCookieJar()
        ) as session,
    ):
        return await run_rates(processes, HttpClient(session, urls, random.Random(options.seed)).ask, options)


def main() -> int:
    """Parse the options, and run."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--processes", type=int, default=5, help="the instances are divided among so many processes")
    parser.add_argument("--per-hour", type=float, default=100_000.0, help="submitted links an hour")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each rate")
    parser.add_argument("--steps", type=int, default=1, help="most rates; each is twice the one before")
    parser.add_argument("--again", type=float, default=0.1, help="the share of links that were submitted before")
    parser.add_argument("--poll-seconds", type=float, default=POLL_SECONDS)
    parser.add_argument("--median-seconds", type=float, default=8.0, help="the median duration of a conversion")
    parser.add_argument("--identities", type=int, help="ways out of 240 videos an hour; 0: no budget")
    parser.add_argument("--redis", default="", help="REDIS_ADDR of other servers than a Valkey of its own")
    parser.add_argument("--idle-seconds", type=float, default=10.0, help="how long the idle instances are measured")
    parser.add_argument("--grace-seconds", type=float, default=60.0, help="how long the last jobs may take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--virtual", action="store_true", help="virtual time, without HTTP: for a busy machine")
    options = parser.parse_args()
    make_loop = VirtualTimeLoop if options.virtual else asyncio.new_event_loop
    with tempfile.TemporaryDirectory(prefix="ytmp3-fleet-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with redis_of(folder, options) as addresses, asyncio.Runner(loop_factory=make_loop) as runner:
            return runner.run(run(folder, addresses, options))


if __name__ == "__main__":
    sys.exit(main())
