"""What the primaries of a Redis Cluster do for status requests, with and without reads from replicas.

Three instances of the job store run on a real cluster. Each converts a third of the jobs, and writes their progress
every second, as the service does. Status requests arrive at a constant rate, each at a random instance for a random
job. Turns without requests, turns that read the primaries and turns that read replicas follow each other. The cost of
writing the progress, from the turn without requests, is subtracted from the others. Ended jobs are measured as well:
nobody writes to them.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import Struct

from scripts.bench.load import open_loop
from scripts.bench.measure import median
from scripts.bench.services import Bench, Row
from tests.contract.harness import METADATA, PATIENT, POLICY, Ids, running, track_of
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey, redis_use
from ytmp3.core.ids import InstanceId, JobId
from ytmp3.core.job import Lease
from ytmp3.engine.settings import PROGRESS_SECONDS
from ytmp3.jobstore import Renewal
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.redis.replicas import COMPARE_SECONDS

INSTANCES: Final = 3
JOBS_OF_INSTANCE: Final = 20
"""Running conversions of one instance: its default number of workers."""
STATUSES_PER_SECOND: Final = 400.0


class Use(Struct, frozen=True, kw_only=True):
    """What all primaries together have used since their start, or in one turn."""

    commands: float
    """As clients send them, and those inside scripts."""
    cpu_seconds: float
    """Of the threads that run commands."""
    scripts: float
    """Scripts that clients have sent: each status that a primary answers is one."""
    rounds: float
    """How often all instances have written their progress meanwhile."""

    def minus(self, other: "Use") -> "Use":
        return Use(
            commands=self.commands - other.commands,
            cpu_seconds=self.cpu_seconds - other.cpu_seconds,
            scripts=self.scripts - other.scripts,
            rounds=self.rounds - other.rounds,
        )

    def times(self, factor: float) -> "Use":
        return Use(
            commands=self.commands * factor,
            cpu_seconds=self.cpu_seconds * factor,
            scripts=self.scripts * factor,
            rounds=self.rounds * factor,
        )


class Pair(Struct, frozen=True, kw_only=True):
    """The cost of 1,000 statuses at the primaries."""

    without: Use
    """Replica reads off."""
    with_replicas: Use


class Instances:
    """Three job stores, once with replica reads and once without. They convert the same jobs under the same names."""

    def __init__(self, address: str) -> None:
        self.stores = {
            reads_replicas: [
                RedisJobStore(
                    RedisSettings(address=address, reads_replicas=reads_replicas),
                    POLICY,
                    InstanceId(str(number)),
                    timeouts=PATIENT,
                )
                for number in range(INSTANCES)
            ]
            for reads_replicas in (False, True)
        }
        self.jobs: list[JobId] = []
        self.rounds = 0
        """How often all instances have written their progress."""
        self._leases: list[list[Lease]] = [[] for _ in range(INSTANCES)]

    async def convert(self) -> None:
        """Submit and claim the conversions."""
        ids = Ids()
        for number in range(INSTANCES * JOBS_OF_INSTANCE):
            instance = number % INSTANCES
            submission = ids.submission(number)
            self._leases[instance].append((await running(self.stores[False][instance], submission)).lease)
            self.jobs.append(submission.job_id)

    async def end(self) -> None:
        """Finish all conversions."""
        for store, leases in zip(self.stores[False], self._leases, strict=True):
            for lease in leases:
                await store.finish(lease, track_of(lease), METADATA)
            leases.clear()

    async def write_progress(self, stores: Sequence[RedisJobStore]) -> None:
        """Renew all leases every second, until it is cancelled."""
        progress = 0.0
        while True:
            progress = (progress + 0.01) % 1.0
            for store, leases in zip(stores, self._leases, strict=True):
                if leases:
                    await store.renew([Renewal(lease=lease, progress=progress) for lease in leases])
            self.rounds += 1
            await asyncio.sleep(PROGRESS_SECONDS)

    async def close(self) -> None:
        for stores in self.stores.values():
            for store in stores:
                await store.close()


async def replica_reads(bench: Bench) -> list[Row]:
    """Measure with one primary and with three, with jobs that run and with jobs that have ended."""
    rows: list[Row] = []
    for primaries, name in ((1, "one primary"), (3, "three primaries")):
        async with _cluster(bench, primaries) as (primary_nodes, instances):
            await instances.convert()
            rows += _rows(f"{name}, running jobs", await _pairs(bench, primary_nodes, instances))
            await instances.end()
            rows += _rows(f"{name}, ended jobs", await _pairs(bench, primary_nodes, instances))
    return rows


@contextlib.asynccontextmanager
async def _cluster(bench: Bench, primaries: int) -> AsyncIterator[tuple[Sequence[Valkey], Instances]]:
    nodes = RedisCluster(
        bench.folder / f"cluster-{time.monotonic_ns()}", primaries=primaries, settings={"appendonly": "yes"}
    )
    with nodes.running():
        instances = Instances(nodes.address)
        try:
            yield nodes.nodes[:primaries], instances
        finally:
            await instances.close()


async def _pairs(bench: Bench, primaries: Sequence[Valkey], instances: Instances) -> list[Pair]:
    seconds = 2.0 if bench.is_quick else 5.0
    pairs = []
    for _ in range(bench.pair_count):
        idle = await _turn(primaries, instances, reads_replicas=False, rate=0.0, seconds=seconds)
        uses = []
        for reads_replicas in (False, True):
            use = await _turn(
                primaries, instances, reads_replicas=reads_replicas, rate=STATUSES_PER_SECOND, seconds=seconds
            )
            thousands = int(STATUSES_PER_SECOND * seconds) / 1000
            # On a busy machine a turn may take longer, and contain more writes than the turn without requests.
            uses.append(use.minus(idle.times(use.rounds / idle.rounds)).times(1 / thousands))
        pairs.append(Pair(without=uses[0], with_replicas=uses[1]))
    return pairs


async def _turn(
    primaries: Sequence[Valkey], instances: Instances, *, reads_replicas: bool, rate: float, seconds: float
) -> Use:
    """Return what the primaries use in one turn."""
    stores, chance = instances.stores[reads_replicas], random.Random(1)

    async def ask(_: int) -> int:
        ticket = await chance.choice(stores).get(chance.choice(instances.jobs), may_lag=True)
        return 200 if ticket is not None else 404

    writing = asyncio.create_task(instances.write_progress(stores), name="progress")
    try:
        # The first requests begin the comparisons of the replicas with their primaries.
        await asyncio.gather(*(ask(number) for number in range(10 * INSTANCES)))
        await asyncio.sleep(2 * COMPARE_SECONDS)
        before = await asyncio.to_thread(_use_of, primaries, instances)
        ends_at = time.monotonic() + seconds
        if rate and (await open_loop(ask, rate=rate, seconds=seconds)).refused:
            raise RuntimeError("a job was not found")
        await asyncio.sleep(max(0.0, ends_at - time.monotonic()))
        return (await asyncio.to_thread(_use_of, primaries, instances)).minus(before)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _use_of(primaries: Sequence[Valkey], instances: Instances) -> Use:
    commands = cpu_seconds = scripts = 0.0
    for node in primaries:
        with contextlib.closing(node.client()) as client:
            use = redis_use(client.info())
        calls = node.calls()
        commands += use.commands
        cpu_seconds += use.cpu_seconds
        scripts += calls["evalsha"] + calls["eval"]
    return Use(commands=commands, cpu_seconds=cpu_seconds, scripts=scripts, rounds=instances.rounds)


def _rows(what: str, pairs: Sequence[Pair]) -> list[Row]:
    commands = [(each.without.commands, each.with_replicas.commands) for each in pairs]
    cpu = [(each.without.cpu_seconds * 1000, each.with_replicas.cpu_seconds * 1000) for each in pairs]
    # Each status without replica reads is one script.
    asked = max(0.0, median([each.with_replicas.scripts / each.without.scripts for each in pairs]))
    return [
        Row(
            what=f"Redis Cluster, {what}: {name} of the primaries for 1,000 statuses with replica reads",
            value=median([after for _, after in values]),
            goal=None,
            at_least=False,
            unit=unit,
            note=f"without: {median([before for before, _ in values]):.0f}{note}",
        )
        for name, unit, values, note in (
            ("commands", "", commands, f"; {asked:.1%} of the answers asked a primary"),
            ("CPU time", "ms", cpu, ""),
        )
    ]
