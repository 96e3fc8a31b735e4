"""Creates, reads and cancels batches, for the routes of batches. `feeder` turns their items into jobs.

The stored record is authoritative. The jobs of open items are read together with it, so a response never shows an item
as running if its job has ended.

Why the marks alone are not enough: the holder writes them about twice a second, so an item may be marked as open
although its job has just ended. Only the jobs of open items are read, of which there are at most `feeder.MAX_OPEN`, so
a response about 1,000 items costs little more than one about 20.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.batch import (
    Batch,
    Item,
    ItemStatus,
    Line,
    Mark,
    counts_of,
    end_of,
    eta_seconds,
    first_like,
    first_marks,
    given_up,
    indexes_of,
    is_ended,
    items_of,
    marked,
    tagged,
    unfinished,
)
from ytmp3.core.client import Client
from ytmp3.core.errors import (
    FAILURES,
    BatchesFull,
    BatchQuota,
    BatchUnknown,
    Draining,
    FailureCode,
    NothingToConvert,
    TooManyItems,
)
from ytmp3.core.ids import BatchId, ClientId, JobId, parse_batch_id
from ytmp3.core.job import Status, Ticket
from ytmp3.core.link import canonical_link, parse_video_id
from ytmp3.core.playlist import parse_playlist
from ytmp3.engine import events
from ytmp3.engine.batch_orders import BatchOrder
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.idempotency import Idempotency, IdempotencyKeys
from ytmp3.engine.intake import DRAIN_RETRY_SECONDS
from ytmp3.engine.jobs import as_request_errors, complete, read_where_possible
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.batches import NewBatch, Refusal

FULL_RETRY_SECONDS: Final = 60
"""The `Retry-After`, in seconds, of a refused batch. Unfinished batches take minutes to end."""

_STATUS_OF_MARK: Final = {
    Mark.WAITING: ItemStatus.WAITING,
    Mark.OPEN: ItemStatus.PENDING,
    Mark.COMPLETED: ItemStatus.COMPLETED,
    Mark.FAILED: ItemStatus.FAILED,
    Mark.CANCELLED: ItemStatus.CANCELLED,
    Mark.REFUSED: ItemStatus.REFUSED,
    Mark.DUPLICATE: ItemStatus.DUPLICATE,
    Mark.LATE: ItemStatus.FAILED,
}


class BatchState(Struct, frozen=True, kw_only=True):
    """A batch and what its open items are doing at this moment."""

    batch: Batch
    counts: Counter[ItemStatus]
    """How many items have each status."""
    eta_seconds: int | None
    """The estimated time until the last item ends; None once it has."""


class ItemState(Struct, frozen=True, kw_only=True):
    """One item of a batch at this moment."""

    index: int
    item: Item
    status: ItemStatus
    ticket: Ticket | None
    """Its job; None before it has one, and once that has expired. A duplicate has the job of the earlier item."""
    duplicate_of: int | None = None
    """The index of the earlier item with the same video."""

    @property
    def code(self) -> str | None:
        """Why the item has no job: the code of its refusal, or of the engine's."""
        return FailureCode.EXPIRED_WAITING if self._is_late else self.item.code

    @property
    def message(self) -> str | None:
        """The text that belongs to `code`."""
        return FAILURES[FailureCode.EXPIRED_WAITING].message if self._is_late else self.item.message

    @property
    def _is_late(self) -> bool:
        return self.status is ItemStatus.FAILED and self.ticket is None


class ItemPage(Struct, frozen=True, kw_only=True):
    """Some items of a batch, in order."""

    items: Sequence[ItemState]
    next_index: int | None
    """Where the next page begins; None if this is the last one."""
    unread: Sequence[JobId]
    """The jobs of these items that could not be read, because a part of the store does not reply."""


class Batches:
    """The operations of the routes. Raises RequestErrors only."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        store: JobStore,
        queue: FairQueue,
        upstream: Upstream,
        health: Health,
        estimates: Estimates,
        events: Events,
    ) -> None:
        self._max_items = settings.batch_max_items
        self._store = store
        self._queue = queue
        self._upstream = upstream
        self._health = health
        self._estimates = estimates
        self._events = events
        life_seconds = store.policy.longest_life_of_batch_seconds
        self._keys = IdempotencyKeys(store, kind="batch", life_seconds=life_seconds, find=self._find)

    async def create_from_playlist(
        self, link: str, order: BatchOrder, client: Client, *, idempotency: Idempotency | None = None
    ) -> BatchState:
        """Create a batch of a playlist, an album or the uploads of a channel. Its entries are read later.

        Raises:
            IdempotencyKeyReused, NotAPlaylist, PlaylistRefused, UnsupportedUrl, Draining, BatchQuota, BatchesFull,
            StorageFull: nothing was stored.
            StoreUnavailable: whether it was stored is unknown.
        """
        return await self._create(order.new_batch(client, playlist=parse_playlist(link)), idempotency)

    async def create_from_chapters(
        self, link: str, order: BatchOrder, client: Client, *, idempotency: Idempotency | None = None
    ) -> BatchState:
        """Create a batch of the chapters of a video, which are read later. Each becomes a track of its own.

        Raises:
            IdempotencyKeyReused, NotAVideo, UnsupportedUrl, Draining, BatchQuota, BatchesFull, StorageFull: nothing was
            stored.
            StoreUnavailable: whether it was stored is unknown.
        """
        video = canonical_link(parse_video_id(link))
        return await self._create(order.new_batch(client, playlist=video, is_split=True), idempotency)

    async def create(
        self, lines: Sequence[Line], order: BatchOrder, client: Client, *, idempotency: Idempotency | None = None
    ) -> BatchState:
        """Create a batch of links. When this returns, it is durable.

        A request that is repeated with the same idempotency key gets the batch of the first one.

        Raises:
            IdempotencyKeyReused, TooManyItems, NothingToConvert, Draining, BatchQuota, BatchesFull, StorageFull:
            nothing was stored.
            StoreUnavailable: whether it was stored is unknown.
        """
        if len(lines) > self._max_items:
            raise TooManyItems(f"`urls` has more than {self._max_items} links. Send them as several batches.")
        parsed = items_of(line.link for line in lines)
        items = [replace(item, edits=line.edits) for item, line in zip(parsed, lines, strict=True)]
        marks = first_marks(items)
        if is_ended(marks):
            raise NothingToConvert
        return await self._create(order.new_batch(client, marks=marks, items=tagged(items, order.tags)), idempotency)

    async def _create(self, new: NewBatch, idempotency: Idempotency | None) -> BatchState:
        """Store a batch, and return its state. A repeated request with the same idempotency key gets the first batch.

        No item is submitted here. The feeder does that, so the response does not wait for 1,000 submissions, and a
        crash right after it loses nothing.

        Raises:
            Draining, BatchQuota, BatchesFull, Unready: nothing was stored, and the request may be sent again.
        """
        if self._health.is_draining:
            raise Draining(retry_after_seconds=DRAIN_RETRY_SECONDS)
        if idempotency is not None:
            first_id, known = await self._keys.first(idempotency, new.client, new.batch_id)
            if known is not None:
                return self._state(known, await self._open_tickets(known))
            # If the first request has not reached the store yet, this one creates its batch, or finds it then.
            new = replace(new, batch_id=BatchId(first_id))
        created = await as_request_errors(self._store.batches.create(new))
        if created is Refusal.CLIENT_FULL:
            raise BatchQuota(retry_after_seconds=self._estimates.spread_seconds(FULL_RETRY_SECONDS))
        if isinstance(created, Refusal):
            raise BatchesFull(retry_after_seconds=self._estimates.spread_seconds(FULL_RETRY_SECONDS))
        self._events.emit(events.BatchAccepted(batch=created))
        return self._state(created, {})

    async def find(self, batch_id: str, owner: ClientId | None) -> Batch:
        """Return the stored record of a batch. `owner` as in `Jobs.ticket`.

        Raises:
            BatchUnknown, StoreUnavailable
        """
        known_form = parse_batch_id(batch_id)
        if known_form is None:
            raise BatchUnknown
        batch = await as_request_errors(self._store.batches.get(known_form))
        if batch is None or (owner is not None and batch.client != owner):
            raise BatchUnknown
        return batch

    async def read(self, batch_id: str, owner: ClientId | None) -> BatchState:
        """Return a batch. `owner` as in `Jobs.ticket`.

        Raises:
            BatchUnknown, StoreUnavailable
        """
        batch = await self.find(batch_id, owner)
        return self._state(batch, await self._open_tickets(batch))

    async def followed(self, batch_id: str, owner: ClientId | None) -> tuple[BatchState, list[Ticket]]:
        """Return a batch, and the jobs of its open items.

        Raises:
            BatchUnknown, StoreUnavailable
        """
        batch = await self.find(batch_id, owner)
        tickets = await self._open_tickets(batch)
        return self._state(batch, tickets), list(tickets.values())

    async def cancel(self, batch_id: str, owner: ClientId | None) -> BatchState:
        """Cancel a batch that has not ended. Waiting items get no jobs, and the jobs of open items are cancelled.

        The holder cancels these jobs, at most a second later; if it has just died, after its lease has run out.

        Raises:
            BatchUnknown, StoreUnavailable
        """
        known = await self.find(batch_id, owner)
        batch = await as_request_errors(self._store.batches.cancel(known.batch_id))
        if batch is None:
            raise BatchUnknown
        if known.cancelled_at is None and batch.cancelled_at is not None:
            self._events.emit(events.BatchCancelled(batch=batch))
        return self._state(batch, await self._open_tickets(batch))

    async def items(self, batch_id: str, owner: ClientId | None, *, start: int, limit: int) -> ItemPage:
        """Return up to `limit` items from the index `start` on.

        Raises:
            BatchUnknown, StoreUnavailable
        """
        batch = await self.find(batch_id, owner)
        items = await as_request_errors(self._store.batches.items(batch.batch_id))
        end = min(len(items), start + limit)
        jobs = {
            index: batch.job_id(items[index])
            for index in range(start, end)
            if items[index].video_id is not None and batch.marks[index] != Mark.WAITING
        }
        read = await as_request_errors(read_where_possible(self._store, list(jobs.values())))
        found = {index: read.tickets.get(job_id) for index, job_id in jobs.items()}
        marks = _shown_marks(batch)
        return ItemPage(
            items=[_item_state(items, index, Mark(marks[index]), found.get(index)) for index in range(start, end)],
            next_index=end if end < len(items) else None,
            unread=tuple(job_id for job_id in dict.fromkeys(jobs.values()) if job_id in read.unread),
        )

    async def finished(self, batch_id: str, owner: ClientId | None) -> tuple[BatchState, list[Ticket]]:
        """Return a batch, and the jobs of its completed items in order; none while it has not ended.

        A job whose track has expired is left out.

        Raises:
            BatchUnknown
            StoreUnavailable: also if a part of the store does not reply, because none of the jobs may be missing.
        """
        state = await self.read(batch_id, owner)
        batch = state.batch
        if batch.completed_at is None:
            return state, []
        items = await as_request_errors(self._store.batches.items(batch.batch_id))
        job_ids = [batch.job_id(items[index]) for index in indexes_of(batch.marks, Mark.COMPLETED)]
        found = await as_request_errors(self._store.get_many(job_ids))
        tickets = map(complete(found).get, job_ids)
        return state, [ticket for ticket in tickets if ticket is not None and ticket.status is Status.COMPLETED]

    async def pin(self, job_ids: Sequence[JobId], seconds: float) -> bool:
        """Keep the tracks of these jobs for some seconds at least. Returns whether all of them have one.

        Raises:
            StoreUnavailable
        """
        return len(await as_request_errors(self._store.batches.keep(job_ids, seconds))) == len(job_ids)

    async def _find(self, batch_id: str) -> Batch | None:
        return await as_request_errors(self._store.batches.get(BatchId(batch_id)))

    async def _open_tickets(self, batch: Batch) -> dict[int, Ticket]:
        """Return the jobs of the open items, by index; without those that could not be read."""
        indexes = indexes_of(batch.marks, Mark.OPEN)
        if not indexes:
            return {}
        items = await as_request_errors(self._store.batches.items(batch.batch_id))
        jobs = {index: batch.job_id(items[index]) for index in indexes}
        found = await as_request_errors(read_where_possible(self._store, list(jobs.values())))
        return {index: found.tickets[job_id] for index, job_id in jobs.items() if job_id in found.tickets}

    def _state(self, batch: Batch, tickets: dict[int, Ticket]) -> BatchState:
        """Return a batch with the number of its items by their status. `tickets`: those of its open items, by index.

        The marks in the record are some seconds old. So the states of open items are taken from their jobs.
        """
        ends = {index: end for index, ticket in tickets.items() if (end := end_of(ticket.status)) is not None}
        marks = marked(_shown_marks(batch), ends)
        counts: Counter[ItemStatus] = Counter()
        for mark, count in counts_of(marks).items():
            counts[_STATUS_OF_MARK[mark]] += count
        running = sum(ticket.status is Status.PROCESSING for ticket in tickets.values())
        counts[ItemStatus.PENDING] -= running
        counts[ItemStatus.PROCESSING] += running
        return BatchState(batch=batch, counts=counts, eta_seconds=self._eta_seconds(batch, marks))

    def _eta_seconds(self, batch: Batch, marks: str) -> int | None:
        """Estimate the seconds until the last item has ended; None if the batch has ended, or its items are unknown.

        The pace of the items that have ended is projected to the others. Before any has ended, the queue's estimate
        counts.
        """
        if batch.cancelled_at is not None or batch.completed_at is not None or not batch.marks:
            return None
        # `due_at` is one lease after the last write of the holder, which renews it several times within a lease.
        elapsed_seconds = batch.due_at - self._store.policy.lease_seconds - batch.created_at
        left = unfinished(marks)
        estimate = self._estimates.eta_seconds(batch.client, position=self._queue.qsize() + left, progress=0.0)
        return round(eta_seconds(marks, elapsed_seconds=elapsed_seconds, estimate=estimate)) + (
            self._upstream.blocked_seconds()
        )


def _shown_marks(batch: Batch) -> str:
    """Return the marks of a batch; in a cancelled one, items without a job are cancelled already."""
    return batch.marks if batch.cancelled_at is None else given_up(batch.marks, Mark.CANCELLED)


def _item_state(items: Sequence[Item], index: int, mark: Mark, ticket: Ticket | None) -> ItemState:
    """Return the state of one item: that of its job if it has one, else what its mark in the batch says."""
    item = items[index]
    status = _STATUS_OF_MARK[mark]
    if mark is Mark.OPEN and ticket is not None:
        status = ItemStatus(ticket.status)
    duplicate_of = None
    if mark is Mark.DUPLICATE and item.video_id is not None:
        duplicate_of = first_like(items, item)
    return ItemState(index=index, item=item, status=status, ticket=ticket, duplicate_of=duplicate_of)
