"""The watcher: checks the store, the disk, the tools and the event loop, and records the results in the health state.

Request handlers read the health state without a wait. Each change of a result is logged once. Each check has a loop of
its own, so a disk that hangs does not keep the store from being checked (`checks`).

Why the results are kept and not found out by each request: `/health` must answer within milliseconds while the store or
the disk hangs, and a load balancer that asks ten times a second must not become load for them. The price is that a
result may be as old as the interval of its check; `/health` shows the age.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from ytmp3.core.errors import StoreError
from ytmp3.engine import events
from ytmp3.engine.checks import Checks
from ytmp3.engine.events import Events
from ytmp3.engine.health import Check, Health
from ytmp3.engine.loops import Loops
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore import JobStore
from ytmp3.storage import Shelf

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 1.0
"""Interval, in seconds, of the check of the store."""
TOOLS_SECONDS: Final = 300.0
"""Interval, in seconds, of the check of the tools while all of them work. It is long, because a check starts
processes."""
TOOLS_RETRY_SECONDS: Final = 15.0
"""Interval, in seconds, of the check of the tools while one of them fails. It is short, because the instance is not
ready until all of them work. It applies as well if not the watcher but a failed attempt has found the failure."""
SHELF_CHECK_SECONDS: Final = 10.0
"""Interval, in seconds, of the check that all instances have the same folder of tracks."""
OTHER_SHELF: Final = (
    "other instances on the same Redis have another folder of tracks, so downloads fail: give all instances the same "
    "STORAGE_URL or the same volume as DATA_DIR, or each installation its own REDIS_PREFIX or Redis database (if the "
    "folder was replaced on purpose, this ends within a minute after the last instance with the old one has stopped)"
)
"""The text in `/health` if that check fails."""
LAG_SECONDS: Final = 0.1
"""Duration, in seconds, of the timer that measures the lag of the event loop."""


class Watcher:
    """Runs the loops of the checks."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        store: JobStore,
        shelf: Shelf,
        checks: Checks,
        health: Health,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._disk_seconds = settings.disk_seconds
        self._store = store
        self._shelf = shelf
        self._checks = checks
        self._health = health
        self._events = events
        self._clock = clock
        self._loops = Loops(events)
        self._has_looked = False
        self._tools_turns = 0
        """Turns of the loop until the tools are checked although all of them work."""
        self._store_error: type[StoreError] | None = None
        """The type of the error of the last check of the store; None if it succeeded."""

    def start(self) -> None:
        """Start every loop."""
        self._loops.start(
            {
                "watch": (self.watch, WATCH_SECONDS),
                "disk": (self._checks.disk.look, self._disk_seconds),
                "shelf": (self.check_shelf, SHELF_CHECK_SECONDS),
                "tools": (self.check_tools, TOOLS_RETRY_SECONDS),
                "lag": (self.measure_lag, 0.0),
            }
        )

    async def close(self) -> None:
        """End every loop."""
        await self._loops.close()
        await self._checks.close()

    async def watch(self) -> None:
        """Check the store.

        The records are judged only if the store replies: without a reply, nothing new is known about them, and the last
        result stays.

        An error is recorded as the result of the check: the instance is unready until a later check succeeds.
        """
        seen: type[StoreError] | None = None
        try:
            fault = await self._store.ping()
            self._health.store = Check(ok=True, detail="answers", at=self._clock())
            self._records_found(fault)
        except StoreError as error:
            seen = type(error)
            self._health.store = Check(ok=False, detail=str(error) or seen.__name__, at=self._clock())
        # One line for one outage: its text differs from call to call.
        if not self._has_looked or seen is not self._store_error:
            self._has_looked, self._store_error = True, seen
            level = logging.INFO if self._health.store.ok else logging.ERROR
            log.log(level, "job store", extra={"ok": self._health.store.ok, "detail": self._health.store.detail})

    def _records_found(self, fault: str | None) -> None:
        """Record whether all records of the store can be used, and log a change."""
        before = self._health.records
        self._health.records = Check(ok=fault is None, detail=fault or "can be used", at=self._clock())
        if fault is not None and before.ok:
            log.error("job store: records", extra={"ok": False, "detail": fault})
        elif fault is None and not before.ok:
            log.info("job store: records", extra={"ok": True, "detail": self._health.records.detail})

    async def check_shelf(self) -> None:
        """Check that all instances on a shared store have the same folder of tracks.

        Otherwise the downloads of completed jobs fail at every instance that did not make the track itself.
        """
        if not self._store.is_shared:
            return
        try:
            agrees = await self._store.agrees_on_shelf(await self._shelf.mark())
        except (OSError, ValueError, StoreError):
            # The check of the disk or of the store says so.
            return
        before, self._health.shelf_error = self._health.shelf_error, None if agrees else OTHER_SHELF
        if before != self._health.shelf_error:
            level = logging.INFO if agrees else logging.ERROR
            log.log(level, "track folder", extra={"ok": agrees, "detail": self._health.shelf_error or "shared"})

    async def check_tools(self) -> None:
        """Check the tools, if they are due. Called every TOOLS_RETRY_SECONDS.

        The interval of the loop is the short one, and turns are counted for the long one. With a loop of the long
        interval, a tool that a failed attempt has found broken would be checked again only minutes later.
        """
        is_due = self._tools_turns == 0 or self._checks.tools.is_stale
        if is_due or not all(tool.ok for tool in self._health.tools):
            self._tools_turns = round(TOOLS_SECONDS / TOOLS_RETRY_SECONDS)
            await self._checks.tools.look()
        self._tools_turns -= 1

    async def measure_lag(self) -> None:
        """Measure how late a timer fires. A request may wait for the event loop equally long before it is processed.

        This uses the system's clock and not the engine's, which may be virtual, because the real event loop is
        measured.
        """
        before = time.monotonic()
        await asyncio.sleep(LAG_SECONDS)
        self._events.emit(events.LoopLagged(seconds=max(0.0, time.monotonic() - before - LAG_SECONDS)))
