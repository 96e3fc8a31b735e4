"""The workers: a fixed number of coroutines, each of which carries one conversion at a time.

A worker waits until something may start, takes the next conversion from the queue and makes an attempt at it. The
steps of an attempt are in `attempt`; the conversions in workers' hands are in `runs`.

An instance ends in two steps. `drain` is the orderly one: it stops claiming, lets running conversions end for a while,
and gives the rest back to the store, where other instances find it at once. `close` ends the tasks in any state, and
gives their conversions back. If that does not reach the store, the leases run out and the conversions are adopted, with
a crash counted against those that were running.
"""

import asyncio
import contextlib
import logging
from typing import Final

from ytmp3 import logs
from ytmp3.core.job import Conversion
from ytmp3.engine.attempt import Attempts
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs, Stop
from ytmp3.engine.upstream import Upstream
from ytmp3.engine.writes import Writes

log = logging.getLogger(__name__)

STOP_SECONDS: Final = 8.0
"""How long a drain waits, in seconds, for stopped conversions.

Their processes are gone 5 s after TERM at the latest, and then the release has to reach the store.
"""


class Workers:
    """Starts the workers, drains them, and ends them."""

    def __init__(
        self, count: int, *, queue: FairQueue, runs: Runs, upstream: Upstream, attempts: Attempts, writes: Writes
    ) -> None:
        self._count = count
        self._queue = queue
        self._runs = runs
        self._upstream = upstream
        self._attempts = attempts
        self._writes = writes
        self._tasks: list[asyncio.Task[None]] = []
        """One for each worker, from `start` to `close`."""

    def start(self) -> None:
        """Start every worker. They run until `close`."""
        self._runs.may_claim.set()
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{number}") for number in range(self._count)]

    async def drain(self, seconds: float, force: asyncio.Event) -> None:
        """Claim nothing more, release the queue, let running conversions end for `seconds`, then release them too.

        `force` ends the wait for the running ones. Released conversions are due at once, at any instance, at no cost.
        """
        self._runs.may_claim.clear()
        # Waiting conversions cannot start here any more: another instance may have them at once.
        await self._release_queue()
        waits = {
            asyncio.create_task(self._runs.idle(), name="drain-idle"),
            asyncio.create_task(force.wait(), name="drain-force"),
        }
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        # Submissions that were under way when the drain began have reached the queue by now.
        await self._release_queue()
        for run in self._runs:
            run.stop(Stop.DRAIN)
        # Each worker releases its conversion when the child processes have ended; this wait has a bound.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._runs.idle()

    async def close(self) -> None:
        """End the workers, and release their conversions and those queued since the drain."""
        # Taken down before the tasks end, because each run leaves the table with its worker.
        leases = [run.conversion.lease for run in self._runs]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._writes.release([*leases, *(conversion.lease for conversion in self._queue.take_all())])

    async def _release_queue(self) -> None:
        await self._writes.release([conversion.lease for conversion in self._queue.take_all()])

    async def _work(self) -> None:
        """Take up one conversion after the other. A worker may wait for hours at each of the three awaits.

        So the first two conditions are checked again after the third.
        """
        while True:
            await self._runs.may_claim.wait()
            await self._upstream.until_may_start()
            conversion = await self._queue.get()
            if not self._runs.may_claim.is_set():
                # The drain began, and this was submitted too late to be released by it.
                await self._writes.release([conversion.lease])
            elif not self._upstream.may_start:
                # YouTube refused another worker's conversion while this one waited for the queue. The slot is still
                # free, because nothing was awaited since the conversion was taken.
                self._queue.put_back(conversion)
            else:
                await self._attempt(conversion)

    async def _attempt(self, conversion: Conversion) -> None:
        context = logs.conversion_id.set(conversion.conversion_id)
        try:
            await self._attempts.make(conversion)
        except Exception:
            # The outermost frame of a worker: a bug must not cost the slot. The lease runs out, and the conversion is
            # adopted.
            log.exception("worker failed")
        finally:
            logs.conversion_id.reset(context)
