"""`python -m scripts.identities`: 400 conversions while YouTube bans one of two identities, on simulated time.

YouTube is a fake that bans the first identity when it is asked for the 40th time, and lifts the ban ten minutes later.
Everything else is real: the engines, and their job store. First one instance on SQLite, then three on one Valkey, which
share the budgets and the states of the identities. Time is virtual, so that the hours pass in a minute.

It checks that no conversion fails or loses an attempt, that the banned identity is asked at most eight times in any
minute, and that no identity is asked more often than its budget in any hour. Exit code 1: something was wrong.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tests.contract.harness import PATIENT
from tests.engine.doors import Doors, most_within
from tests.engine.rig import MUCH_SPACE, SETTINGS, SOMEONE, StoreClock, link, video
from tests.fakes import FaultyStore
from tests.stand.valkey import Valkey
from tests.virtual_time import VirtualTimeLoop, real_time, seconds
from ytmp3.core.identities import Budget
from ytmp3.core.ids import InstanceId, JobId
from ytmp3.core.job import Status
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.engine import events
from ytmp3.engine.assembly import Engine, Outside, assemble
from ytmp3.engine.events import Events
from ytmp3.engine.health import Check
from ytmp3.engine.janitor import ADOPT_SECONDS
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.storage.files import Files
from ytmp3.storage.local import LocalShelf
from ytmp3.storage.scratch import Scratch
from ytmp3.threads import Threads

CONVERSIONS: Final = 400
BUDGETS: Final = (Budget(name="first", videos_per_hour=240), Budget(name="second", videos_per_hour=240))
BANNED: Final = "first"
BAN_AFTER: Final = 40
MOST_AT_A_CLOSED_DOOR: Final = 8
"""Most requests to the banned identity in any minute."""
WORKERS: Final = 20
POLICY: Final = Policy(lease_seconds=30.0, retention_seconds=86_400.0, crash_limit=3)


@dataclass(slots=True)
class Figures:
    """What one run has shown."""

    instances: int
    completed: int = 0
    failed: int = 0
    lost_attempts: int = 0
    hours: float = 0.0
    real_seconds: float = 0.0
    refused: int = 0
    refused_in_a_minute: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    asked_in_an_hour: dict[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """What was wrong, in words."""
        checks = {
            f"{self.completed} of {CONVERSIONS} completed": self.completed == CONVERSIONS,
            f"{self.failed} failed": self.failed == 0,
            f"{self.lost_attempts} attempts lost": self.lost_attempts == 0,
            "the ban was never met": self.refused > 0,
            f"{self.refused_in_a_minute} requests to a closed door in a minute": self.refused_in_a_minute
            <= MOST_AT_A_CLOSED_DOOR,
        }
        for budget in BUDGETS:
            most = self.asked_in_an_hour[budget.name]
            checks[f"{budget.name} was asked {most} times in an hour"] = most <= budget.videos_per_hour
        return [text for text, is_right in checks.items() if not is_right]


@asynccontextmanager
async def instance(
    folder: Path, store: JobStore, name: str, converter: Doors, happened: list[events.Event]
) -> AsyncIterator[Engine]:
    """Run one engine on a store."""
    shelf, scratch = LocalShelf(folder / "tracks"), Scratch(folder / "scratch", instance=InstanceId(name))
    await shelf.open()
    await scratch.open()
    with real_time():
        await store.open()
    engine = assemble(
        msgspec.structs.replace(SETTINGS, workers=WORKERS, queue_capacity=CONVERSIONS, max_retries=0),
        Outside(
            store=FaultyStore(store),
            files=Files(shelf=shelf, scratch=scratch, checkers=Threads("disk-check", 1)),
            converter=converter,
            clock=seconds,
        ),
        Events(happened.append),
    )
    engine.health.store = Check(ok=True, detail="")
    engine.health.tools = list(converter.tools)
    engine.health.space = MUCH_SPACE
    engine.upstream.identities.use(BUDGETS)
    engine.keeper.start()
    engine.workers.start()
    try:
        yield engine
    finally:
        await engine.close()
        await scratch.close()
        with real_time():
            await store.close()


async def run(folder: Path, redis: RedisSettings | None) -> Figures:
    """Convert all videos: in three instances on Redis, or in one on SQLite."""
    began_at, clock, doors = time.monotonic(), StoreClock(), Doors()
    doors.ban_after[BANNED] = BAN_AFTER
    happened: list[events.Event] = []
    names = ("a",) if redis is None else ("a", "b", "c")
    async with AsyncExitStack() as stack:
        engines, stores = [], []
        for name in names:
            stores.append(_store(folder, redis, name, clock))
            engines.append(await stack.enter_async_context(instance(folder, stores[-1], name, doors, happened)))
        jobs = []
        for number in range(CONVERSIONS):
            intake = engines[number % len(engines)].intake
            jobs.append((await intake.submit(link(video(number)), DEFAULT_RECIPE, SOMEONE)).job.job_id)
        records = FaultyStore(stores[0])
        while True:
            statuses = [ticket.status for ticket in (await records.get_many(jobs)).tickets.values()]
            if not {Status.PENDING, Status.PROCESSING} & set(statuses):
                break
            await _pass(engines, 60.0)
        attempts = await _attempts(records, jobs)
    asked = {budget.name: doors.asked[budget.name] for budget in BUDGETS}
    return Figures(
        instances=len(names),
        completed=statuses.count(Status.COMPLETED),
        failed=statuses.count(Status.FAILED),
        lost_attempts=attempts + sum(isinstance(event, events.Retried) for event in happened),
        hours=seconds() / 3600.0,
        real_seconds=time.monotonic() - began_at,
        refused=len(doors.refused[BANNED]),
        refused_in_a_minute=most_within(doors.refused[BANNED], 60.0),
        asked={name: len(times) for name, times in asked.items()},
        asked_in_an_hour={name: most_within(times, 3600.0) for name, times in asked.items()},
    )


async def _pass(engines: list[Engine], for_seconds: float) -> None:
    """Let time pass, in which each instance adopts conversions that are due."""
    until = seconds() + for_seconds
    while seconds() < until:
        for engine in engines:
            await engine.janitor.adopt()
        await asyncio.sleep(5 * ADOPT_SECONDS)


async def _attempts(records: FaultyStore, jobs: list[JobId]) -> int:
    tickets = (await records.get_many(jobs)).tickets
    return sum(ticket.conversion.attempts for ticket in tickets.values())


def _store(folder: Path, redis: RedisSettings | None, name: str, clock: StoreClock) -> JobStore:
    if redis is None:
        return SqliteJobStore(folder / "jobs.sqlite3", POLICY, InstanceId(name), clock=clock)
    return RedisJobStore(redis, POLICY, InstanceId(name), clock=clock, timeouts=PATIENT)


def main() -> int:
    """Run both parts, and print their figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    faults: list[str] = []
    for is_shared in (False, True):
        with tempfile.TemporaryDirectory(prefix="ytmp3-identities-") as folder:
            valkey = Valkey(Path(folder))
            if is_shared:
                valkey.start()
            try:
                settings = RedisSettings(address=valkey.address) if is_shared else None
                with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                    figures = runner.run(run(Path(folder), settings))
            finally:
                if is_shared:
                    valkey.stop()
        print(figures, flush=True)
        faults += figures.faults
    print("all right" if not faults else "; ".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
