"""The workers: a fixed number of coroutines, each of which processes one conversion at a time.

A worker waits until a conversion may start, takes the next one from the queue and makes an attempt at it. `attempt` has
the steps of an attempt; `runs` has the conversions that workers are processing. Some more coroutines are spare workers:
while one client uses more than its share of the workers, they serve the clients that use less. All are alike. The queue
decides when the next conversion may be taken.

An instance ends in two steps. `drain` stops claiming, lets running conversions end for some time, and releases the
rest, so that other instances can adopt them at once. `close` ends the tasks in any state and releases their
conversions. If this release does not reach the store, the leases run out and the conversions are adopted, and a crash
is counted for those that were running.
"""

import asyncio
import contextlib
import logging
from typing import Final

from ytmp3 import logs
from ytmp3.core.job import Conversion
from ytmp3.core.sharing import Places
from ytmp3.engine.attempt import Attempts
from ytmp3.engine.grants import Grant
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs, Stop
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.writes import Writes

log = logging.getLogger(__name__)

STOP_SECONDS: Final = 8.0
"""How long a drain waits, in seconds, for stopped conversions.

Their processes have ended at most 5 s after SIGTERM, and then the release has to reach the store.
"""
CLOSE_SECONDS: Final = 6.5
"""How long `close` waits, in seconds, for cancelled workers. Their processes have ended within 6 s. A worker whose disk
hangs ends only when the disk responds."""
SPARE_SHARE: Final = 2
"""There is one spare worker for so many workers. Half as many spare workers as workers let several clients begin at
once beside one that uses all workers with long videos. A spare worker that waits costs nothing, and one that runs needs
10 MB: extractions and encoders, which need more, have limits of their own (`converter.slots`)."""
NO_IDENTITY_SECONDS: Final = 0.5
"""How long, in seconds, a conversion waits outside of the queue after no identity was free for it."""


def places_of(workers: int) -> Places:
    """Return the places for running conversions with WORKER_POOL_SIZE workers."""
    return Places(count=workers, spare=workers // SPARE_SHARE)


class Workers:
    """Starts the workers, drains them, and ends them."""

    def __init__(
        self, places: Places, *, queue: FairQueue, runs: Runs, upstream: Upstream, attempts: Attempts, writes: Writes
    ) -> None:
        self._count = places.count + places.spare
        self._queue = queue
        self._runs = runs
        self._upstream = upstream
        self._attempts = attempts
        self._writes = writes
        self._tasks: list[asyncio.Task[None]] = []
        """One task for each worker, from `start` to `close`."""

    def start(self) -> None:
        """Start every worker. They run until `close`."""
        self._runs.may_claim.set()
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{number}") for number in range(self._count)]

    async def drain(self, seconds: float, force: asyncio.Event) -> None:
        """Stop claiming, release the queue, let running conversions end for `seconds`, then release them too.

        `force` ends the wait for running conversions. Any instance may adopt a released conversion at once, and no
        attempt is counted.
        """
        self._runs.may_claim.clear()
        # Waiting conversions can no longer start here. Released, they can start at another instance.
        await self._release_queue()
        waits = {
            asyncio.create_task(self._runs.idle(), name="drain-idle"),
            asyncio.create_task(force.wait(), name="drain-force"),
        }
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        # Submissions that had begun before the drain have reached the queue by now.
        await self._release_queue()
        for run in self._runs:
            run.stop(Stop.DRAIN)
        # Each worker releases its conversion when the child processes have ended; this wait has a bound.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._runs.idle()

    async def close(self) -> None:
        """End the workers. Release their conversions, and those that were queued since the drain.

        A worker that does not end in time is left behind, and its conversion is released, too. The store refuses its
        next write.
        """
        # The leases are collected first, because a run is removed from `runs` when its worker ends.
        leases = [run.conversion.lease for run in self._runs]
        for task in self._tasks:
            task.cancel()
        await asyncio.wait([asyncio.gather(*self._tasks, return_exceptions=True)], timeout=CLOSE_SECONDS)
        self._tasks.clear()
        await self._writes.release([*leases, *(conversion.lease for conversion in self._queue.take_all())])

    async def _release_queue(self) -> None:
        await self._writes.release([conversion.lease for conversion in self._queue.take_all()])

    async def _work(self) -> None:
        """Process one conversion after the other.

        Each of the three awaits may take hours, so the first two conditions are checked again after the third.
        """
        while True:
            await self._runs.may_claim.wait()
            await self._upstream.until_may_start()
            conversion = await self._queue.get()
            if not self._runs.may_claim.is_set():
                # The drain has begun, and this conversion was queued after the drain had released the queue.
                await self._writes.release([conversion.lease])
            elif not self._upstream.may_start:
                # YouTube refused the conversion of another worker while this worker waited for the queue. The queue
                # slot is still free, because nothing was awaited since the conversion was taken.
                self._queue.put_back(conversion)
            else:
                await self._start(conversion)

    async def _start(self, conversion: Conversion) -> None:
        """Make an attempt if an identity allows it now; put the conversion back otherwise."""
        with self._runs.busy():
            grant = await self._take_identity(conversion)
            if grant is not None:
                await self._attempt(conversion, grant)

    async def _take_identity(self, conversion: Conversion) -> Grant | None:
        """Return the identity for a conversion; None if it was put back, or released because a drain has begun.

        Its slot in the queue stays reserved during the call to the store.
        """
        self._queue.reserve()
        try:
            with self._runs.claiming(conversion):
                grant = await self._upstream.identities.take(conversion.video_id)
                if grant is None:
                    # Other conversions may use other identities meanwhile, so this one is not put back at once.
                    await asyncio.sleep(NO_IDENTITY_SECONDS)
        except asyncio.CancelledError:
            # `close` releases it with the queue.
            self._queue.put_back(conversion, is_reserved=True)
            raise
        if grant is None and self._runs.may_claim.is_set():
            self._queue.put_back(conversion, is_reserved=True)
            return None
        self._queue.cancel_reservation()
        if self._runs.may_claim.is_set():
            return grant
        if grant is not None:
            grant.ended()
        await self._writes.release([conversion.lease])
        return None

    async def _attempt(self, conversion: Conversion, grant: Grant) -> None:
        """Make one attempt. Log lines that are written meanwhile contain the conversion's id."""
        context = logs.conversion_id.set(conversion.conversion_id)
        try:
            await self._attempts.make(conversion, grant)
        except Exception:
            # The outermost frame of a worker: a bug must not end the worker. The lease of the conversion runs out, and
            # an instance adopts it.
            log.exception("worker failed")
        finally:
            logs.conversion_id.reset(context)
