"""The outbox: the part of the job store that records the webhook messages to send. One Protocol for both adapters.

The contract:

* The end of a conversion and the record that its webhooks must be sent are written in one atomic step (`finish`,
  `fail`, and `adopt` if it ends a conversion as `poison`). The same holds for a job that joins a
  finished conversion (`submit`).
* The cost of this step does not depend on the number of jobs that share the conversion: it only records that the
  conversion has ended. `take` creates the deliveries of its jobs, a limited number at once, and `of` creates those
  of one job.
* An instance takes a delivery under a lease and then settles it. If it dies in between, the lease runs out, and the
  delivery is taken again. So each message is sent at least once, always with the same id.
* A job's deliveries are removed together with the job (`JobStore.expire`).

As in `JobStore`, each operation is atomic, may be repeated, and may raise StoreDown or StoreUnusable.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from ytmp3.core.webhook import Delivery, DeliveryId, Settlement

JOBS_AT_ONCE: Final = 25
"""Most jobs of ended conversions whose deliveries one `take` creates. It limits the time of the step. A store with
shards may exceed it by one job for each shard."""


class Outbox(Protocol):
    """The operations on deliveries. Instances may call them at the same time on one store."""

    async def take(self, limit: int, *, lease_seconds: float) -> list[Delivery]:
        """Take up to `limit` pending deliveries that are due, the longest due first, for `lease_seconds`.

        The returned deliveries have new tokens. Those that are not settled in time are due again.
        """

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Store results. A result whose token is not the current one is ignored, because its lease has run out."""

    async def of(self, subject_id: str) -> list[Delivery]:
        """Return the deliveries of a job or a batch, in the order of its targets; none if it has not ended."""

    async def redeliver(self, delivery_id: DeliveryId) -> Delivery | None:
        """Make a delivery due at once, whatever its state. Returns it, or None for an unknown id."""
