"""Builds the engine from its parts, and starts and ends them in order.

The path of a conversion through the parts:

    intake ── capacity ──> queue ──> workers ──> attempt ── writes ──> store
                             ^           (while it runs: runs, leases)
    janitor ── adopts ───────┘

`feeder` submits the items of batches to `intake`. `upstream` decides whether a conversion may start, `jobs` reads and
cancels jobs, and `watcher` updates `health`. Most parts emit `events`. The app and the engine's tests both build the
engine here; only the values of `Outside` differ.

No part knows the whole engine: each gets the parts that it needs as arguments. So the arguments in `assemble` show who
may call whom, and a part can be tested without the others. The order of the lines follows from that, because a part is
built after those that it gets.

The order in which parts start and end matters more. If a conversion is claimed while nobody renews leases, its lease
runs out, another instance adopts it, and both convert it. So the lease keeper starts first and ends last.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ytmp3.converter import Converter
from ytmp3.core.client import Client
from ytmp3.engine.attempt import Attempts
from ytmp3.engine.batches import Batches
from ytmp3.engine.capacity import Capacity, FindClient
from ytmp3.engine.checks import Checks, DiskCheck, ToolsCheck
from ytmp3.engine.client_jobs import ClientJobs
from ytmp3.engine.deliveries import Deliveries
from ytmp3.engine.descriptions import Descriptions
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.events import Events
from ytmp3.engine.expiry import WaitingExpiry
from ytmp3.engine.failed_attempts import FailedAttempts
from ytmp3.engine.feeder import Feeder
from ytmp3.engine.feeds import Feeds
from ytmp3.engine.health import Health
from ytmp3.engine.identities import Identities
from ytmp3.engine.intake import Intake
from ytmp3.engine.janitor import Janitor
from ytmp3.engine.jobs import Jobs
from ytmp3.engine.leases import LeaseKeeper
from ytmp3.engine.listening import Listening
from ytmp3.engine.listings import Listings
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.relief import Relief
from ytmp3.engine.runs import Runs
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.subscriptions import Subscriptions
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.watcher import Watcher
from ytmp3.engine.workers import Workers, places_of
from ytmp3.engine.writes import Writes
from ytmp3.jobstore import JobStore
from ytmp3.storage.files import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The dependencies of the engine. The caller opens them before the engine, and closes them after it."""

    store: JobStore
    """The job store. Its policy has the lengths of leases and of retention."""
    files: Files
    """The shelf with the tracks, and the scratch folders of attempts."""
    converter: Converter
    """Turns a video id into a verified track."""
    clock: Callable[[], float] = time.monotonic
    """A monotonic clock in seconds, with any origin. Times in records come from the store's clock instead."""
    find_client: FindClient = lambda owner: Client(owner=owner)
    """Returns the owner of a batch with the limits of its API key."""
    random: Callable[[], float] = random.random
    """Returns a number in [0, 1), uniformly distributed. It spreads retries; nothing secret depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The parts of the engine, for `app`, which connects them with the HTTP side. No part gets this value itself."""

    settings: EngineSettings
    """The settings that all parts were built with."""
    events: Events
    """The events; listeners can be added."""
    health: Health
    """The health state; `is_draining` is set when a drain begins."""
    queue: FairQueue
    """The conversions that wait in this instance."""
    runs: Runs
    """The conversions that run in this instance."""
    upstream: Upstream
    """Decides whether conversions may start."""
    estimates: Estimates
    """Estimates of durations, for clients."""
    clients: ClientJobs
    """Counts the jobs of each client."""
    capacity: Capacity
    """Decides whether a conversion may be created."""
    intake: Intake
    """Accepts submissions: for `POST /extract`."""
    jobs: Jobs
    """Reads and cancels jobs: for all other routes of a job."""
    descriptions: Descriptions
    """Says what YouTube offers for a video: for `POST /probe`."""
    deliveries: Deliveries
    """Reads webhook messages, and sends them again."""
    feeds: Feeds
    """Feeds of finished tracks, for podcast apps."""
    subscriptions: Subscriptions
    """Follows jobs: for event streams."""
    listening: Listening
    """Finds the audio of running conversions: for `GET /listen/ID.mp3`."""
    batches: Batches
    """Creates, reads and cancels batches: for the routes of batches."""
    feeder: Feeder
    keeper: LeaseKeeper
    workers: Workers
    janitor: Janitor
    expiry: WaitingExpiry
    relief: Relief
    checks: Checks
    watcher: Watcher

    def start(self) -> None:
        """Start every task. The lease keeper is first, so that no conversion is claimed before leases are renewed."""
        self.keeper.start()
        self.workers.start()
        self.watcher.start()
        self.janitor.start()
        self.expiry.start()
        self.subscriptions.start()
        self.feeder.start()
        self.relief.start()

    async def close(self) -> None:
        """End every task, and release all conversions. The keeper ends last: until then the leases are renewed.

        First end the parts that give work to others (`feeder`, `janitor`), then the workers: a conversion that was
        adopted or submitted after they had ended would wait for its lease to run out. The reports of identities are
        awaited after the workers, whose last attempts make them.
        """
        await self.relief.close()
        await self.feeder.close()
        await self.descriptions.close()
        await self.subscriptions.close()
        await self.expiry.close()
        await self.janitor.close()
        await self.watcher.close()
        await self.workers.close()
        await self.upstream.identities.close()
        await self.keeper.close()


def assemble(settings: EngineSettings, outside: Outside, events: Events) -> Engine:
    """Build every part; nothing is started."""
    store, files, converter, clock = outside.store, outside.files, outside.converter, outside.clock
    health, places, runs = Health(), places_of(settings.workers), Runs(events, clock=clock)
    queue = FairQueue(settings.queue_capacity, runs.by_client, places)
    identities = Identities(values=store.values, events=events, clock=clock)
    upstream = Upstream(settings, identities=identities, health=health, events=events, clock=clock)
    estimates = Estimates(settings.workers, identities.start_seconds, clock=clock, random=outside.random)
    events.listen(estimates.on_event)
    writes = Writes(settings, store=store, events=events, random=outside.random)
    checks = _checks(settings, outside, health)
    attempts = Attempts(
        converter=converter,
        files=files,
        writes=writes,
        runs=runs,
        upstream=upstream,
        failed=FailedAttempts(settings, writes=writes, upstream=upstream, checks=checks, health=health),
        events=events,
    )
    clients = _client_jobs(settings, outside, queue, runs)
    events.listen(clients.on_event)
    capacity = Capacity(clients, queue=queue, runs=runs, upstream=upstream, health=health, estimates=estimates)
    capacity.find_client = outside.find_client
    descriptions = Descriptions(converter, files.scratch, upstream, health=health, events=events, clock=clock)
    listings = Listings(settings, converter=converter, scratch=files.scratch, descriptions=descriptions)
    intake = Intake(store=store, shelf=files.shelf, capacity=capacity, health=health, events=events)
    jobs = Jobs(store=store, queue=queue, runs=runs, upstream=upstream, estimates=estimates, events=events, clock=clock)
    subscriptions = Subscriptions(store=store, jobs=jobs, runs=runs, events=events, clock=clock)
    return Engine(
        settings=settings,
        events=events,
        health=health,
        queue=queue,
        runs=runs,
        upstream=upstream,
        estimates=estimates,
        clients=clients,
        capacity=capacity,
        descriptions=descriptions,
        deliveries=Deliveries(store),
        feeds=Feeds(store.clients, jobs),
        subscriptions=subscriptions,
        listening=Listening(jobs=jobs, queue=queue, runs=runs, subscriptions=subscriptions, clock=clock),
        intake=intake,
        jobs=jobs,
        batches=Batches(
            settings, store=store, queue=queue, upstream=upstream, health=health, estimates=estimates, events=events
        ),
        feeder=Feeder(
            listings.read, store=store, intake=intake, jobs=jobs, capacity=capacity, events=events, clock=clock
        ),
        keeper=LeaseKeeper(settings, store=store, queue=queue, runs=runs, events=events, clock=clock),
        workers=Workers(places, queue=queue, runs=runs, upstream=upstream, attempts=attempts, writes=writes),
        janitor=Janitor(
            settings, store=store, files=files, queue=queue, upstream=upstream, health=health, events=events
        ),
        expiry=WaitingExpiry(store=store, queue=queue, writes=writes, upstream=upstream, health=health, events=events),
        relief=Relief(store=store, queue=queue, runs=runs, writes=writes, health=health, events=events, clock=clock),
        checks=checks,
        watcher=Watcher(
            settings, store=store, shelf=files.shelf, checks=checks, health=health, events=events, clock=clock
        ),
    )


def _client_jobs(settings: EngineSettings, outside: Outside, queue: FairQueue, runs: Runs) -> ClientJobs:
    """Return the counts of jobs by client, which forget a client when its last job has expired."""
    retention_seconds = outside.store.policy.retention_seconds
    return ClientJobs(settings, retention_seconds=retention_seconds, queue=queue, runs=runs, clock=outside.clock)


def _checks(settings: EngineSettings, outside: Outside, health: Health) -> Checks:
    """Return the regular checks of the disk and of the tools. Their results are in `health`, which /health reports."""
    return Checks(
        DiskCheck(settings, files=outside.files, health=health, clock=outside.clock),
        ToolsCheck(converter=outside.converter, health=health, clock=outside.clock),
    )
