"""The batches of `tests.fakes.FaultyStore`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from ytmp3.core.batch import Batch, BatchLease, Item
from ytmp3.core.ids import BatchId, JobId
from ytmp3.jobstore.batches import BatchStore, Filling, NewBatch, Refusal

T = TypeVar("T")


class Call(Protocol):
    """Makes a call to the store, with the fault that a test has set for it."""

    def __call__(self, name: str, operation: Callable[[], Awaitable[T]], /) -> Awaitable[T]: ...


class FaultyBatches:
    """The batches of a FaultyStore. The names of its calls begin with `batches.`."""

    def __init__(self, batches: BatchStore, call: Call) -> None:
        self._batches = batches
        self._call = call

    async def create(self, new: NewBatch) -> Batch | Refusal:
        return await self._call("batches.create", lambda: self._batches.create(new))

    async def get(self, batch_id: BatchId) -> Batch | None:
        return await self._call("batches.get", lambda: self._batches.get(batch_id))

    async def items(self, batch_id: BatchId) -> tuple[Item, ...]:
        return await self._call("batches.items", lambda: self._batches.items(batch_id))

    async def cancel(self, batch_id: BatchId) -> Batch | None:
        return await self._call("batches.cancel", lambda: self._batches.cancel(batch_id))

    async def adopt(self, limit: int) -> list[Batch]:
        return await self._call("batches.adopt", lambda: self._batches.adopt(limit))

    async def save(self, lease: BatchLease, marks: str, *, is_ended: bool = False) -> Batch:
        return await self._call("batches.save", lambda: self._batches.save(lease, marks, is_ended=is_ended))

    async def fill(self, lease: BatchLease, filling: Filling) -> Batch:
        return await self._call("batches.fill", lambda: self._batches.fill(lease, filling))

    async def release(self, leases: Sequence[BatchLease]) -> None:
        await self._call("batches.release", lambda: self._batches.release(leases))

    async def expire(self, limit: int) -> int:
        return await self._call("batches.expire", lambda: self._batches.expire(limit))

    async def keep(self, job_ids: Sequence[JobId], seconds: float) -> frozenset[JobId]:
        return await self._call("batches.keep", lambda: self._batches.keep(job_ids, seconds))

    async def unfinished(self) -> int:
        return await self._call("batches.unfinished", self._batches.unfinished)
