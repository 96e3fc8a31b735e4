"""The janitor: adopts conversions that nobody holds, removes expired ones, sweeps leftovers.

Each task is a loop of its own, so that none waits for another, and each survives the absence of the store. Several
instances do the same work on one store and one volume; each step is safe to be done twice.
"""

import logging
from typing import Final

from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.loops import Loops
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import JobStore
from ytmp3.storage.files import Files

log = logging.getLogger(__name__)

ADOPT_SECONDS: Final = 1.0
"""Interval, in seconds: a conversion given back by an instance that stops is running elsewhere within two of them."""
ADOPT_BATCH: Final = 200
"""Conversions adopted in one turn at most, so that instances which look at the same moment share the work."""
EXPIRE_SECONDS: Final = 30.0
"""Interval, in seconds: the disk space of an expired track is free half a minute later at the latest."""
EXPIRE_BATCH: Final = 200
"""Conversions removed in one call to the store at most: it bounds the length of one transaction."""
SCRATCH_SECONDS: Final = 30.0
"""Interval, in seconds: files of a dead instance, perhaps gigabytes, are gone within a minute."""
SWEEP_SECONDS: Final = 600.0
"""Interval, in seconds, of the search for track files without a record: they are rare."""


class Janitor:
    """Owns the loops that tidy up."""

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
        self._stray_file_seconds = settings.stray_file_seconds
        self._loops = Loops(events)

    def start(self) -> None:
        """Start every loop. The first turn of each is at once, so a restart adopts what its predecessor released."""
        self._loops.start(
            {
                "adopt": (self.adopt, ADOPT_SECONDS),
                "expire": (self.expire, EXPIRE_SECONDS),
                "scratch": (self._scratch.sweep, SCRATCH_SECONDS),
                "sweep": (self.sweep, SWEEP_SECONDS),
            }
        )

    async def close(self) -> None:
        """End every loop."""
        await self._loops.close()

    async def adopt(self) -> int:
        """Queue conversions that are due: retries, released ones, and those of dead instances. Returns how many.

        Nothing is adopted that could not start here: another instance may have free slots, another address, or space
        on its disk, and a conversion that nobody adopts stays due.
        """
        free = min(ADOPT_BATCH, self._queue.free_slots)
        if free == 0 or self._health.is_draining or self._health.is_storage_low or self._upstream.is_blocked:
            return 0
        adopted = await self._store.adopt(free)
        surplus = []
        for conversion in adopted:
            # Submissions may have taken slots while the store answered. Without a slot, a conversion is released.
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
        """Remove ended conversions after their retention, with their files. Returns how many conversions.

        The records go first. After a crash in between, a file without a record is left, which the sweep removes; the
        other order would leave records that promise a file.
        """
        removed = 0
        while file_names := await self._store.expire(EXPIRE_BATCH):
            for file_name in filter(None, file_names):
                await self._shelf.delete(file_name)
                self._events.emit(events.TrackExpired(file_name=file_name))
            removed += len(file_names)
        return removed

    async def sweep(self) -> int:
        """Remove track files that no record names, once they are old enough. Returns how many.

        They are left by a crash between publishing and `finish`, or by one during `expire`. The folder is listed before
        the records are looked up, so a track that is published in between is not in the list.
        """
        names = await self._shelf.names(older_than_seconds=self._stray_file_seconds)
        strays = set(names) - await self._store.known_files(names)
        for name in strays:
            await self._shelf.delete(name)
        if strays:
            log.warning("track files without a record removed", extra={"files": len(strays)})
        return len(strays)
