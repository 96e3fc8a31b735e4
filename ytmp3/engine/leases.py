"""Renews the leases of running and waiting conversions, and writes their progress to the store.

If a lease is not renewed, it runs out and another instance adopts the conversion. So the lease keeper must run for as
long as the workers do. Every second it sends all renewals that are due in one call:

* for each running conversion whose progress has changed, a renewal with the progress;
* after each third of a lease, a renewal for every running conversion, and for every waiting one with its queue
  position.

The store returns the conversions that this instance no longer holds, because another instance cancelled or adopted
them. The keeper stops their attempts, or removes them from the queue. Until the store replies, two instances may work
on one conversion. This wastes work but does no harm, because the store checks the lease of each write.

Waiting conversions have leases, too. A queue is only in memory: if its instance dies, the leases run out, and another
instance adopts the conversions. Without leases, every instance would adopt them while they wait.

If the store does not reply, nothing is stopped here: only its reply shows whether another instance has adopted
a conversion meanwhile. Until then, running attempts go on, because to stop them would waste a
download for an outage of a second.
"""

import logging
from collections.abc import Callable
from typing import Final

from ytmp3.core.errors import RenewalsMissed, StoreError
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
"""Number of renewals within the length of a lease. With three, two renewals may fail before the lease runs out."""


class LeaseKeeper:
    """Renews the leases of one instance: after each third of their length, and earlier if there is new progress."""

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
        """When all leases were last renewed. A failed renewal does not change it, so the next iteration retries."""
        self._missed: frozenset[str] = frozenset()
        """The conversions that the last call left out, because a part of the store did not reply: the next one repeats
        these and not all."""
        self._loops = Loops(events)

    def start(self) -> None:
        """Start the loop."""
        self._loops.start({"lease-keeper": (self.keep, self._progress_seconds)})

    async def close(self) -> None:
        """End the loop. Leases that are not released run out after this."""
        await self._loops.close()

    async def keep(self) -> None:
        """Renew all leases if a third of their length has passed, otherwise only those of runs with new progress."""
        # The time before the call to the store: if the reply is slow, the next renewal must not be later for it.
        now = self._clock()
        is_due = now - self._renewed_at >= self._store.policy.lease_seconds / RENEWALS_PER_LEASE
        renewals = [run.renewal() for run in self._runs if is_due or run.has_changed]
        if is_due:
            renewals += self._waiting_renewals()
        elif self._missed:
            known = {renewal.lease.conversion_id for renewal in renewals}
            again = [*(run.renewal() for run in self._runs), *self._waiting_renewals()]
            renewals += [each for each in again if each.lease.conversion_id in self._missed - known]
        if renewals and await self._renew(renewals) and is_due:
            self._renewed_at = now

    def _waiting_renewals(self) -> list[Renewal]:
        """Return the renewals of waiting conversions. Other instances show the queue positions in them to clients."""
        return [
            Renewal(lease=conversion.lease, queue_position=place)
            for place, conversion in enumerate(self._queue.in_order(), start=1)
        ]

    async def _renew(self, renewals: list[Renewal]) -> bool:
        """Renew, and drop conversions whose leases are lost. Returns whether any part of the store has replied."""
        missed: frozenset[str] = frozenset()
        try:
            lost: frozenset[str] = await self._store.renew(renewals)
        except RenewalsMissed as error:
            lost, missed = error.lost, error.missed
            self._events.emit(events.StoreFailed(operation="renew", error=error))
            log.warning("leases not renewed", extra={"conversions": len(missed), "error": str(error)})
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="renew", error=error))
            log.warning("leases not renewed", extra={"conversions": len(renewals), "error": str(error)})
            return False
        self._missed = missed
        for renewal in renewals:
            if renewal.lease.conversion_id in lost:
                self._drop(renewal.lease)
        return True

    def _drop(self, lease: Lease) -> None:
        """Stop or dequeue a conversion, if this instance still has it under the token that the store has refused.

        A worker may have claimed the conversion during the call, and a claim changes the token.
        """
        run = self._runs.get(lease.conversion_id)
        if run is not None and run.conversion.token == lease.token:
            run.stop(Stop.LEASE_LOST)
        elif run is None:
            self._queue.remove(lease.conversion_id, token=lease.token)
