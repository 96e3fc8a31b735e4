"""The same fleet on virtual time: all engines in one process, without HTTP.

On a busy machine, instances that get too little CPU time are late, and the costs that are measured are those of the
delays. Here the clock stands still while anything computes, so every rate is reached on any machine, and CPU time a job
and a second is what it would be on a machine that is fast enough. Requests to the store take no time, except for the
states of the identities, between whose read and write `--exchange-ms` pass: so instances conflict as they would on a
real network.
"""

import argparse
import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
from redis import Redis

from scripts.fleet.figures import WORKERS, Figures, Sample, figures
from scripts.fleet.instances import CountedValues, SimulatedConverter, counts_of
from scripts.fleet.servers import budgets_of, nodes_of
from tests.contract.harness import PATIENT
from tests.engine.rig import MUCH_SPACE, SETTINGS, StoreClock
from tests.fakes import FaultyStore
from tests.stand.valkey import redis_use
from tests.virtual_time import real_time, seconds
from ytmp3.core.client import Client
from ytmp3.core.errors import RequestError
from ytmp3.core.ids import ClientId, InstanceId
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.engine.assembly import Engine, Outside, assemble
from ytmp3.engine.events import Events
from ytmp3.engine.health import Check
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import Policy
from ytmp3.storage.files import Files
from ytmp3.storage.local import LocalShelf
from ytmp3.storage.scratch import Scratch
from ytmp3.threads import Threads

QUEUE: Final = 1000
POLICY: Final = Policy(lease_seconds=30.0, retention_seconds=86_400.0, crash_limit=3)


class CountedStore(FaultyStore):
    """A store whose calls take no virtual time, and whose shared values are counted."""

    def __init__(self, store: RedisJobStore, exchange_seconds: float) -> None:
        super().__init__(store)
        self._exchange_seconds = exchange_seconds

    @cached_property
    def values(self) -> CountedValues:
        """The shared values."""
        return CountedValues(super().values, self._exchange_seconds)


class VirtualFleet:
    """All engines of the process. `folder` is that of their tracks, `stack` ends them."""

    def __init__(self, folder: Path, addresses: str, options: argparse.Namespace, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._settings = RedisSettings(address=addresses)
        self._options = options
        self._stack = stack
        self._clock = StoreClock()
        self._converter = SimulatedConverter(random.Random(options.seed), options.median_seconds)
        self._nodes: Sequence[Redis] = nodes_of(addresses)
        for node in self._nodes:
            stack.callback(node.close)
        self._values: list[CountedValues] = []
        self._engines: list[Engine] = []
        self._chance = random.Random(0)

    @property
    def instances(self) -> int:
        """The number of engines."""
        return len(self._engines)

    async def prepare(self, per_hour: float, instances: int) -> None:
        """Start engines until there are so many, and give all of them the identities that the rate needs."""
        while len(self._engines) < instances:
            self._engines.append(await self._start(InstanceId(f"{len(self._engines):016x}")))
        for engine in self._engines:
            engine.upstream.identities.use(budgets_of(per_hour, self._options.identities))

    async def _start(self, instance: InstanceId) -> Engine:
        shelf = LocalShelf(self._folder / "tracks")
        scratch = Scratch(self._folder / "scratch", instance=instance)
        await shelf.open()
        await scratch.open()
        self._stack.push_async_callback(scratch.close)
        real = RedisJobStore(self._settings, POLICY, instance, clock=self._clock, timeouts=PATIENT)
        with real_time():
            await real.open()
        self._stack.push_async_callback(_close, real)
        store = CountedStore(real, self._options.exchange_ms / 1000.0)
        self._values.append(store.values)
        engine = assemble(
            msgspec.structs.replace(SETTINGS, workers=WORKERS, queue_capacity=QUEUE),
            Outside(
                store=store,
                files=Files(shelf=shelf, scratch=scratch, checkers=Threads("disk-check", 1)),
                converter=self._converter,
                clock=seconds,
            ),
            Events(),
        )
        engine.health.store = Check(ok=True, detail="")
        engine.health.tools = list(self._converter.tools)
        engine.health.space = MUCH_SPACE
        for part in (engine.keeper, engine.workers, engine.watcher, engine.janitor, engine.expiry, engine.feeder):
            part.start()
        self._stack.push_async_callback(engine.close)
        return engine

    async def ask(self, client: str, method: str, path: str, body: dict[str, str] | None) -> tuple[int, dict[str, Any]]:
        """Do what an instance does for a request, without HTTP."""
        engine = self._chance.choice(self._engines)
        try:
            if method == "POST":
                owner = Client(owner=ClientId(f"addr:{client}"))
                ticket = await engine.intake.submit((body or {})["url"], DEFAULT_RECIPE, owner)
                return 202, {"job_id": ticket.job.job_id, "status": ticket.status}
            ticket = await engine.jobs.ticket(path.removeprefix("/status/"), None)
            engine.jobs.live(ticket)
        except RequestError as error:
            return error.status, {"code": error.code}
        return 200, {"job_id": ticket.job.job_id, "status": ticket.status}

    async def sample(self) -> Sample:
        """Return the counts of the one process."""
        counts = counts_of(self._values, self._engines, self._converter)
        return Sample(
            at=seconds(), nodes=[redis_use(node.info()) for node in self._nodes], counts=[counts], client_seconds=0.0
        )

    async def measure(self, for_seconds: float) -> Figures:
        """Measure the engines while nobody asks them."""
        before = await self.sample()
        await asyncio.sleep(for_seconds)
        return figures(before, await self.sample(), instances=self.instances, cores=None)


@asynccontextmanager
async def virtual_fleet(folder: Path, addresses: str, options: argparse.Namespace) -> AsyncIterator[VirtualFleet]:
    """Yield a fleet without engines; end its engines when the block ends."""
    async with AsyncExitStack() as stack:
        yield VirtualFleet(folder, addresses, options, stack)


async def _close(store: RedisJobStore) -> None:
    with real_time():
        await store.close()
