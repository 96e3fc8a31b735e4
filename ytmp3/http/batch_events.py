"""The event stream of a batch: `GET /batches/ID/events`.

    event: batch      data: the batch, as `GET /batches/ID` shows it, whenever its status or its counts have changed
    event: job        data: the job of an item, while it is open, and once more when it has ended
    event: end        the batch has ended

Waiting items have no job, and items that ended earlier are not sent: `GET /batches/ID/items` has all of them.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from ytmp3.core.ids import JobId
from ytmp3.core.job import Ticket
from ytmp3.engine.batches import Batches, BatchState
from ytmp3.engine.subscriptions import Subscription, Subscriptions
from ytmp3.http.admission import CLIENT, owner_in
from ytmp3.http.batch_json import BatchJson
from ytmp3.http.job_events import JobSource
from ytmp3.http.job_json import JobJson
from ytmp3.http.keys import Keys
from ytmp3.http.streams import EventStreams, Message

READ_SECONDS: Final = 1.0
"""Interval, in seconds, at which the record of a batch is read. Its holder writes it about once a second."""


class BatchSource:
    """The messages about one batch, and about the jobs of its open items."""

    def __init__(
        self,
        read: Callable[[], Awaitable[tuple[BatchState, list[Ticket]]]],
        subscription: Subscription,
        *,
        json: JobJson,
        batch_json: BatchJson,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._subscription = subscription
        self._jobs = JobSource(subscription, json)
        self._batch_json = batch_json
        self._clock = clock
        self._read_at = float("-inf")
        self._shown = 0
        """The hash of the state of the batch that was last sent."""
        self._ended: set[JobId] = set()
        """Jobs that were sent after their end. The batch's record may still have them as open for a moment."""
        self._is_woken = False
        self.has_ended = False

    @property
    def revision(self) -> str:
        """See `Source`."""
        return f"{self._shown ^ self._jobs.hash:016x}"

    def wake(self) -> None:
        """See `Source`."""
        self._is_woken = True
        self._subscription.wake()

    async def take(self, seconds: float) -> list[Message]:
        """See `Source`.

        Raises:
            BatchUnknown: there is no such batch, or not any more.
        """
        deadline = self._clock() + seconds
        while True:
            messages = []
            if self._clock() >= self._read_at + READ_SECONDS:
                self._read_at = self._clock()
                messages += await self._batch_messages()
            left = 0.0 if messages else min(deadline, self._read_at + READ_SECONDS) - self._clock()
            messages += await self._job_messages(max(0.0, left))
            if messages or self._is_woken or self._clock() >= deadline:
                self._is_woken = False
                return messages

    async def _job_messages(self, seconds: float) -> list[Message]:
        messages = await self._jobs.take(seconds)
        ended = self._jobs.take_ended()
        if messages:
            # Only the last message: a client that has received only some of them does not have the whole state.
            messages[-1] = replace(messages[-1], revision=self.revision)
        for job_id in ended:
            self._subscription.remove([job_id])
            self._ended.add(job_id)
            # The counts of the batch have changed too, so its record is read at once.
            self._read_at = float("-inf")
        return messages

    async def _batch_messages(self) -> list[Message]:
        state, tickets = await self._read()
        self._subscription.add(ticket for ticket in tickets if ticket.job.job_id not in self._ended)
        self.has_ended = state.batch.completed_at is not None
        shown = hash_of(state)
        if shown == self._shown:
            return []
        self._shown = shown
        return [Message(event="batch", data=await self._batch_json.of(state), revision=self.revision)]


def hash_of(state: BatchState) -> int:
    """Return a hash of the content of a message about a batch, without the estimated time."""
    batch = state.batch
    counts = sorted(state.counts.items())
    parts = (batch.batch_id, batch.status, counts, batch.cancelled_at, batch.completed_at)
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())


class BatchEventHandlers:
    """The route of the stream."""

    def __init__(
        self,
        *,
        batches: Batches,
        subscriptions: Subscriptions,
        streams: EventStreams,
        keys: Keys,
        json: JobJson,
        batch_json: BatchJson,
    ) -> None:
        self._batches = batches
        self._subscriptions = subscriptions
        self._streams = streams
        self._keys = keys
        self._json = json
        self._batch_json = batch_json

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /batches/ID/events."""
        owner = owner_in(request, self._keys)
        batch_id = request.match_info["batch_id"]
        with self._subscriptions.open([]) as subscription:
            source = BatchSource(
                lambda: self._batches.followed(batch_id, owner),
                subscription,
                json=self._json,
                batch_json=self._batch_json,
            )
            return await self._streams.send(request, request[CLIENT].owner, source)
