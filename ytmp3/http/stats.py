"""The answer of `/stats`: this instance's state in numbers, and the counts of the shared store."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ytmp3.core.errors import StoreError
from ytmp3.engine.health import Health
from ytmp3.engine.workers import Pool
from ytmp3.jobstore import JobStore
from ytmp3.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Where the numbers come from."""

    store: JobStore
    pool: Pool
    health: Health
    metrics: Metrics
    started_at: float
    """Monotonic."""
    versions: dict[str, str]

    async def collect(self) -> dict[str, Any]:
        """Return the document. `jobs` is null while the store does not answer."""
        return {
            "uptime_seconds": round(time.monotonic() - self.started_at, 3),
            "workers": {"active": self.pool.active, "total": self.pool.settings.workers},
            "queue": {"length": self.pool.queue.qsize(), "capacity": self.pool.settings.queue_capacity},
            "jobs": await self._jobs(),
            "conversions": self._conversions(),
            "processing_seconds": msgspec.to_builtins(self.pool.pace.durations()),
            "dedup_hits": int(self._jobs_accepted("joined")),
            "cache_hits": int(self._jobs_accepted("cached")),
            "upstream_blocked_seconds": self.pool.blocked_seconds(),
            "memory": {"resident_bytes": resident_bytes()},
            "disk": None if self.health.space is None else msgspec.to_builtins(self.health.space),
            "versions": self.versions
            | {tool.name: tool.version for tool in self.health.tools if tool.version is not None},
        }

    async def _jobs(self) -> dict[str, int] | None:
        try:
            counts: dict[str, int] = msgspec.to_builtins(await self.store.counts())
        except StoreError:
            return None
        return counts

    def _conversions(self) -> dict[str, float | int | None]:
        ended = {"done": 0, "failed": 0, "cancelled": 0}
        for metric in self.metrics.conversions.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    ended[sample.labels["outcome"]] += int(sample.value)
        judged = ended["done"] + ended["failed"]
        return {**ended, "success_rate": round(ended["done"] / judged, 4) if judged else None}

    def _jobs_accepted(self, outcome: str) -> float:
        for metric in self.metrics.jobs.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total") and sample.labels["outcome"] == outcome:
                    return sample.value
        return 0.0


def resident_bytes() -> int:
    """Return this process's resident memory (Linux: /proc/self/statm counts pages)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
