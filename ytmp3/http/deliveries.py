"""The routes that show the webhook deliveries of a job or a batch, and send one again."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from ytmp3.core.webhook import Delivery, DeliveryState, batch_subject
from ytmp3.engine.batches import Batches
from ytmp3.engine.deliveries import Deliveries
from ytmp3.engine.jobs import Jobs
from ytmp3.http import headers
from ytmp3.http.admission import owner_in
from ytmp3.http.errors import DeliveryUnknown
from ytmp3.http.keys import Keys
from ytmp3.http.wire import DeliveriesView, DeliveryView

_NUMBER: Final = re.compile("[0-9]", re.ASCII)


class DeliveryHandlers:
    """The handlers. A client that may read a job or a batch may also read its deliveries."""

    def __init__(self, *, deliveries: Deliveries, jobs: Jobs, batches: Batches, keys: Keys) -> None:
        self._deliveries = deliveries
        self._jobs = jobs
        self._batches = batches
        self._keys = keys

    async def of_job(self, request: web.Request) -> web.Response:
        """GET /jobs/ID/deliveries."""
        return await self._list(await self._job(request))

    async def of_batch(self, request: web.Request) -> web.Response:
        """GET /batches/ID/deliveries."""
        return await self._list(await self._batch(request))

    async def redeliver_of_job(self, request: web.Request) -> web.Response:
        """POST /jobs/ID/deliveries/NUMBER/redeliver."""
        return await self._redeliver(await self._job(request), request.match_info["number"])

    async def redeliver_of_batch(self, request: web.Request) -> web.Response:
        """POST /batches/ID/deliveries/NUMBER/redeliver."""
        return await self._redeliver(await self._batch(request), request.match_info["number"])

    async def _job(self, request: web.Request) -> str:
        """Return the subject of the deliveries of a job, which the client may see."""
        owner = owner_in(request, self._keys)
        return (await self._jobs.ticket(request.match_info["job_id"], owner)).job.job_id

    async def _batch(self, request: web.Request) -> str:
        """Return the subject of the deliveries of a batch, which the client may see."""
        owner = owner_in(request, self._keys)
        return batch_subject((await self._batches.find(request.match_info["batch_id"], owner)).batch_id)

    async def _list(self, subject_id: str) -> web.Response:
        found = await self._deliveries.of(subject_id)
        return _json(DeliveriesView(deliveries=[_view(delivery) for delivery in found]))

    async def _redeliver(self, subject_id: str, number: str) -> web.Response:
        # Only the usual spelling of a number is accepted: a subject has at most ten deliveries, 0 to 9.
        if not _NUMBER.fullmatch(number):
            raise DeliveryUnknown
        delivery = await self._deliveries.redeliver(subject_id, int(number))
        if delivery is None:
            raise DeliveryUnknown
        return _json(_view(delivery), status=HTTPStatus.ACCEPTED)


def _view(delivery: Delivery) -> DeliveryView:
    is_pending = delivery.state is DeliveryState.PENDING
    return DeliveryView(
        webhook_id=delivery.delivery_id,
        number=int(delivery.delivery_id.rpartition("-")[2]),
        event=delivery.event,
        endpoint=delivery.endpoint,
        state=delivery.state,
        attempts=delivery.attempts,
        created_at=_moment(delivery.created_at),
        attempted_at=None if delivery.attempted_at is None else _moment(delivery.attempted_at),
        next_attempt_at=_moment(delivery.due_at) if is_pending else None,
        status=delivery.status,
        reason=delivery.reason,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def _json(body: msgspec.Struct, *, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers.extended(headers.JSON, {}))
