"""The runs: the conversions that this instance's workers are processing, from the claim until the end of the attempt.

The table of runs is shared. Attempts add and remove runs, the lease keeper renews their leases, the queue counts them
by client, and `jobs` reads their live progress and stops cancelled ones.

The rule: a run is in the table for exactly as long as its attempt may still write. If it left earlier, its lease would
no longer be renewed, and another instance would convert the same video. If it stayed, its lease would be renewed for an
attempt that has ended. So both changes are in context managers, which no error can skip.

Nobody but the attempt ends a run. Others only ask for it with `Run.stop`, because only the attempt knows whether its
child processes have ended and whether a file is already published.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from ytmp3.converter import Converted
from ytmp3.converter.live_sound import LiveSound
from ytmp3.core.ids import ClientId, ConversionId
from ytmp3.core.job import Conversion, Report, Stage
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.grants import Grant
from ytmp3.jobstore import Renewal

log = logging.getLogger(__name__)


class Stop(StrEnum):
    """Why a run is stopped from outside."""

    CANCELLED = "cancelled"
    """All jobs of the conversion were cancelled, and the store has recorded it."""
    LEASE_LOST = "lease_lost"
    """The store reports that this instance no longer holds the conversion."""
    DRAIN = "drain"
    """This instance shuts down."""


class Run:
    """One attempt at a conversion."""

    def __init__(
        self, conversion: Conversion, start: int, grant: Grant, *, events: Events, clock: Callable[[], float]
    ) -> None:
        self.conversion = conversion
        """The conversion as claimed. All writes of this attempt use its token."""
        self.start = start
        """The start number that `Upstream.started` returned."""
        self.grant = grant
        """The identity that this attempt uses."""
        self.report = Report(stage=Stage.EXTRACTING, progress=0.0)
        """The latest progress, with the metadata as soon as it is known."""
        self.sound = LiveSound()
        """The audio that listeners get of this attempt while it is encoded."""
        self.has_changed = False
        """Whether `report` is newer than the report in the last renewal."""
        self.stop_reason: Stop | None = None
        self.task: asyncio.Task[Converted] | None = None
        """The converter's task, while it runs."""
        self.storage_faults = 0
        """`Health.storage_faults` when the attempt began."""
        self._events = events
        self._clock = clock
        self._started_at = clock()

    @property
    def seconds(self) -> float:
        """The time since the claim."""
        return self._clock() - self._started_at

    def on_progress(self, report: Report) -> None:
        """Keep the latest report of the converter, and emit it. Only one report of an attempt has the metadata."""
        if report.stage is not self.report.stage:
            log.debug("stage", extra={"stage": report.stage, "seconds": round(self.seconds, 3)})
        metadata = report.metadata or self.report.metadata
        self.report = Report(stage=report.stage, progress=report.progress, metadata=metadata)
        self.has_changed = True
        self._events.emit(events.Progressed(conversion=self.conversion, report=self.report))

    def stop(self, reason: Stop) -> None:
        """Cancel the converter. The worker acts on the first reason when the converter has ended.

        If the converter has not started yet, the worker cancels it right after starting it. If it has ended, this has
        no effect: the worker is publishing, and if the lease is lost, the store refuses the worker's next write.
        """
        if self.stop_reason is None:
            self.stop_reason = reason
        if self.task is not None:
            self.task.cancel()

    def renewal(self) -> Renewal:
        """Return a renewal of this run's lease with the latest progress."""
        self.has_changed = False
        report = self.report
        return Renewal(
            lease=self.conversion.lease, stage=report.stage, progress=report.progress, metadata=report.metadata
        )


class Runs:
    """The table of runs, and the number of busy workers."""

    def __init__(self, events: Events, *, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._claiming: dict[ConversionId, Conversion] = {}
        """Conversions that were taken from the queue, and are not claimed in the store yet."""
        self._runs: dict[ConversionId, Run] = {}
        """Claimed conversions. A run is removed when the end of the attempt is recorded and its scratch folder is
        removed."""
        self._by_client: Counter[ClientId] = Counter()
        """The number of conversions in both, by client. Clients without one are not in it."""
        self._busy_workers = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.may_claim = asyncio.Event()
        """Set while workers may claim conversions: from their start until the drain begins."""

    @property
    def active(self) -> int:
        """The number of running conversions."""
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        """Iterate over a copy, so that runs may end meanwhile."""
        return iter(list(self._runs.values()))

    def get(self, conversion_id: ConversionId) -> Run | None:
        """Return the run of a conversion, or None if it is not running here."""
        return self._runs.get(conversion_id)

    def holds(self, conversion_id: ConversionId) -> bool:
        """Return whether a worker of this instance is claiming or running the conversion."""
        return conversion_id in self._claiming or conversion_id in self._runs

    def by_client(self) -> Counter[ClientId]:
        """Return the number of running conversions of each client, including those that are being claimed.

        The queue reads it several times for each conversion, so this is no copy: the caller must not change it.
        """
        return self._by_client

    async def idle(self) -> None:
        """Return when no worker is busy."""
        await self._idle.wait()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a worker as busy: claiming, running or releasing a conversion."""
        self._busy_workers += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy_workers -= 1
            if not self._busy_workers:
                self._idle.set()

    @contextmanager
    def claiming(self, conversion: Conversion) -> Iterator[None]:
        """Count a conversion as being claimed: it has left the queue and is not running yet.

        Without this, it would count nowhere during the call to the store. The queue could give all free workers to the
        same client, and a repeated submission could queue the conversion a second time.
        """
        self._claiming[conversion.conversion_id] = conversion
        try:
            with self._counted(conversion.client):
                yield
        finally:
            self._claiming.pop(conversion.conversion_id, None)

    @contextmanager
    def running(self, conversion: Conversion, start: int, grant: Grant) -> Iterator[Run]:
        """Keep a claimed conversion in the table for the time of its attempt."""
        run = Run(conversion, start, grant, events=self._events, clock=self._clock)
        self._runs[conversion.conversion_id] = run
        self._events.emit(events.Started(conversion=conversion))
        try:
            with self._counted(conversion.client):
                yield run
        finally:
            del self._runs[conversion.conversion_id]
            run.sound.end()

    @contextmanager
    def _counted(self, client: ClientId) -> Iterator[None]:
        """Count a running conversion of a client while the block runs."""
        self._by_client[client] += 1
        try:
            yield
        finally:
            # Subtracting counters also drops a client whose count reaches zero.
            self._by_client -= Counter((client,))
