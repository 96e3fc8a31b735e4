"""Makes the messages of webhooks: the job, as `GET /status/ID` shows it, with the type and the time of the event.

The message is made again from the record for each attempt. So a signed link in it is always new, and no message is sent
for a job that was cancelled in the meantime.
"""

from typing import Final

import msgspec

from ytmp3.core.errors import BatchUnknown, StoreDown, StoreUnavailable
from ytmp3.core.ids import parse_job_id
from ytmp3.core.job import Status
from ytmp3.core.webhook import BATCH_PREFIX, Delivery
from ytmp3.engine.batches import Batches
from ytmp3.engine.jobs import Live
from ytmp3.http.addresses import Addresses
from ytmp3.http.batch_view import batch_view
from ytmp3.http.view import job_view, moment
from ytmp3.http.wire import BatchMessage, JobMessage
from ytmp3.jobstore import JobStore
from ytmp3.webhooks.sender import Message

_encode: Final = msgspec.json.Encoder().encode


class BatchMessages:
    """Makes the messages of `batch.completed`."""

    def __init__(self, batches: Batches, store: JobStore, addresses: Addresses) -> None:
        """Set up, as `JobMessages`."""
        self._batches = batches
        self._store = store
        self._addresses = addresses

    async def __call__(self, delivery: Delivery) -> Message | None:
        """Return the message of a delivery; None if its batch has been removed.

        Raises:
            StoreError
        """
        try:
            state = await self._batches.read(delivery.subject_id.removeprefix(BATCH_PREFIX), None)
        except BatchUnknown:
            return None
        except StoreUnavailable as error:
            raise StoreDown("the batch cannot be read") from error
        batch, signer = state.batch, self._addresses.signer
        link_until = None if signer is None else signer.end(await self._store.now(), batch.expires_at)
        data = batch_view(state, self._addresses, link_until)
        body = _encode(BatchMessage(type=delivery.event, timestamp=moment(delivery.created_at), data=data))
        return Message(body=body, owner=batch.client, expires_at=batch.expires_at)


class JobMessages:
    """Makes the messages of `job.completed` and `job.failed`."""

    def __init__(self, store: JobStore, addresses: Addresses) -> None:
        """Set up. With a signer in `addresses`, each message has a signed link to the track."""
        self._store = store
        self._addresses = addresses

    async def __call__(self, delivery: Delivery) -> Message | None:
        """Return the message of a delivery; None if its job was cancelled, or has been removed.

        Raises:
            StoreError
        """
        job_id = parse_job_id(delivery.subject_id)
        ticket = None if job_id is None else await self._store.get(job_id)
        if ticket is None or ticket.status not in {Status.COMPLETED, Status.FAILED}:
            return None
        expires_at, signer = ticket.conversion.expires_at, self._addresses.signer
        link_until = None
        if signer is not None and ticket.status is Status.COMPLETED:
            link_until = signer.end(await self._store.now(), expires_at)
        data = job_view(ticket, Live(), self._addresses, link_until)
        body = _encode(JobMessage(type=delivery.event, timestamp=moment(delivery.created_at), data=data))
        return Message(body=body, owner=ticket.job.client, expires_at=expires_at)
