"""Reads the webhook messages about a job or a batch, and sends one again, for the routes of deliveries.

The caller has checked that the client may see the job or the batch. `webhooks/` sends the messages.
"""

from ytmp3.core.webhook import Delivery, delivery_id
from ytmp3.engine.jobs import as_request_errors
from ytmp3.jobstore import JobStore


class Deliveries:
    """The messages about a subject: the id of a job, or `core.webhook.batch_subject`. Raises RequestErrors only."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def of(self, subject_id: str) -> list[Delivery]:
        """Return the messages about a subject; none if it has not ended.

        Raises:
            StoreUnavailable
        """
        return await as_request_errors(self._store.outbox.of(subject_id))

    async def redeliver(self, subject_id: str, number: int) -> Delivery | None:
        """Send the message to the target with this number again. Returns None if there is no such message.

        Raises:
            StoreUnavailable
        """
        # Reading makes the messages of a job that has just ended.
        known = {delivery.delivery_id for delivery in await self.of(subject_id)}
        wanted = delivery_id(subject_id, number)
        return await as_request_errors(self._store.outbox.redeliver(wanted)) if wanted in known else None
