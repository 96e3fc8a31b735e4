"""The records of batches: a part of the job store, with the same contract (`ytmp3.jobstore`).

Every operation is atomic, durable when it returns, and may be repeated. All times are the store's clock. The store
does not interpret items or marks: the holder of a batch computes the marks (`core.batch`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from ytmp3.core.batch import Batch, BatchLease, Item
from ytmp3.core.ids import BatchId, ClientId, JobId
from ytmp3.core.recipe import Recipe
from ytmp3.core.tag_edits import BatchTags
from ytmp3.core.webhook import WebhookTarget

MAX_UNFINISHED_OF_CLIENT: Final = 20
"""Most unfinished batches of one client. With 1,000 items each, they occupy a client's share for days."""
MAX_UNFINISHED: Final = 2000
"""Most unfinished batches of all clients together. They take up to 100 MB in the store, and an instance that feeds all
of them reads each of them every second."""


class NewBatch(Struct, frozen=True, kw_only=True):
    """The arguments of `create`. The caller generates the id."""

    batch_id: BatchId
    client: ClientId
    recipe: Recipe
    marks: str
    items: Sequence[Item]
    webhooks: tuple[WebhookTarget, ...] = ()
    playlist: str | None = None
    """The URL of the playlist that the holder must read first, or of the video. If it is set, there are no marks and
    items yet."""
    is_split: bool = False
    """Whether the items are the chapters of the video."""
    tags: BatchTags | None = None


class Filling(Struct, frozen=True, kw_only=True):
    """The result of reading a playlist, or the chapters of a video."""

    marks: str = ""
    items: Sequence[Item] = ()
    title: str | None = None
    is_truncated: bool = False
    error: str | None = None
    """Why there are no items. An error ends the batch."""

    @property
    def is_end(self) -> bool:
        """Whether this result ends the batch."""
        return self.error is not None


class Refusal(StrEnum):
    """Why a batch was not created."""

    CLIENT_FULL = "client_full"
    """The client has MAX_UNFINISHED_OF_CLIENT unfinished batches."""
    FULL = "full"
    """The store has MAX_UNFINISHED unfinished batches."""


class BatchStore(Protocol):
    """Any method may raise StoreDown or StoreUnusable, and `create` StoreFull."""

    async def create(self, new: NewBatch) -> Batch | Refusal:
        """Store a batch without a holder, due at once. If its id exists already, return that batch."""

    async def get(self, batch_id: BatchId) -> Batch | None:
        """Return a batch, or None for an unknown id."""

    async def items(self, batch_id: BatchId) -> tuple[Item, ...]:
        """Return all items of a batch in order; none for an unknown id."""

    async def cancel(self, batch_id: BatchId) -> Batch | None:
        """Record that the client has cancelled a batch, unless it has ended. The holder then ends it.

        Returns:
            The batch after the change, or None for an unknown id.
        """

    async def adopt(self, limit: int) -> list[Batch]:
        """Take over up to `limit` batches that are due: released ones, and those whose lease has run out."""

    async def save(self, lease: BatchLease, marks: str, *, is_ended: bool = False) -> Batch:
        """Replace the marks and extend the lease, or end the batch. Works in a full store too.

        The step that ends a batch also records the webhook messages about it, unless its client has cancelled it.

        Raises:
            LeaseLost: another instance holds the batch.
        """

    async def fill(self, lease: BatchLease, filling: Filling) -> Batch:
        """Give the batch of a playlist its items, or end it with an error.

        Raises:
            LeaseLost
        """

    async def release(self, leases: Sequence[BatchLease]) -> None:
        """Give batches back, so that any instance may adopt them at once. A lease that is lost is ignored."""

    async def keep(self, job_ids: Sequence[JobId], seconds: float) -> frozenset[JobId]:
        """Let the tracks of these jobs expire `seconds` from now at the earliest.

        Returns:
            The jobs that have a finished track, which is kept now.
        """

    async def expire(self, limit: int) -> int:
        """Remove up to `limit` ended batches whose retention is over. Returns their number."""

    async def unfinished(self) -> int:
        """Count the batches that have not ended."""
