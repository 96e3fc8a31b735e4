"""The routes that show the webhook deliveries of a job, and send one again."""

from datetime import UTC, datetime

import msgspec
from aiohttp import web

from ytmp3.core.ids import ClientId
from ytmp3.core.webhook import Delivery, DeliveryState
from ytmp3.engine.jobs import Jobs
from ytmp3.http import headers
from ytmp3.http.admission import CLIENT
from ytmp3.http.errors import DeliveryUnknown
from ytmp3.http.keys import Keys
from ytmp3.http.wire import DeliveriesView, DeliveryView


class DeliveryHandlers:
    """The handlers. A client that may read a job may also read its deliveries."""

    def __init__(self, *, jobs: Jobs, keys: Keys) -> None:
        self._jobs = jobs
        self._keys = keys

    async def deliveries(self, request: web.Request) -> web.Response:
        """GET /jobs/ID/deliveries."""
        found = await self._jobs.deliveries(request.match_info["job_id"], self._owner(request))
        return _json(DeliveriesView(deliveries=[_view(delivery) for delivery in found]))

    async def redeliver(self, request: web.Request) -> web.Response:
        """POST /jobs/ID/deliveries/NUMBER/redeliver."""
        number = request.match_info["number"]
        job_id, owner = request.match_info["job_id"], self._owner(request)
        # Only the usual spelling of a number is accepted: a subject has at most ten deliveries, 0 to 9.
        index = int(number) if number.isascii() and number.isdigit() and len(number) == 1 else None
        delivery = await self._jobs.redeliver(job_id, owner, index)
        if delivery is None:
            raise DeliveryUnknown
        return _json(_view(delivery), status=202)

    def _owner(self, request: web.Request) -> ClientId | None:
        return request[CLIENT].owner if self._keys.are_required else None


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


def _json(body: msgspec.Struct, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers.extended(headers.JSON, {}))
