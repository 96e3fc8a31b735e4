"""`python -m scripts.fleet`: many instances with simulated conversions, to find the part that is full first.

    python -m scripts.fleet --instances 50 --per-hour 100000 --seconds 60
    python -m scripts.fleet --virtual --per-hour 100000 200000 400000   # one column for each rate
    python -m scripts.fleet --virtual --per-hour 100000 --until-full    # doubles the rate until something is full
    python -m scripts.fleet --virtual --until-full --grow               # as many instances as each rate needs
    python -m scripts.fleet --virtual --until-full --primaries 3        # on a Redis Cluster

The instances are whole services on real sockets, several in one process, with a real Valkey and one folder of tracks.
Only the conversions are simulated: each takes a random time and makes a small file, and starts no child process.
Clients submit links at the rate, and poll each job every two seconds at any of the instances. One of ten links was
submitted before. The identities are as many as the rate needs; `--identities 0` sets no budget.

At each rate, some seconds pass before anything is measured, until about as many conversions end as begin. The steps end
at a rate at which a part is full, the queue grows without bound, or jobs are refused or lost.

Shares of CPU time and costs a job are comparable between machines, latencies are not. On a machine that is too busy for
the rate, `--virtual` runs all engines in one process on simulated time, without HTTP. Then the costs are right, and the
waiting is that of the queue alone.

Exit code 1: a job was lost, has failed, or was converted twice.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from scripts.fleet.figures import Figures, Sample, attempts, figures
from scripts.fleet.load import POLL_SECONDS, Ask, Clients, HttpClient
from scripts.fleet.processes import fleet
from scripts.fleet.servers import redis_of
from scripts.fleet.steps import FULL, Step, reasons_to_stop, report
from scripts.fleet.virtual import virtual_fleet
from tests.virtual_time import VirtualTimeLoop

MOST_DOUBLINGS = 5
"""Most rates that `--until-full` adds."""
SHORTEST_SECONDS = 5.0
"""The shortest time that is measured, however many jobs it has."""


class Running(Protocol):
    """A fleet that runs."""

    @property
    def instances(self) -> int:
        """The number of instances."""

    async def prepare(self, per_hour: float, instances: int) -> None:
        """Have so many instances, with the identities that the rate needs, if that can still be changed."""

    async def sample(self) -> Sample:
        """Return everything at this moment."""

    async def measure(self, for_seconds: float) -> Figures:
        """Measure the instances while nobody asks them."""


async def run_step(
    running: Running, clients: Clients, idle: Figures, per_hour: float, options: argparse.Namespace
) -> Step:
    """Apply the load of one rate, and measure it."""
    load, per_second = clients.load, per_hour / 3600.0
    known = attempts((await running.sample()).counts)
    await clients.submit_for(options.warm_seconds, per_second)
    before, accepted, new_links, polls = await running.sample(), len(load.accepted), load.new_links, load.polls
    await clients.submit_for(min(options.seconds, max(SHORTEST_SECONDS, options.jobs / per_second)), per_second)
    at_end = await running.sample()
    accepted, new_links, polls = len(load.accepted) - accepted, load.new_links - new_links, load.polls - polls
    unfinished = await clients.until_ended(options.grace_seconds)
    counts = (await running.sample()).counts
    begun_at = {video_id: at for each in counts for video_id, at in each.begun_at.items()}
    begun = sum(attempts(counts).values())
    return Step(
        per_hour=per_hour,
        instances=running.instances,
        idle=idle,
        under_load=figures(
            before, at_end, instances=running.instances, cores=None if options.virtual else os.cpu_count()
        ),
        limit=1.0 if options.virtual else FULL,
        accepted=accepted,
        new_links=new_links,
        polls=polls,
        queued_before=sum(each.queued for each in before.counts),
        queued=sum(each.queued for each in at_end.counts),
        unfinished=unfinished,
        load=load,
        conversions={video_id: number for video_id, number in attempts(counts).items() if video_id not in known},
        waits=[begun_at[video_id] - at for video_id, at in load.asked_at.items() if video_id in begun_at],
        mean_seconds=sum(each.planned_seconds for each in counts) / max(1, begun),
    )


async def run_rates(running: Running, ask: Ask, options: argparse.Namespace) -> int:
    """Measure each rate, and the idle fleet before it. Prints the table, and returns the exit code."""
    chance = random.Random(options.seed)
    steps: list[Step] = []
    for number, per_hour in enumerate(rates(options)):
        growth = per_hour / options.per_hour[0] if options.grow else 1.0
        await running.prepare(per_hour, round(options.instances * growth))
        idle = await running.measure(options.idle_seconds)
        clients = Clients(ask, again=options.again, poll_seconds=options.poll_seconds, chance=chance, step=number)
        steps.append(await run_step(running, clients, idle, per_hour, options))
        reasons = reasons_to_stop(steps[-1])
        print(f"measured {per_hour:,.0f} an hour: {report(steps[-1:])}", file=sys.stderr, flush=True)
        if reasons:
            break
    print(report(steps))
    print(f"At {per_hour:,.0f} an hour: {'; '.join(reasons) or 'no simulated part is full'}.")
    return int(any(step.load.unknown or step.load.ended["failed"] or step.again for step in steps))


def rates(options: argparse.Namespace) -> list[float]:
    """Return the rates of all steps, if nothing ends them earlier."""
    more = range(1, MOST_DOUBLINGS + 1) if options.until_full else ()
    return [*options.per_hour, *(options.per_hour[-1] * 2**number for number in more)]


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
    parser.add_argument("--per-hour", type=float, nargs="+", default=[100_000.0], help="submitted links an hour")
    parser.add_argument("--until-full", action="store_true", help="double the last rate until something is full")
    parser.add_argument("--grow", action="store_true", help="the instances grow as the rate does; with --virtual")
    parser.add_argument("--warm-seconds", type=float, default=12.0, help="duration of each rate before it is measured")
    parser.add_argument("--seconds", type=float, default=60.0, help="longest measured time of each rate")
    parser.add_argument("--jobs", type=int, default=2000, help="most jobs in it, unless it would be below 5 s")
    parser.add_argument("--again", type=float, default=0.1, help="the share of links that were submitted before")
    parser.add_argument("--poll-seconds", type=float, default=POLL_SECONDS)
    parser.add_argument("--median-seconds", type=float, default=8.0, help="the median duration of a conversion")
    parser.add_argument("--identities", type=int, help="their number; 0: one, without a budget")
    parser.add_argument("--exchange-ms", type=float, default=2.0, help="see scripts/fleet/virtual.py")
    parser.add_argument("--primaries", type=int, default=1, help="more than one: a Redis Cluster of its own")
    parser.add_argument("--redis", default="", help="REDIS_ADDR of other servers than a Valkey of its own")
    parser.add_argument("--idle-seconds", type=float, default=5.0, help="how long the idle instances are measured")
    parser.add_argument("--grace-seconds", type=float, default=60.0, help="how long the last jobs may take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--virtual", action="store_true", help="virtual time, without HTTP: for a busy machine")
    options = parser.parse_args()
    options.highest = max(rates(options))
    if options.grow and not options.virtual:
        parser.error("--grow needs --virtual")
    make_loop = VirtualTimeLoop if options.virtual else asyncio.new_event_loop
    with tempfile.TemporaryDirectory(prefix="ytmp3-fleet-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with redis_of(folder, options) as addresses, asyncio.Runner(loop_factory=make_loop) as runner:
            return runner.run(run(folder, addresses, options))


if __name__ == "__main__":
    sys.exit(main())
