"""Fails conversions that have waited too long for an attempt, while no conversions start in this instance.

Normally a worker fails such a conversion when it claims it. But while the breaker is open, or the disk is full or
failing, few or none are claimed, perhaps for days. During that time this loop checks the queue, and the conversions
without a holder.

The rule: the decision is made after the claim, from the record of the store. A job may have joined since the conversion
was queued here, and then the conversion continues to wait.

Without this loop, a job would stay `pending` for as long as YouTube refuses the service, whatever its retention is. Its
client could not tell a service that is blocked for days from one that has lost the job.
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
"""Interval of the check, in seconds. A job may fail this much later than its retention, which is hours."""
LOOK_BATCH: Final = 200
"""Most conversions without a holder that one turn checks. The store returns the longest due first, and a released
conversion gets a new due time, so each turn checks others."""


class WaitingExpiry:
    """Runs the loop."""

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
        """Fail stale conversions. Returns their number.

        Does nothing while conversions start here, because the workers check each of them.
        """
        health = self._health
        if health.is_draining or not (self._upstream.is_blocked or health.is_storage_low or health.fault):
            return 0
        now, retention_seconds = await self._store.now(), self._store.policy.retention_seconds
        ended = 0
        for conversion in list(self._queue.in_order()):
            if is_stale(conversion, now=now, retention_seconds=retention_seconds):
                # This frees the queue slot. The conversion then fails, or is released and adopted by any instance.
                self._queue.remove(conversion.conversion_id, token=conversion.token)
                ended += await self._end(conversion)
        for conversion in await self._store.adopt(LOOK_BATCH):
            if is_stale(conversion, now=now, retention_seconds=retention_seconds):
                ended += await self._end(conversion)
            else:
                await self._store.release([conversion.lease])
        return ended

    async def _end(self, conversion: Conversion) -> bool:
        """Fail a conversion that has waited too long. Returns whether it has ended.

        Only a claimed conversion can fail, so it is claimed first. If the claim shows that the deadline was moved
        meanwhile, as by a new job that joined it, it is given back.
        """
        claimed = await self._writes.claim(conversion, goes_on=lambda: False)
        if claimed is None:
            return False
        if not self._writes.is_stale(claimed):
            await self._writes.release([claimed.lease])
            return False
        return await self._writes.fail_stale(claimed)
