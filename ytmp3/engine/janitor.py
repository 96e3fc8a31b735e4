"""The janitor: adopts conversions that are due, removes expired ones, and deletes files that crashes left behind.

Each task runs in its own loop, so that none waits for another, and continues after an outage of the store. Several
instances run the same tasks on one store and one volume; all steps are idempotent.

No instance is chosen as a leader, because an election would be one more thing that can fail. The store decides instead:
each due conversion is given to one of the callers of `adopt`, and each removed record is returned to one caller of
`expire`, which deletes the file. So any instance may die at any moment, and another one does its part of the work.
"""

from typing import Final

from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.loops import Loops
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.scrubber import SCRUB_SECONDS, Scrubber
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.sweep import Sweep
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import JobStore
from ytmp3.storage.files import Files

ADOPT_SECONDS: Final = 1.0
"""Interval of adoption, in seconds: a conversion that a stopping instance released starts elsewhere within about two
of them."""
ADOPT_BATCH: Final = 200
"""Most conversions adopted in one call, so that several instances that adopt at the same time share them."""
EXPIRE_SECONDS: Final = 30.0
"""Interval of expiry, in seconds: the disk space of an expired track is free at most this much later."""
EXPIRE_BATCH: Final = 200
"""Most conversions removed in one call to the store. This bounds the length of the transaction."""
SCRATCH_SECONDS: Final = 30.0
"""Interval, in seconds, of the removal of dead instances' scratch folders, which may hold gigabytes."""
SWEEP_SECONDS: Final = 600.0
"""Interval, in seconds, of the search for track files without a record. Only a crash leaves such files, so they are
rare."""


class Janitor:
    """Runs the clean-up loops."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        store: JobStore,
        files: Files,
        queue: FairQueue,
        upstream: Upstream,
        health: Health,
        events: Events,
    ) -> None:
        self._store = store
        self._shelf = files.shelf
        self._scratch = files.scratch
        self._queue = queue
        self._upstream = upstream
        self._health = health
        self._events = events
        self._sweep = Sweep(settings, store=store, shelf=files.shelf, health=health)
        self._scrubber = Scrubber(store, files.shelf)
        self._loops = Loops(events)

    def start(self) -> None:
        """Start every loop. All run once immediately, so a restarted instance adopts what its predecessor released."""
        self._loops.start(
            {
                "adopt": (self.adopt, ADOPT_SECONDS),
                "expire": (self.expire, EXPIRE_SECONDS),
                "scratch": (self._scratch.sweep, SCRATCH_SECONDS),
                "sweep": (self.sweep, SWEEP_SECONDS),
                "scrub": (self._scrubber.scrub, SCRUB_SECONDS),
            }
        )

    async def close(self) -> None:
        """End every loop."""
        await self._loops.close()

    async def adopt(self) -> int:
        """Queue conversions that are due: retries, released ones, and those of dead instances. Returns their number.

        Does nothing while conversions could not start here. They stay due, and another instance with free slots,
        another IP address, a working disk or working tools can adopt them.
        """
        free = min(ADOPT_BATCH, self._queue.free_slots)
        if free == 0 or not self._health.may_take_work or self._upstream.is_blocked:
            return 0
        adopted = await self._store.adopt(free)
        surplus = []
        for conversion in adopted:
            # Submissions may have taken slots during the call to the store. Without a slot, a conversion is released.
            if self._queue.reserve():
                self._queue.fill_reservation(conversion)
            else:
                surplus.append(conversion.lease)
        if surplus:
            await self._store.release(surplus)
        if adopted:
            self._events.emit(events.Adopted(conversions=tuple(adopted)))
        return len(adopted)

    async def expire(self) -> int:
        """Remove ended conversions after their retention, with their files. Returns the number of conversions.

        The records are removed first. A crash between the two steps leaves a file without a record, which `sweep`
        removes. In the opposite order, a crash would leave a record whose file is missing.
        """
        removed = 0
        while file_names := await self._store.expire(EXPIRE_BATCH):
            for file_name in filter(None, file_names):
                await self._shelf.delete(file_name)
                self._events.emit(events.TrackExpired(file_name=file_name))
            removed += len(file_names)
        return removed

    async def sweep(self) -> int:
        """Remove track files that no record names (`Sweep`). Returns their number."""
        return await self._sweep.sweep()
