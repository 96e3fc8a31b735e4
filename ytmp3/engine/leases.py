"""The keeper of leases: renews those of running and waiting conversions, and carries progress to the store.

A lease that is not renewed runs out, and another instance adopts the conversion; so the keeper must never end while the
workers run. Every second it sends all that is due in one call:

* for a running conversion whose progress has changed, a renewal that carries the progress;
* every third of a lease, a renewal for every running and every waiting conversion; the latter carry their positions.

The answer names the conversions that are not held any more, because they were cancelled at another instance or adopted
by it. Their attempts are stopped, or they leave the queue. Until that answer comes, two instances may work on one
conversion; that wastes work and does no harm, because every write carries the token of its lease.
"""

import logging
from collections.abc import Callable
from typing import Final

from ytmp3.core.errors import StoreError
from ytmp3.core.job import Lease
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.loops import Loops
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs, Stop
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore import JobStore, Renewal

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 3
"""How often a lease is renewed in its length: two renewals may fail before it runs out."""


class LeaseKeeper:
    """Renews the leases of one instance, at every third of their length, and whenever there is progress to record."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        store: JobStore,
        queue: FairQueue,
        runs: Runs,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._queue = queue
        self._runs = runs
        self._events = events
        self._clock = clock
        self._progress_seconds = settings.progress_seconds
        self._renewed_at = clock()
        """When every lease was renewed last. A failed renewal does not move it, so the next turn tries again."""
        self._loops = Loops(events)

    def start(self) -> None:
        """Start the loop."""
        self._loops.start({"lease-keeper": (self.keep, self._progress_seconds)})

    async def close(self) -> None:
        """End the loop. From now on the leases run out, unless their owners give them back."""
        await self._loops.close()

    async def keep(self) -> None:
        """Renew every lease if a third of its length has passed; otherwise only those with progress to record."""
        # Read before the store is asked: a slow answer must not move the next renewal towards the end of the lease.
        now = self._clock()
        is_due = now - self._renewed_at >= self._store.policy.lease_seconds / RENEWALS_PER_LEASE
        renewals = [run.renewal() for run in self._runs if is_due or run.has_changed]
        if is_due:
            renewals += self._waiting_renewals()
        if renewals and await self._renew(renewals) and is_due:
            self._renewed_at = now

    def _waiting_renewals(self) -> list[Renewal]:
        """Return the renewals of waiting conversions. Their queue positions are for readers at other instances."""
        return [
            Renewal(lease=conversion.lease, queue_position=place)
            for place, conversion in enumerate(self._queue.in_order(), start=1)
        ]

    async def _renew(self, renewals: list[Renewal]) -> bool:
        """Renew, and let go of lost conversions. Returns whether the store has answered."""
        try:
            lost = await self._store.renew(renewals)
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="renew", error=error))
            log.warning("leases not renewed", extra={"conversions": len(renewals), "error": str(error)})
            return False
        for renewal in renewals:
            if renewal.lease.conversion_id in lost:
                self._let_go(renewal.lease)
        return True

    def _let_go(self, lease: Lease) -> None:
        """Drop a conversion, if it is still held under the token that the store has refused.

        It may not be: while the store answered, a worker may have claimed it, and a claim brings a new token.
        """
        run = self._runs.get(lease.conversion_id)
        if run is not None and run.conversion.token == lease.token:
            run.stop(Stop.LEASE_LOST)
        elif run is None:
            self._queue.remove(lease.conversion_id, token=lease.token)
