"""How the engine is put together: each part is handed what it uses, and they start and end in order.

The way of a conversion through the parts:

    intake ── capacity ──> queue ──> workers ──> attempt ── writes ──> store
                             ^           (in hand: runs; held by: leases)
    janitor ── adopts ───────┘

`upstream` says whether a worker may start, `jobs` reads and cancels for clients, and `watcher` fills `health`. All of
them emit `events`. The app and the engine's tests both build the engine here; only the values of `Outside` differ.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ytmp3.converter import Converter
from ytmp3.engine.attempt import Attempts
from ytmp3.engine.capacity import Capacity
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.intake import Intake
from ytmp3.engine.janitor import Janitor
from ytmp3.engine.jobs import Jobs
from ytmp3.engine.leases import LeaseKeeper
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.watcher import Watcher
from ytmp3.engine.workers import Workers
from ytmp3.engine.writes import Writes
from ytmp3.jobstore import JobStore
from ytmp3.storage.files import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the engine works with and does not own: already open, and closed by the caller after the engine."""

    store: JobStore
    """The records. Its policy gives the lengths of leases and of retention."""
    files: Files
    """The tracks, and the scratch folders of attempts."""
    converter: Converter
    """Turns a video id into a verified track."""
    clock: Callable[[], float] = time.monotonic
    """Seconds from any origin. Times in records are the store's matter, not this clock's."""
    random: Callable[[], float] = random.random
    """Uniform in [0, 1), for the spread of retries; nothing secret depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The parts, for the composition root to hand on. No part of the engine is given this value itself."""

    settings: EngineSettings
    """The numbers that all parts were built with."""
    events: Events
    """Where listeners can be added."""
    health: Health
    """Whether this instance is ready; also where a drain is announced."""
    queue: FairQueue
    """The conversions that wait here."""
    runs: Runs
    """The conversions that run here."""
    upstream: Upstream
    """Whether YouTube may be asked."""
    estimates: Estimates
    """How long things take."""
    capacity: Capacity
    """Whether a conversion may be created."""
    intake: Intake
    """Accepts submissions: for `POST /extract`."""
    jobs: Jobs
    """Reads and cancels jobs: for all other routes of a job."""
    keeper: LeaseKeeper
    workers: Workers
    janitor: Janitor
    watcher: Watcher

    def start(self) -> None:
        """Start every task. The keeper comes first, so that nothing is claimed whose lease would not be renewed."""
        self.keeper.start()
        self.workers.start()
        self.watcher.start()
        self.janitor.start()

    async def close(self) -> None:
        """End every task, and release all conversions. The keeper ends last: until then the leases are renewed."""
        await self.janitor.close()
        await self.watcher.close()
        await self.workers.close()
        await self.keeper.close()


def assemble(settings: EngineSettings, outside: Outside, events: Events) -> Engine:
    """Build every part; nothing is started."""
    store, files, converter, clock = outside.store, outside.files, outside.converter, outside.clock
    health = Health()
    runs = Runs(events, clock=clock)
    queue = FairQueue(settings.queue_capacity, runs.by_client)
    upstream = Upstream(settings, clock=clock)
    estimates = Estimates(workers=settings.workers, clock=clock, random=outside.random)
    events.listen(estimates.on_event)
    writes = Writes(settings, store=store, events=events, random=outside.random)
    attempts = Attempts(
        settings,
        converter=converter,
        files=files,
        writes=writes,
        runs=runs,
        upstream=upstream,
        events=events,
    )
    capacity = Capacity(
        settings.client_max_jobs, queue=queue, runs=runs, upstream=upstream, health=health, estimates=estimates
    )
    return Engine(
        settings=settings,
        events=events,
        health=health,
        queue=queue,
        runs=runs,
        upstream=upstream,
        estimates=estimates,
        capacity=capacity,
        intake=Intake(store=store, shelf=files.shelf, capacity=capacity, health=health, events=events),
        jobs=Jobs(store=store, queue=queue, runs=runs, estimates=estimates, events=events, clock=clock),
        keeper=LeaseKeeper(settings, store=store, queue=queue, runs=runs, events=events, clock=clock),
        workers=Workers(settings.workers, queue=queue, runs=runs, upstream=upstream, attempts=attempts, writes=writes),
        janitor=Janitor(
            settings, store=store, files=files, queue=queue, upstream=upstream, health=health, events=events
        ),
        watcher=Watcher(store=store, scratch=files.scratch, converter=converter, health=health, events=events),
    )
