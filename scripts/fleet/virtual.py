"""The same fleet on virtual time: all engines in one process, without HTTP.

On a busy machine, instances that get too little CPU time are late, and the costs that are measured are those of the
delays. Here the clock stands still while anything computes, so every rate is reached on any machine, and CPU time a job
and a second is what it would be on a machine that is fast enough. Latencies and conflicts between instances are not.
"""

import argparse
import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from redis import Redis

from scripts.fleet.figures import Figures, Sample, figures
from scripts.fleet.instances import CountedValues, SimulatedConverter, counts_of
from scripts.fleet.servers import budgets_of, nodes_of, use_of
from tests.contract.harness import PATIENT
from tests.engine.rig import MUCH_SPACE, SETTINGS, StoreClock
from tests.fakes import FaultyStore
from tests.virtual_time import real_time, seconds
from ytmp3.core.client import Client
from ytmp3.core.errors import RequestError
from ytmp3.core.identities import Budget
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

WORKERS: Final = 20
QUEUE: Final = 1000
POLICY: Final = Policy(lease_seconds=30.0, retention_seconds=86_400.0, crash_limit=3)


class VirtualFleet:
    """All engines of the process."""

    def __init__(self, converter: SimulatedConverter, nodes: Sequence[Redis]) -> None:
        self._converter = converter
        self._nodes = nodes
        self._values: list[CountedValues] = []
        self._engines: list[Engine] = []
        self._chance = random.Random(0)

    @property
    def instances(self) -> int:
        """The number of engines."""
        return len(self._engines)

    async def start(
        self, stack: AsyncExitStack, folder: Path, settings: RedisSettings, clock: StoreClock, budgets: Sequence[Budget]
    ) -> None:
        """Start one more engine. The stack ends it."""
        instance = InstanceId(f"{len(self._engines):016x}")
        shelf, scratch = LocalShelf(folder / "tracks"), Scratch(folder / "scratch", instance=instance)
        await shelf.open()
        await scratch.open()
        stack.push_async_callback(scratch.close)
        store = RedisJobStore(settings, POLICY, instance, clock=clock, timeouts=PATIENT)
        with real_time():
            await store.open()
        stack.push_async_callback(_close, store)
        values = CountedValues(store.values)
        store.values = values  # type: ignore[assignment]
        engine = assemble(
            msgspec.structs.replace(SETTINGS, workers=WORKERS, queue_capacity=QUEUE),
            Outside(
                store=FaultyStore(store),
                files=Files(shelf=shelf, scratch=scratch, checkers=Threads("disk-check", 1)),
                converter=self._converter,
                clock=seconds,
            ),
            Events(),
        )
        engine.health.store = Check(ok=True, detail="")
        engine.health.tools = list(self._converter.tools)
        engine.health.space = MUCH_SPACE
        engine.upstream.identities.use(budgets)
        for part in (engine.keeper, engine.workers, engine.watcher, engine.janitor, engine.expiry, engine.feeder):
            part.start()
        stack.push_async_callback(engine.close)
        self._values.append(values)
        self._engines.append(engine)

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
        return Sample(at=seconds(), nodes=[use_of(node) for node in self._nodes], counts=[counts], client_seconds=0.0)

    async def measure(self, for_seconds: float) -> Figures:
        """Measure the engines while nobody asks them."""
        before = await self.sample()
        await asyncio.sleep(for_seconds)
        return figures(before, await self.sample(), instances=self.instances, cores=None)


@asynccontextmanager
async def virtual_fleet(folder: Path, addresses: str, options: argparse.Namespace) -> AsyncIterator[VirtualFleet]:
    """Start all engines; end them when the block ends."""
    converter = SimulatedConverter(random.Random(options.seed), options.median_seconds)
    nodes = nodes_of(addresses)
    fleet, clock = VirtualFleet(converter, nodes), StoreClock()
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.callback(node.close)
        settings = RedisSettings(address=addresses)
        for _ in range(options.instances):
            await fleet.start(stack, folder, settings, clock, budgets_of(options))
        yield fleet


async def _close(store: RedisJobStore) -> None:
    with real_time():
        await store.close()
