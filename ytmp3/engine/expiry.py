"""Ends conversions that have waited too long for an attempt, also while nothing starts here.

A worker ends such a conversion when it claims it. But while the breaker is open or the disk is full, few or none are
claimed, perhaps for days. This loop looks for them then: first in the queue, then among those that no instance holds.

The rule: only the store's record decides, after the claim. A job may have joined since the conversion was queued here,
and then it waits on.
"""

from typing import Final

from ytmp3.core.job import Conversion
from ytmp3.core.states import is_stale
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.loops import Loops
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.writes import Writes
from ytmp3.jobstore import JobStore

EXPIRE_WAITING_SECONDS: Final = 60.0
"""Interval, in seconds: a job may end this much later than its lifetime, which is hours."""
LOOK_BATCH: Final = 200
"""Conversions without a holder that one turn looks at, at most. The store gives those first that are due the longest;
what is given back is due anew, so each turn sees others."""


class WaitingExpiry:
    """Owns the loop."""

    def __init__(
        self, *, store: JobStore, queue: FairQueue, writes: Writes, upstream: Upstream, health: Health, events: Events
    ) -> None:
        self._store = store
        self._queue = queue
        self._writes = writes
        self._upstream = upstream
        self._health = health
        self._loops = Loops(events)

    def start(self) -> None:
        """Start the loop."""
        self._loops.start({"expire-waiting": (self.expire, EXPIRE_WAITING_SECONDS)})

    async def close(self) -> None:
        """End the loop."""
        await self._loops.close()

    async def expire(self) -> int:
        """Fail the waiting conversions whose time is over. Returns how many.

        While conversions start here, there is nothing to do: the workers see each of them.
        """
        if self._health.is_draining or not (self._upstream.is_blocked or self._health.is_storage_low):
            return 0
        now, retention_seconds = await self._store.now(), self._store.policy.retention_seconds
        ended = 0
        for conversion in list(self._queue.in_order()):
            if is_stale(conversion, now=now, retention_seconds=retention_seconds):
                # The queue's slot is free from here on: the conversion ends, or the store gives it to any instance.
                self._queue.remove(conversion.conversion_id, token=conversion.token)
                ended += await self._end(conversion)
        for conversion in await self._store.adopt(LOOK_BATCH):
            if is_stale(conversion, now=now, retention_seconds=retention_seconds):
                ended += await self._end(conversion)
            else:
                await self._store.release([conversion.lease])
        return ended

    async def _end(self, conversion: Conversion) -> bool:
        claimed = await self._writes.claim(conversion, goes_on=lambda: False)
        if claimed is None:
            return False
        if not self._writes.is_stale(claimed):
            await self._writes.release([claimed.lease])
            return False
        return await self._writes.fail_stale(claimed)
