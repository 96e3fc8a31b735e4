"""Feeds batches: keeps a few jobs of each batch unfinished, and submits the next item when one ends.

One instance feeds a batch, under a lease in the store (`core.batch`). If it dies, its lease runs out and another one
adopts the batch. In each iteration, the feeder does this for each batch:

0. If the batch is a playlist, or a video to be split, without items: read them in a separate task, and write them.
1. Read the batch: the client may have cancelled it, or another instance may hold it.
2. Read the jobs of the open items, and mark those that have ended.
3. Mark further items as open, as many as the client's share and the queue allow (`Capacity.batch_room`).
4. Write the marks. This also renews the lease. Only then:
5. Submit the jobs of open items that have none: new items, items whose submission a crash prevented, and items that
   were refused before because the queue was full. If the job exists already, the submission returns it.

The rule: an item is stored as open before its job is created. So an instance that continues or cancels a batch finds
every job of it. In the opposite order, a crash between the two steps would leave a job that no batch knows, and a
cancelled batch would go on converting.

An error of the store with one batch does not stop the others: it is raised only after all of them had their turn, so
that the loop reports it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ytmp3.core.batch import (
    LONGEST_SECONDS,
    Batch,
    Item,
    Mark,
    end_of,
    given_up,
    indexes_of,
    is_ended,
    marked,
    opened,
)
from ytmp3.core.client import Client
from ytmp3.core.errors import FailureCode, JobUnknown, LeaseLost, RequestError, StoreDown, StoreError
from ytmp3.core.ids import BatchId
from ytmp3.core.job import Ticket
from ytmp3.engine import events
from ytmp3.engine.capacity import Capacity
from ytmp3.engine.events import Events
from ytmp3.engine.intake import Intake
from ytmp3.engine.jobs import Jobs, read_where_possible
from ytmp3.engine.leases import RENEWALS_PER_LEASE
from ytmp3.engine.loops import Loops
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.batches import Filling

log = logging.getLogger(__name__)

FEED_SECONDS: Final = 0.5
"""Interval of the iterations, in seconds: the longest time that a new batch waits for its first job, and that a worker
is idle because the next item is not submitted yet."""
OPEN_ITEMS: Final = 20
"""Most open items of one batch: the default number of workers."""
MAX_OPEN: Final = 5 * OPEN_ITEMS
"""Most open items while some of their jobs cannot be read. Such items do not count as open, so that a node of the store
that is down does not stop the others; but when it replies again, all of them are submitted at once."""
ROUNDS: Final = 5
"""Most rounds of one batch in one iteration. Items whose track exists already end at once, and then the next ones are
submitted in the same iteration: at most ROUNDS x OPEN_ITEMS, so that such a batch does not delay other batches."""
ADOPT_BATCH: Final = 20
"""Most batches adopted in one iteration, so that several instances share the batches of an instance that has died."""
KEEPS_PER_RETENTION: Final = 4
"""How often within one retention the expiry of a running batch's finished tracks is extended. Otherwise, the first
tracks of a long batch would expire before it has ended."""
MAX_HELD: Final = 500
"""An instance that feeds this many batches adopts no more, because each iteration reads all of them."""
EXPIRE_SECONDS: Final = 60.0
"""Interval, in seconds, of the removal of batches whose retention is over."""
EXPIRE_BATCH: Final = 100
"""Most batches removed in one call to the store."""

ReadPlaylist = Callable[[Batch], Awaitable[Filling]]
"""Reads the playlist of a batch, or the chapters of its video."""


@dataclass(slots=True, kw_only=True)
class _Held:
    """A batch that this instance feeds."""

    batch: Batch
    saved_at: float
    """When the lease was last extended, on the engine's clock."""
    kept_at: float
    """When the expiry of its finished tracks was last extended, on the engine's clock."""
    items: tuple[Item, ...] | None = None
    """The items; None before the first iteration."""
    listing: asyncio.Task[Filling] | None = None
    """The task that reads the playlist, if the batch is a playlist without items."""
    submitted: list[Item] = field(default_factory=list)
    """The items whose jobs were submitted after the last write."""


class Feeder:
    """Feeds the batches that this instance holds. `clock` is monotonic."""

    def __init__(
        self,
        read_playlist: ReadPlaylist,
        *,
        store: JobStore,
        intake: Intake,
        jobs: Jobs,
        capacity: Capacity,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._read_playlist = read_playlist
        self._store = store
        self._intake = intake
        self._jobs = jobs
        self._capacity = capacity
        self._events = events
        self._clock = clock
        self._held: dict[BatchId, _Held] = {}
        self._loops = Loops(events)

    def start(self) -> None:
        """Start the loops."""
        self._loops.start({"feed-batches": (self.feed, FEED_SECONDS), "expire-batches": (self.expire, EXPIRE_SECONDS)})

    async def close(self) -> None:
        """End the loops, and give all batches back."""
        await self._loops.close()
        await self._release()

    @property
    def held(self) -> int:
        """The number of batches that this instance feeds."""
        return len(self._held)

    async def feed(self) -> None:
        """Run one iteration: adopt batches that are due, and feed all that this instance holds.

        A draining instance gives its batches back at once, although their running jobs still have some seconds to end:
        another instance can submit the next items meanwhile, and this one accepts no more jobs.
        """
        if self._intake.is_draining:
            await self._release()
            return
        if len(self._held) < MAX_HELD:
            adopted = await self._store.batches.adopt(ADOPT_BATCH)
            for batch in adopted:
                self._held[batch.batch_id] = _Held(batch=batch, saved_at=self._clock(), kept_at=self._clock())
            if adopted:
                self._events.emit(events.BatchesAdopted(batches=tuple(adopted)))
        failed: list[StoreError] = []
        for held in list(self._held.values()):
            try:
                await self._advance(held)
            except LeaseLost:
                await self._drop(held)
            except RequestError as error:
                # Only StoreUnavailable is possible here: the next iteration does what this one could not.
                log.debug("batch not fed", extra={"batch_id": held.batch.batch_id, "code": error.code})
            except StoreError as error:
                # The other batches may be in a part of the store that replies.
                failed.append(error)
        if failed:
            raise failed[0]

    async def expire(self) -> int:
        """Remove ended batches after their retention. Returns their number."""
        removed = 0
        while count := await self._store.batches.expire(EXPIRE_BATCH):
            removed += count
        return removed

    async def _advance(self, held: _Held) -> None:
        """Feed one batch.

        The record is read first, because only the store knows whether the client has cancelled the batch or another
        instance has adopted it. The lease is not only compared here: the writes below are refused by the store as well,
        if the lease runs out in between.

        Raises:
            LeaseLost: another instance holds it.
        """
        stored = await self._store.batches.get(held.batch.batch_id)
        if stored is None or stored.lease != held.batch.lease:
            raise LeaseLost
        held.batch = stored
        if stored.playlist is not None and not stored.marks:
            await self._list(held)
            return
        if held.items is None:
            held.items = await self._store.batches.items(stored.batch_id)
        for _ in range(ROUNDS):
            tickets, unread = await self._open_tickets(held.batch, held.items)
            marks = await self._next_marks(held.batch, held.items, tickets, unread)
            if not await self._keep(held, held.items, marks) and is_ended(marks):
                # It ends in a later turn, so that no track of an ended batch expires early.
                await self._save(held, held.batch.marks)
                return
            await self._save(held, marks)
            if held.batch.completed_at is not None:
                await self._end(held, held.batch)
                return
            if held.batch.cancelled_at is not None or not await self._submit(held, held.items, tickets):
                return

    async def _list(self, held: _Held) -> None:
        """Start reading the playlist of a batch, or store the result; end the batch if it was cancelled or is too old.

        Raises:
            LeaseLost
        """
        batch = held.batch
        if batch.cancelled_at is not None:
            await self._end(held, await self._store.batches.save(batch.lease, "", is_ended=True))
        elif held.listing is None and self._capacity.may_list:
            held.listing = asyncio.create_task(_awaited(self._read_playlist(batch)), name="list-playlist")
        elif held.listing is not None and held.listing.done():
            held.batch = await self._store.batches.fill(batch.lease, held.listing.result())
            held.saved_at = self._clock()
            if held.batch.completed_at is not None:
                await self._end(held, held.batch)
        elif self._is_too_old(batch):
            late = Filling(error=FailureCode.EXPIRED_WAITING)
            await self._end(held, await self._store.batches.fill(batch.lease, late))
        elif self._is_renewal_due(held):
            held.batch = await self._store.batches.save(batch.lease, "")
            held.saved_at = self._clock()

    async def _end(self, held: _Held, ended: Batch) -> None:
        """Stop feeding a batch that has ended."""
        await self._forget(held)
        self._events.emit(events.BatchEnded(batch=ended))

    async def _forget(self, held: _Held) -> None:
        """Stop working on a batch, and wait until its playlist is no longer read. Its lease is not given back here."""
        self._held.pop(held.batch.batch_id, None)
        if held.listing is not None:
            held.listing.cancel()
            await asyncio.wait([held.listing])

    def _is_too_old(self, batch: Batch) -> bool:
        """Return whether a batch was older than LONGEST_SECONDS at its last write. Both times are the store's clock."""
        written_at = batch.due_at - self._store.policy.lease_seconds
        return written_at - batch.created_at > LONGEST_SECONDS

    def _is_renewal_due(self, held: _Held) -> bool:
        return self._clock() - held.saved_at >= self._store.policy.lease_seconds / RENEWALS_PER_LEASE

    async def _open_tickets(
        self, batch: Batch, items: tuple[Item, ...]
    ) -> tuple[dict[int, Ticket | None], frozenset[int]]:
        """Return the jobs of the open items by index, None for an item without one; and the indexes of unread jobs.

        It is None for a job that could not be read, too: to submit it again then fails or changes nothing, and the item
        stays open.
        """
        indexes = indexes_of(batch.marks, Mark.OPEN)
        job_ids = [batch.job_id(items[index]) for index in indexes]
        found = await read_where_possible(self._store, job_ids)
        by_index = dict(zip(indexes, job_ids, strict=True))
        unread = frozenset(index for index, job_id in by_index.items() if job_id in found.unread)
        return {index: found.tickets.get(job_id) for index, job_id in by_index.items()}, unread

    async def _next_marks(
        self, batch: Batch, items: tuple[Item, ...], tickets: dict[int, Ticket | None], unread: frozenset[int]
    ) -> str:
        """Return the new marks: with ended jobs and further open items, or those of a cancelled batch.

        Items whose jobs could not be read stay open. So a cancelled batch ends when they can be cancelled.
        """
        ends = {index: end for index, ticket in tickets.items() if ticket and (end := end_of(ticket.status))}
        if batch.cancelled_at is not None:
            for index in tickets.keys() - ends.keys() - unread:
                if (end := await self._cancel(batch, items[index])) is not None:
                    ends[index] = end
            return given_up(marked(batch.marks, ends), Mark.CANCELLED)
        marks = marked(batch.marks, ends)
        if self._is_too_old(batch):
            marks = given_up(marks, Mark.LATE)
        open_items = marks.count(Mark.OPEN)
        room = min(
            OPEN_ITEMS - (open_items - len(unread)),
            MAX_OPEN - open_items,
            self._capacity.batch_room(self._capacity.find_client(batch.client)),
        )
        return opened(marks, room)

    async def _cancel(self, batch: Batch, item: Item) -> Mark | None:
        """Cancel the job of an open item. Returns the final mark of the item; None if the store did not reply."""
        try:
            ticket = await self._jobs.cancel(batch.job_id(item), None)
        except JobUnknown:
            return Mark.CANCELLED
        except RequestError as error:
            log.debug("item of a batch not cancelled", extra={"batch_id": batch.batch_id, "code": error.code})
            return None
        return end_of(ticket.status) or Mark.CANCELLED

    async def _keep(self, held: _Held, items: tuple[Item, ...], marks: str) -> bool:
        """Extend the expiry of a batch's finished tracks, at intervals while it runs and once more at its end.

        Returns False if a part of them does not reply: then the next turn repeats it.
        """
        retention_seconds = held.batch.retention_seconds
        is_due = self._clock() - held.kept_at >= retention_seconds / KEEPS_PER_RETENTION
        if is_due or is_ended(marks):
            completed = indexes_of(marks, Mark.COMPLETED)
            job_ids = [held.batch.job_id(items[index]) for index in completed]
            try:
                await self._store.batches.keep(job_ids, retention_seconds)
            except StoreDown as error:
                log.debug("tracks of a batch not kept", extra={"batch_id": held.batch.batch_id, "error": str(error)})
                return False
            held.kept_at = self._clock()
        return True

    async def _save(self, held: _Held, marks: str) -> None:
        """Write the marks if they have changed, and renew the lease after each third of its length.

        Raises:
            LeaseLost
        """
        now = self._clock()
        if marks == held.batch.marks and not self._is_renewal_due(held):
            return
        ended = is_ended(marks)
        held.batch = await self._store.batches.save(held.batch.lease, marks, is_ended=ended)
        held.saved_at = now
        held.submitted.clear()

    async def _submit(self, held: _Held, items: tuple[Item, ...], tickets: dict[int, Ticket | None]) -> bool:
        """Submit the jobs of open items that have none. Returns whether one of them has ended already.

        The items are noted in `submitted` before the calls, not after them: a call whose reply is lost may have created
        its job, and `_drop` must find it.
        """
        indexes = [index for index in indexes_of(held.batch.marks, Mark.OPEN) if tickets.get(index) is None]
        if not indexes:
            return False
        client = self._capacity.find_client(held.batch.client)
        opened_items = [items[index] for index in indexes]
        held.submitted += opened_items
        submitted = await asyncio.gather(*(self._try_to_submit(held.batch, item, client) for item in opened_items))
        return any(ticket is not None and end_of(ticket.status) is not None for ticket in submitted)

    async def _try_to_submit(self, batch: Batch, item: Item, client: Client) -> Ticket | None:
        """Submit one job. Returns None if it is refused: the item stays open, and the next iteration tries again."""
        try:
            return await self._intake.submit_item(batch, item, client)
        except RequestError as error:
            log.debug("item of a batch not submitted", extra={"batch_id": batch.batch_id, "code": error.code})
            return None

    async def _drop(self, held: _Held) -> None:
        """Stop feeding a batch that another instance holds.

        If this instance was suspended for a while, it may have submitted jobs after the new holder had cancelled the
        batch. These jobs are cancelled here.
        """
        await self._forget(held)
        stored = await self._store.batches.get(held.batch.batch_id)
        if stored is not None and stored.cancelled_at is not None:
            for item in held.submitted:
                await self._cancel(stored, item)

    async def _release(self) -> None:
        """Give all batches back when the service stops, so that another instance continues them at once."""
        leases = [held.batch.lease for held in self._held.values()]
        for held in list(self._held.values()):
            await self._forget(held)
        try:
            await self._store.batches.release(leases)
        except StoreError as error:
            # Tried only once, so that a stopping instance does not wait for the store. If it fails, the leases run out.
            self._events.emit(events.StoreFailed(operation="release-batches", error=error))


async def _awaited(filling: Awaitable[Filling]) -> Filling:
    return await filling
