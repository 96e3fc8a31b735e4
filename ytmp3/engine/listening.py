"""Finds the audio of a conversion for listeners, who receive it while it is encoded.

Only the instance that runs a conversion has its audio. If the conversion still waits in the queue of this instance,
`find` waits for it, up to a limit. A client listens to a job of its own, and a conversion goes on as long as one job
needs it. So listeners need no further means to keep a conversion running.

A reader belongs to one attempt. If the attempt fails and is repeated, the stream breaks, and the client has to ask
again: the bytes of two encodings may differ, so a listener must never get parts of both.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ytmp3.converter.live_sound import SoundReader
from ytmp3.core.errors import JobUnknown
from ytmp3.core.ids import ConversionId
from ytmp3.core.job import Status, Ticket
from ytmp3.engine.jobs import Jobs
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.engine.subscriptions import Subscriptions
from ytmp3.threads import Threads

READERS: Final = 8
"""Threads that read audio. One piece takes some microseconds, because it has just been written."""


class Found(Struct, frozen=True, kw_only=True):
    """The result of `Listening.find`."""

    ticket: Ticket
    """The newest record of the job."""
    reader: SoundReader | None
    """The audio, which the caller closes; None if the job has ended, or no audio came in time."""
    is_here: bool
    """Whether the conversion waits or runs in this instance, or has ended."""


class Listening:
    """Finds the audio of conversions that run in this instance."""

    def __init__(
        self, *, jobs: Jobs, queue: FairQueue, runs: Runs, subscriptions: Subscriptions, clock: Callable[[], float]
    ) -> None:
        self._jobs = jobs
        self._queue = queue
        self._runs = runs
        self._subscriptions = subscriptions
        self._clock = clock
        self._readers = Threads("listen", READERS)

    async def find(self, ticket: Ticket, *, seconds: float) -> Found:
        """Wait up to `seconds` until a job has audio here or has ended; not at all if another instance has it.

        The job is followed before it is looked for, so that a change in between ends the wait. The loop begins again
        after each change, because the conversion may have moved meanwhile: from the queue to a worker, or to another
        instance.

        Raises:
            JobUnknown: its retention has ended meanwhile.
            StoreUnavailable
        """
        deadline = self._clock() + seconds
        with self._subscriptions.open([ticket]) as subscription:
            while True:
                run = self._runs.get(ticket.conversion.conversion_id)
                seconds = max(0.0, deadline - self._clock())
                if _has_ended(ticket):
                    return Found(ticket=ticket, reader=None, is_here=True)
                if run is not None:
                    try:
                        async with asyncio.timeout(seconds):
                            reader = await run.sound.reader(self._readers)
                    except TimeoutError:
                        return Found(ticket=ticket, reader=None, is_here=True)
                    if reader is not None:
                        return Found(ticket=ticket, reader=reader, is_here=True)
                    # The attempt has just ended, so the store knows the result.
                    ticket = await self._jobs.ticket(ticket.job.job_id, None)
                elif not self._is_here(ticket.conversion.conversion_id):
                    return Found(ticket=ticket, reader=None, is_here=False)
                elif snapshots := await subscription.take(seconds):
                    if (newest := snapshots[0].ticket) is None:
                        raise JobUnknown
                    ticket = newest
                else:
                    return Found(ticket=ticket, reader=None, is_here=True)

    def _is_here(self, conversion_id: ConversionId) -> bool:
        """Return whether this instance converts it, or has it in its queue. Only then can it send the audio."""
        # The recorded positions of the queue may be out of date, so the queue itself is searched.
        is_waiting = any(waiting.conversion_id == conversion_id for waiting in self._queue.in_order())
        return is_waiting or self._runs.holds(conversion_id)


def _has_ended(ticket: Ticket) -> bool:
    return ticket.status not in {Status.PENDING, Status.PROCESSING}
