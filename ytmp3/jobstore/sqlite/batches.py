"""The batches of the embedded store: `BatchStore` on the tables `batches` and `batch_items`.

As in `ledger`, each operation runs on the writer's thread in one transaction, and does all checks before its first
write. The items of a batch are a record of their own, because its marks change every second and its items never.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from ytmp3.core.batch import Batch, BatchLease, Item
from ytmp3.core.errors import LeaseLost
from ytmp3.core.ids import BatchId, JobId
from ytmp3.core.job import Status
from ytmp3.core.webhook import WebhookEvent, batch_subject
from ytmp3.jobstore.batches import MAX_UNFINISHED, MAX_UNFINISHED_OF_CLIENT, Filling, NewBatch, Refusal
from ytmp3.jobstore.records import (
    decode_batch,
    decode_items,
    encode_batch,
    encode_conversion,
    encode_items,
    unknown_fields,
)
from ytmp3.jobstore.sqlite import queries
from ytmp3.jobstore.sqlite.ledger import Ledger

JOBS_AT_ONCE: Final = 100
"""Most tracks whose expiry one transaction moves. They take about 5 ms."""

T = TypeVar("T")


class Run(Protocol):
    """Runs an operation on the writer's thread, in a transaction, and returns its result when it is durable."""

    def __call__(self, operation: Callable[[Ledger], T], /) -> Awaitable[T]: ...


Read = Callable[[str, tuple[str | float, ...]], Awaitable[list[tuple[Any, ...]]]]
"""Runs a query on the reading connection, in the reading thread."""


class SqliteBatches:
    """See the Protocol `BatchStore`."""

    def __init__(self, run: Run, read: Read) -> None:
        self._run = run
        self._read = read

    async def create(self, new: NewBatch) -> Batch | Refusal:
        return await self._run(lambda ledger: _Batches(ledger).create(new))

    async def get(self, batch_id: BatchId) -> Batch | None:
        """See the Protocol. Reads the last commit, like `get` of the job store."""
        for (record,) in await self._read(queries.SELECT_BATCH, (batch_id,)):
            return decode_batch(record)
        return None

    async def items(self, batch_id: BatchId) -> tuple[Item, ...]:
        """See the Protocol. Items never change, except once when a playlist was read, so the last commit suffices."""
        for (record,) in await self._read(queries.SELECT_BATCH_ITEMS, (batch_id,)):
            return decode_items(record)
        return ()

    async def cancel(self, batch_id: BatchId) -> Batch | None:
        return await self._run(lambda ledger: _Batches(ledger).cancel(batch_id))

    async def adopt(self, limit: int) -> list[Batch]:
        return await self._run(lambda ledger: _Batches(ledger).adopt(limit))

    async def save(self, lease: BatchLease, marks: str, *, is_ended: bool = False) -> Batch:
        return await self._run(lambda ledger: _Batches(ledger).save(lease, marks, is_ended=is_ended))

    async def fill(self, lease: BatchLease, filling: Filling) -> Batch:
        return await self._run(lambda ledger: _Batches(ledger).fill(lease, filling))

    async def release(self, leases: Sequence[BatchLease]) -> None:
        if leases:
            await self._run(lambda ledger: _Batches(ledger).release(leases))

    async def keep(self, job_ids: Sequence[JobId], seconds: float) -> frozenset[JobId]:
        """See the Protocol. One transaction for each JOBS_AT_ONCE, so that other operations are not kept waiting."""
        kept: set[JobId] = set()
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            some = job_ids[start : start + JOBS_AT_ONCE]
            kept.update(await self._run(lambda ledger, some=some: _Batches(ledger).keep(some, seconds)))  # type: ignore[misc]
        return frozenset(kept)

    async def expire(self, limit: int) -> int:
        return await self._run(lambda ledger: _Batches(ledger).expire(limit))

    async def unfinished(self) -> int:
        ((count,),) = await self._read(queries.COUNT_BATCHES, ())
        return int(count)


def recover(ledger: Ledger) -> None:
    """Make all batches of the previous process due at once. Called once, when the file is opened."""
    batches, now = _Batches(ledger), ledger.clock()
    for batch in batches.rows(queries.SELECT_HELD_BATCHES, ()):
        batches.store(replace(batch, holder=None, token=batch.token + 1, due_at=now))


@dataclass(frozen=True, slots=True)
class _Batches:
    """The operations, with the names of the Protocol."""

    ledger: Ledger

    def create(self, new: NewBatch) -> Batch | Refusal:
        """Store a batch and its items, or return why it is refused, or the batch of an earlier call.

        It has no holder and is due at once, so the next `adopt` of any process takes it: this one, or the next one if
        this one dies before.
        """
        known = self._find(new.batch_id)
        if known is not None:
            return known
        if self._count(queries.COUNT_BATCHES_OF_CLIENT, (new.client,)) >= MAX_UNFINISHED_OF_CLIENT:
            return Refusal.CLIENT_FULL
        if self._count(queries.COUNT_BATCHES, ()) >= MAX_UNFINISHED:
            return Refusal.FULL
        now, policy = self.ledger.clock(), self.ledger.policy
        batch = Batch(
            batch_id=new.batch_id,
            client=new.client,
            recipe_spelling=new.recipe.spelling,
            marks=new.marks,
            playlist=new.playlist,
            is_split=new.is_split,
            tags=new.tags,
            due_at=now,
            created_at=now,
            retention_seconds=policy.retention_seconds,
            webhooks=new.webhooks,
        )
        connection = self.ledger.connection
        connection.execute(queries.INSERT_BATCH, (batch.batch_id, batch.client, batch.due_at, encode_batch(batch)))
        connection.execute(queries.INSERT_BATCH_ITEMS, (batch.batch_id, encode_items(new.items)))
        return batch

    def cancel(self, batch_id: BatchId) -> Batch | None:
        """Mark a batch as cancelled, unless it has ended. Its holder sees that when it reads the batch, and ends it.

        The batch does not end here, because its open items have jobs, which must be cancelled first: once a batch has
        ended, none of its jobs is unfinished.
        """
        batch = self._find(batch_id)
        if batch is None or batch.completed_at is not None or batch.cancelled_at is not None:
            return batch
        return self.store(replace(batch, cancelled_at=self.ledger.clock()))

    def adopt(self, limit: int) -> list[Batch]:
        """Take batches that are due, the longest due first. The new token invalidates every earlier lease of them.

        A batch is due when it is new, was released, or its holder has not saved it for the length of a lease.
        """
        now = self.ledger.clock()
        return [
            self.store(
                replace(
                    batch,
                    holder=self.ledger.instance,
                    token=batch.token + 1,
                    due_at=now + self.ledger.policy.lease_seconds,
                )
            )
            for batch in self.rows(queries.SELECT_DUE_BATCHES, (now, limit))
        ]

    def save(self, lease: BatchLease, marks: str, *, is_ended: bool) -> Batch:
        """Replace the marks of the items and extend the lease, or end the batch.

        The end of a batch that was not cancelled is reported to its webhooks, in the same transaction.

        The token is checked before a repeated call is recognised, and the holder after that: an ended batch has no
        holder any more, but keeps the token with which it was ended.

        Raises:
            LeaseLost: another process has the batch, or it has ended otherwise.
        """
        batch = self._find(lease.batch_id)
        if batch is None or batch.token != lease.token:
            raise LeaseLost
        if batch.completed_at is not None and is_ended and batch.marks == marks:
            # A repeated call: the reply to the first one was lost.
            return batch
        if batch.holder != lease.holder:
            raise LeaseLost
        now = self.ledger.clock()
        if is_ended:
            expires_at = now + batch.retention_seconds
            if batch.cancelled_at is None:
                subject_id = batch_subject(batch.batch_id)
                self.ledger.deliveries.announce(subject_id, WebhookEvent.BATCH_COMPLETED, batch.webhooks)
            return self.store(replace(batch, marks=marks, holder=None, completed_at=now, expires_at=expires_at))
        return self.store(replace(batch, marks=marks, due_at=now + self.ledger.policy.lease_seconds))

    def fill(self, lease: BatchLease, filling: Filling) -> Batch:
        """Store what was read of a playlist: the items with their marks, or the error with which the batch ends.

        `save` comes first, because it checks the lease: a refused call must not have written anything.
        """
        saved = self.save(lease, filling.marks, is_ended=filling.is_end)
        self.ledger.connection.execute(queries.UPDATE_BATCH_ITEMS, (encode_items(filling.items), lease.batch_id))
        changes = {"title": filling.title, "is_truncated": filling.is_truncated, "error": filling.error}
        return self.store(replace(saved, **changes))

    def release(self, leases: Sequence[BatchLease]) -> None:
        """Give batches back, which are due at once. The new token invalidates the lease that is given back."""
        now = self.ledger.clock()
        for lease in leases:
            batch = self._find(lease.batch_id)
            if batch is not None and batch.holder is not None and batch.lease == lease:
                self.store(replace(batch, holder=None, token=batch.token + 1, due_at=now))

    def keep(self, job_ids: Sequence[JobId], seconds: float) -> list[JobId]:
        """Let completed tracks exist for `seconds` from now at least. Returns the jobs whose track will."""
        return [job_id for job_id in job_ids if self._keep(job_id, self.ledger.clock() + seconds)]

    def expire(self, limit: int) -> int:
        """Remove batches whose retention is over, with their items and deliveries. Returns how many there were.

        The jobs of a batch are not removed here. They expire with their conversions, which other jobs may share.
        """
        connection = self.ledger.connection
        removed = connection.execute(queries.DELETE_EXPIRED_BATCHES, (self.ledger.clock(), limit)).fetchall()
        connection.executemany(queries.DELETE_BATCH_ITEMS, removed)
        self.ledger.deliveries.forget(batch_subject(batch_id) for (batch_id,) in removed)
        return len(removed)

    def rows(self, query: str, values: tuple[str | float, ...]) -> list[Batch]:
        return [decode_batch(record) for (record,) in self.ledger.connection.execute(query, values).fetchall()]

    def store(self, batch: Batch) -> Batch:
        """Replace the record of a batch, and the columns that queries search by."""
        due_at = batch.due_at if batch.completed_at is None else None
        self.ledger.connection.execute(
            queries.UPDATE_BATCH, (due_at, batch.expires_at, encode_batch(batch), batch.batch_id)
        )
        return batch

    def _keep(self, job_id: JobId, until: float) -> bool:
        """Move an earlier expiry of a completed track to `until`. Returns whether the track exists that long.

        The record and the column of the expiry are changed together, because `expire` searches by the column and
        clients see the record.
        """
        ticket = self.ledger.ticket(job_id)
        if ticket is None or ticket.status is not Status.COMPLETED:
            return False
        conversion = ticket.conversion
        if conversion.expires_at is None or conversion.expires_at >= until:
            return conversion.expires_at is not None
        connection, conversion_id = self.ledger.connection, conversion.conversion_id
        ((record,),) = connection.execute(queries.SELECT_CONVERSION_RECORD, (conversion_id,)).fetchall()
        changed = encode_conversion(replace(conversion, expires_at=until), unknown_fields(record))
        connection.execute(queries.UPDATE_EXPIRY, (until, changed, conversion_id))
        self.ledger.changed.add(conversion_id)
        return True

    def _find(self, batch_id: BatchId) -> Batch | None:
        rows = self.rows(queries.SELECT_BATCH, (batch_id,))
        return rows[0] if rows else None

    def _count(self, query: str, values: tuple[str, ...]) -> int:
        ((count,),) = self.ledger.connection.execute(query, values).fetchall()
        return int(count)
