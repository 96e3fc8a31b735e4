"""The conversions in the hands of this instance's workers, from the claim until the end of the attempt.

The table of runs is shared: attempts fill it, the keeper renews the leases of its conversions, the queue counts them by
client, and readers take the live progress from it. It starts nothing by itself; a run can be stopped through it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from ytmp3.converter import Converted
from ytmp3.core.ids import ClientId, ConversionId
from ytmp3.core.job import Conversion, Report, Stage
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.jobstore import Renewal

log = logging.getLogger(__name__)


class Stop(StrEnum):
    """Why a running conversion is stopped from outside."""

    CANCELLED = "cancelled"
    """All of its jobs were cancelled; the store has recorded that."""
    LEASE_LOST = "lease_lost"
    """The store says that this instance does not hold it any more."""
    DRAIN = "drain"
    """This instance shuts down."""


class Run:
    """One attempt at a conversion."""

    def __init__(self, conversion: Conversion, start: int, *, events: Events, clock: Callable[[], float]) -> None:
        self.conversion = conversion
        """As claimed: its token is the one that all writes of this attempt carry."""
        self.start = start
        """The number of this start at the breaker of `Upstream`."""
        self.report = Report(stage=Stage.EXTRACTING, progress=0.0)
        """The latest progress, with the metadata as soon as it is known."""
        self.has_changed = False
        """Whether `report` is newer than the one that the last renewal carried to the store."""
        self.stop_reason: Stop | None = None
        self.task: asyncio.Task[Converted] | None = None
        """The converter's task, while it runs."""
        self._events = events
        self._clock = clock
        self._started_at = clock()

    @property
    def seconds(self) -> float:
        """The time since the claim."""
        return self._clock() - self._started_at

    def on_progress(self, report: Report) -> None:
        """Take a report from the converter, which gives the metadata only once."""
        if report.stage is not self.report.stage:
            log.debug("stage", extra={"stage": report.stage, "seconds": round(self.seconds, 3)})
        metadata = report.metadata or self.report.metadata
        self.report = Report(stage=report.stage, progress=report.progress, metadata=metadata)
        self.has_changed = True
        self._events.emit(events.Progressed(conversion=self.conversion, report=self.report))

    def stop(self, reason: Stop) -> None:
        """Cancel the converter. The first reason counts; the worker acts on it when the converter has ended.

        If the converter does not run yet, it will not be started. If it has ended, nothing is cancelled: the worker is
        publishing, and the store refuses its next write if the conversion is not its any more.
        """
        if self.stop_reason is None:
            self.stop_reason = reason
        if self.task is not None:
            self.task.cancel()

    def renewal(self) -> Renewal:
        """Return the renewal of this run's lease, which carries the latest progress."""
        self.has_changed = False
        report = self.report
        return Renewal(
            lease=self.conversion.lease, stage=report.stage, progress=report.progress, metadata=report.metadata
        )


class Runs:
    """The conversions in the hands of workers."""

    def __init__(self, events: Events, *, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._claiming: dict[ConversionId, Conversion] = {}
        """Taken from the queue, and not yet claimed in the store."""
        self._runs: dict[ConversionId, Run] = {}
        """Claimed, until the end of the attempt is recorded and its scratch folder is gone."""
        self._busy_workers = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.may_claim = asyncio.Event()
        """Set while workers may claim conversions: from their start until the drain begins."""

    @property
    def active(self) -> int:
        """How many conversions are running."""
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        """Iterate over a copy, so that runs may end meanwhile."""
        return iter(list(self._runs.values()))

    def get(self, conversion_id: ConversionId) -> Run | None:
        """Return the run of a conversion, or None if it is not running here."""
        return self._runs.get(conversion_id)

    def by_client(self) -> Counter[ClientId]:
        """Count the conversions of each client in workers' hands, including those being claimed."""
        conversions = [*self._claiming.values(), *(run.conversion for run in self._runs.values())]
        return Counter(conversion.client for conversion in conversions)

    async def idle(self) -> None:
        """Return when no worker has anything in hand."""
        await self._idle.wait()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a worker as busy: claiming, running, or giving a conversion back."""
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
        """Count a conversion that has left the queue and is not running yet."""
        self._claiming[conversion.conversion_id] = conversion
        try:
            yield
        finally:
            del self._claiming[conversion.conversion_id]

    @contextmanager
    def running(self, conversion: Conversion, start: int) -> Iterator[Run]:
        """Enter a claimed conversion into the table for the time of its attempt."""
        run = self._runs[conversion.conversion_id] = Run(conversion, start, events=self._events, clock=self._clock)
        self._events.emit(events.Started(conversion=conversion))
        try:
            yield run
        finally:
            del self._runs[conversion.conversion_id]
