"""The document of `/stats`: this instance's state in numbers, and the counts of the shared store."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ytmp3.converter import Converter
from ytmp3.core.errors import StoreError
from ytmp3.engine import events
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.health import Health
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.upstream import Upstream
from ytmp3.http.stats_wire import (
    ConversionCountsView,
    DiskView,
    DurationsView,
    ExtractorView,
    IdentityView,
    JobCountsView,
    MemoryView,
    QueueView,
    SinceStartView,
    StatsView,
    UpstreamView,
    WorkersView,
)
from ytmp3.jobstore import JobStore, Outcome


@dataclass(slots=True)
class Tally:
    """Counters of this instance since its start, updated by the engine's events."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    joined: int = 0
    cached: int = 0

    def on_event(self, event: events.Event) -> None:
        """Count an event. This is a listener."""
        match event:
            case events.Finished():
                self.done += 1
            case events.Failed():
                self.failed += 1
            case events.Cancelled():
                self.cancelled += 1
            case events.Accepted(outcome=Outcome.JOINED):
                self.joined += 1
            case events.Accepted(outcome=Outcome.CACHED):
                self.cached += 1
            case _:
                pass

    @property
    def success_rate(self) -> float | None:
        """done / (done + failed); None before the first conversion has ended. Cancelled ones are not counted."""
        ended = self.done + self.failed
        return round(self.done / ended, 4) if ended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Collects the numbers of `/stats` from the parts of the service."""

    store: JobStore
    queue: FairQueue
    runs: Runs
    upstream: Upstream
    estimates: Estimates
    health: Health
    converter: Converter
    settings: EngineSettings
    tally: Tally
    started_at: float
    """The start of the service, as a value of `time.monotonic`."""
    versions: dict[str, str]
    """The versions of the service and of Python. The versions of the tools come from the health checks."""

    async def collect(self) -> StatsView:
        """Return the current numbers. `jobs` is None while the store is down."""
        tally, space = self.tally, self.health.space
        ended = ConversionCountsView(
            done=tally.done, failed=tally.failed, cancelled=tally.cancelled, success_rate=tally.success_rate
        )
        durations = self.estimates.durations()
        return StatsView(
            uptime_seconds=round(time.monotonic() - self.started_at, 3),
            workers=WorkersView(active=self.runs.active, total=self.settings.workers),
            queue=QueueView(length=self.queue.qsize(), capacity=self.settings.queue_capacity),
            jobs=await self._jobs(),
            since_start=SinceStartView(conversions=ended, joined_jobs=tally.joined, cached_jobs=tally.cached),
            conversions=ended,
            processing_seconds=DurationsView(
                mean=_rounded(durations.mean), p50=_rounded(durations.p50), p95=_rounded(durations.p95)
            ),
            dedup_hits=tally.joined,
            cache_hits=tally.cached,
            upstream_blocked_seconds=self.upstream.blocked_seconds(),
            upstream=msgspec.convert(self.upstream.snapshot(), UpstreamView, from_attributes=True),
            identities=[
                msgspec.convert(view, IdentityView, from_attributes=True) for view in self.upstream.identities.views()
            ],
            extractor=self._extractor(),
            memory=MemoryView(resident_bytes=resident_bytes()),
            disk=None if space is None else DiskView(total_bytes=space.total_bytes, free_bytes=space.free_bytes),
            versions=self.versions | self.health.tool_versions,
        )

    def _extractor(self) -> ExtractorView:
        used = self.converter.release()
        return ExtractorView(
            release=used.established,
            newest=used.newest,
            share_percent=used.share,
            quarantined=list(used.quarantined),
        )

    async def _jobs(self) -> JobCountsView | None:
        try:
            return msgspec.convert(await self.store.counts(), JobCountsView, from_attributes=True)
        except StoreError:
            return None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def resident_bytes() -> int:
    """Return this process's resident memory in bytes. On Linux, /proc/self/statm counts it in pages."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
