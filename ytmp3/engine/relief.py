"""Gives the work of an instance that cannot convert to the other instances on the same store.

An instance whose disk hangs or whose tools are broken still renews the leases of its conversions, so no other instance
may adopt them. Once the fault has lasted for GIVE_BACK_SECONDS, this loop releases them: no attempt is counted, and
they are due at once. Their attempts are stopped. One that hangs while it publishes cannot be stopped, but the store
refuses its next write. The rule: an instance that has its store for itself keeps its conversions, because nobody else
could adopt them.

Without this loop, the clients of such an instance would wait until an operator stops it: it is alive, so its leases
never run out.
"""

import logging
from collections.abc import Callable
from typing import Final

from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.loops import Loops
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs, Stop
from ytmp3.engine.writes import Writes
from ytmp3.jobstore import JobStore

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Interval, in seconds, at which the health state is read."""
GIVE_BACK_SECONDS: Final = 20.0
"""How long a fault must last, in seconds. Another instance repeats the download, so a short interruption of a network
file system should not cost all of them."""


class Relief:
    """Runs the loop."""

    def __init__(
        self,
        *,
        store: JobStore,
        queue: FairQueue,
        runs: Runs,
        writes: Writes,
        health: Health,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._is_shared = store.is_shared
        self._queue = queue
        self._runs = runs
        self._writes = writes
        self._health = health
        self._clock = clock
        self._faulty_since: float | None = None
        self._loops = Loops(events)

    def start(self) -> None:
        """Start the loop, unless there can be no other instance."""
        if self._is_shared:
            self._loops.start({"give-back": (self.give_back, LOOK_SECONDS)})

    async def close(self) -> None:
        """End the loop."""
        await self._loops.close()

    async def give_back(self) -> int:
        """Release all conversions of this instance if it has been faulty for long enough. Returns their number.

        The leases are released before the attempts are stopped. If the store does not reply, nothing has changed, and
        the next iteration tries again; the conversions that were waiting are then no longer in the queue here, but
        their leases run out, because only waiting and running ones are renewed.

        The runs are stopped with LEASE_LOST, because that is their state now: another instance may already hold them,
        so nothing must be written for them here.
        """
        if self._health.fault is None:
            self._faulty_since = None
            return 0
        if self._faulty_since is None:
            self._faulty_since = self._clock()
        if self._clock() - self._faulty_since < GIVE_BACK_SECONDS:
            return 0
        runs = [run for run in self._runs if run.stop_reason is None]
        leases = [conversion.lease for conversion in self._queue.take_all()] + [run.conversion.lease for run in runs]
        if not leases or not await self._writes.release(leases):
            return 0
        for run in runs:
            run.stop(Stop.LEASE_LOST)
        log.warning("conversions given back", extra={"conversions": len(leases), "reason": self._health.fault})
        return len(leases)
