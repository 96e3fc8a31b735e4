"""The small loops behind the service: adopt what nobody holds, expire the old, sweep leftovers, watch the house.

Each loop does one thing on its own clock, survives the store's absence, and is named in the task list.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ytmp3.converter import Converter
from ytmp3.core.errors import StoreError
from ytmp3.engine.health import Check, Health
from ytmp3.engine.workers import Pool
from ytmp3.jobstore import JobStore
from ytmp3.metrics import Metrics
from ytmp3.storage import Storage

log = logging.getLogger(__name__)

ADOPT_SECONDS: Final = 1.0
"""A conversion given back by a draining instance is running elsewhere within 2 s."""
ADOPT_BATCH: Final = 200
"""At most this many a second, so that instances that look at the same moment share the work."""
EXPIRE_SECONDS: Final = 30.0
EXPIRE_BATCH: Final = 200
SCRATCH_SECONDS: Final = 30.0
"""What a dead instance left is gone within a minute: it may be gigabytes."""
SWEEP_SECONDS: Final = 600.0
STRAY_FILE_SECONDS: Final = 3600.0
"""A track file without a record may be one whose `finish` is being repeated; after an hour it is not."""
WATCH_SECONDS: Final = 1.0
TOOLS_SECONDS: Final = 300.0
TOOLS_RETRY_SECONDS: Final = 15.0
LAG_SECONDS: Final = 0.1


class Janitor:
    """Owns the loops."""

    def __init__(
        self,
        *,
        store: JobStore,
        storage: Storage,
        converter: Converter,
        pool: Pool,
        health: Health,
        metrics: Metrics,
        stray_file_seconds: float = STRAY_FILE_SECONDS,
    ) -> None:
        self._store = store
        self._storage = storage
        self._converter = converter
        self._pool = pool
        self._health = health
        self._metrics = metrics
        self._stray_file_seconds = stray_file_seconds
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start every loop. The first turn of each is at once."""
        loops: dict[str, tuple[Callable[[], Awaitable[object]], float]] = {
            "watch": (self.watch, WATCH_SECONDS),
            "adopt": (self.adopt, ADOPT_SECONDS),
            "expire": (self.expire, EXPIRE_SECONDS),
            "scratch": (self._storage.sweep, SCRATCH_SECONDS),
            "sweep": (self.sweep, SWEEP_SECONDS),
        }
        self._tasks = [
            asyncio.create_task(self._repeat(turn, seconds), name=name) for name, (turn, seconds) in loops.items()
        ]
        self._tasks.append(asyncio.create_task(self._watch_tools(), name="tools"))
        self._tasks.append(asyncio.create_task(self._measure_lag(), name="lag"))

    async def close(self) -> None:
        """End every loop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _repeat(self, turn: Callable[[], Awaitable[object]], seconds: float) -> None:
        while True:
            try:
                await turn()
            except StoreError as error:
                self._metrics.store_errors.labels(type(error).__name__).inc()
            except OSError as error:
                log.warning("housekeeping failed", extra={"error": str(error)})
            except Exception:
                # The outermost frame of a loop: it must turn again.
                log.exception("housekeeping failed")
            await asyncio.sleep(seconds)

    async def adopt(self) -> int:
        """Bring in conversions that are due: retries, releases, and those of dead instances. Returns how many."""
        room = min(ADOPT_BATCH, self._pool.queue.free_slots)
        if room == 0 or self._health.is_draining or self._health.is_storage_low or self._pool.blocked_seconds():
            return 0
        adopted = await self._store.adopt(room)
        surplus = []
        for conversion in adopted:
            # Slots may have been taken while the store answered: what does not fit goes straight back.
            if self._pool.queue.reserve():
                self._pool.queue.fill_reservation(conversion)
            else:
                surplus.append(conversion.lease)
        if surplus:
            await self._store.release(surplus)
        if adopted:
            self._metrics.adopted.inc(len(adopted))
            log.info("conversions adopted", extra={"conversions": len(adopted)})
        return len(adopted)

    async def expire(self) -> int:
        """Remove ended conversions past their time, with their files. Returns how many conversions."""
        removed = 0
        while file_names := await self._store.expire(EXPIRE_BATCH):
            for file_name in filter(None, file_names):
                await self._storage.delete(file_name)
                self._metrics.expired.inc()
            removed += len(file_names)
        return removed

    async def sweep(self) -> int:
        """Remove track files that no record knows. Returns how many."""
        names = await self._storage.names(older_than_seconds=self._stray_file_seconds)
        strays = set(names) - await self._store.known_files(names)
        for name in strays:
            await self._storage.delete(name)
        if strays:
            log.warning("track files without a record removed", extra={"files": len(strays)})
        return len(strays)

    async def watch(self) -> None:
        """Look at the store and the disk, and write what was seen on the health."""
        try:
            self._health.space = await asyncio.to_thread(self._storage.space)
            self._health.storage_error = None
        except OSError as error:
            self._health.storage_error = f"the data folder cannot be read: {error.strerror}"
        before = self._health.store
        try:
            await self._store.ping()
            self._health.store = Check(ok=True, detail="answers")
        except StoreError as error:
            self._health.store = Check(ok=False, detail=str(error) or type(error).__name__)
        if before != self._health.store:
            level = logging.INFO if self._health.store.ok else logging.ERROR
            log.log(level, "job store", extra={"ok": self._health.store.ok, "detail": self._health.store.detail})

    async def _watch_tools(self) -> None:
        while True:
            before = {tool.name: tool.ok for tool in self._health.tools}
            try:
                self._health.tools = await self._converter.check()
            except Exception:
                # The outermost frame of a loop: it must turn again.
                log.exception("tools not checked")
            for tool in self._health.tools:
                if before.get(tool.name) != tool.ok:
                    level = logging.INFO if tool.ok else logging.ERROR
                    log.log(level, "tool", extra={"tool": tool.name, "ok": tool.ok, "detail": tool.detail})
            is_well = bool(self._health.tools) and all(tool.ok for tool in self._health.tools)
            await asyncio.sleep(TOOLS_SECONDS if is_well else TOOLS_RETRY_SECONDS)

    async def _measure_lag(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_SECONDS)
            self._metrics.loop_lag.observe(max(0.0, time.monotonic() - before - LAG_SECONDS))
