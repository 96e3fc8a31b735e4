"""The sender: takes deliveries that are due, sends each to its endpoint, and stores the result.

Every instance runs one. The outbox gives each delivery to one instance at a time, under a lease. If the instance dies
between the request and the stored result, the lease runs out and the message is sent again, with the same id.

A delivery ends as failed only if its endpoint or its job is gone, if all attempts have failed, or if the next attempt
would come after the track has expired. Deliveries to an endpoint that does not work wait in the outbox (`pace`).
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from msgspec import Struct

from ytmp3.core.errors import StoreError
from ytmp3.core.ids import ClientId
from ytmp3.core.webhook import Delivery, DeliveryState, Reason, Settlement, WebhookEvent, retry_delay_seconds
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.loops import Loops
from ytmp3.jobstore.outbox import Outbox
from ytmp3.webhooks.endpoints import FROM_REQUEST, Endpoint, Endpoints, UrlRefused, host_of
from ytmp3.webhooks.pace import Pace, Paces
from ytmp3.webhooks.signature import signed_headers
from ytmp3.webhooks.transport import Reply, Transport

log = logging.getLogger(__name__)

MAX_REQUESTS: Final = 64
"""Most requests at the same time, to all endpoints together. Four of them may be to one endpoint, so up to 15 endpoints
that do not respond leave requests for the others."""
TAKE_AT_ONCE: Final = 25
"""Most deliveries taken in one turn. They take 1 to 2 ms of the store's time, for which the operations on jobs wait.
Larger turns would walk through a backlog hardly faster: with 100, the wait is four times as long."""
LEASE_SECONDS: Final = 60.0
"""Length of a lease, in seconds: the longest request (15 s), and enough time to store its result during a short outage
of the store."""
POLL_SECONDS: Final = 1.0
"""Interval, in seconds, at which the outbox is read: a message is sent at most this much after its job has ended."""
BUSY_SECONDS: Final = 0.01
"""The same while more deliveries are due than can be taken at once. It limits the load on the store, which conversions
need too."""
REST: Final = 3.0
"""While more deliveries are due, the pause after a turn is at least this many times as long as the turn. So the sender
uses at most a quarter of the store's time, however slow the machine is."""
SETTLE_PAUSE_SECONDS: Final = 1.0
"""Pause, in seconds, before the next attempt to store a result after an error of the store."""
CLOSE_SECONDS: Final = 3.0
"""Longest time, in seconds, for requests in progress to end when the instance stops."""


class Message(Struct, frozen=True, kw_only=True):
    """The content of a message, with what the sender needs to check before it sends the message."""

    body: bytes
    owner: ClientId
    """The owner of the job or batch. The endpoint must still belong to this owner."""
    expires_at: float | None
    """When the track expires, by the store's clock: no attempt is made from then on."""


Messages: TypeAlias = Callable[[Delivery], Awaitable[Message | None]]
"""Makes the message of a delivery; None if the job or batch no longer has anything to report. Raises StoreError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The sender's clocks and its source of jitter. Tests pass others."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    """For the header `webhook-timestamp`, which receivers compare with their own clock."""
    random: Callable[[], float] = random.random


class WebhookSender:
    """Runs the loop."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        endpoints: Endpoints,
        messages: Mapping[WebhookEvent, Messages],
        transport: Transport,
        events: Events,
        outside: Outside | None = None,
    ) -> None:
        self._outbox = outbox
        self._endpoints = endpoints
        self._messages = messages
        self._transport = transport
        self._events = events
        self._outside = Outside() if outside is None else outside
        self._paces = Paces()
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_more = False
        self._turn_seconds = 0.0
        """How long the last turn took."""
        self._loops = Loops(events)

    def start(self) -> None:
        """Start the loop."""
        self._loops.start({"webhooks": (self.turn, self._interval)})

    async def close(self) -> None:
        """End the loop. Requests that do not end in time are cancelled; their messages are sent again later."""
        await self._loops.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """Use other endpoints, and forget all pauses."""
        self._endpoints.replace(endpoints)
        self._paces.clear()

    async def turn(self) -> None:
        """Take the deliveries that are due, and begin to send them. One that must wait returns to the outbox."""
        self._has_more = False
        if not self._endpoints.are_configured:
            return
        if len(self._tasks) >= MAX_REQUESTS:
            self._has_more = True
            return
        began_at = self._outside.monotonic()
        taken = await self._outbox.take(TAKE_AT_ONCE, lease_seconds=LEASE_SECONDS)
        refused = [settlement for delivery in taken if (settlement := self._begin(delivery)) is not None]
        # A store with shards may return somewhat fewer than the limit.
        self._has_more = len(taken) > TAKE_AT_ONCE // 2
        if refused:
            await self._outbox.settle(refused)
        self._turn_seconds = self._outside.monotonic() - began_at

    def _interval(self) -> float:
        return min(max(BUSY_SECONDS, REST * self._turn_seconds), POLL_SECONDS) if self._has_more else POLL_SECONDS

    def _begin(self, delivery: Delivery) -> Settlement | None:
        """Start the task that sends a delivery, or return why it is not sent now."""
        endpoint = self._endpoints.named(delivery.endpoint)
        if endpoint is None or (endpoint.url == FROM_REQUEST) != (delivery.url is not None):
            return self._given_up(delivery, Reason.ENDPOINT)
        url = delivery.url or endpoint.url
        try:
            pace = self._paces.of(endpoint.name, host_of(url))
        except UrlRefused:
            return self._given_up(delivery, Reason.ENDPOINT)
        if pace.is_disabled and delivery.url is None:
            return self._given_up(delivery, Reason.GONE)
        if len(self._tasks) >= MAX_REQUESTS:
            return _postponed(delivery, POLL_SECONDS)
        wait_seconds = pace.begin(self._outside.monotonic())
        if wait_seconds > 0:
            return _postponed(delivery, wait_seconds)
        task = asyncio.create_task(self._send(delivery, endpoint, url, pace), name=f"webhook {delivery.endpoint}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _send(self, delivery: Delivery, endpoint: Endpoint, url: str, pace: Pace) -> None:
        """Send one message and store the result."""
        began_at = self._outside.monotonic()
        reply: Reply | None = None
        try:
            make = self._messages.get(delivery.event)
            message = None if make is None else await make(delivery)
            refusal = self._refusal(delivery, endpoint, message)
            if refusal is not None or message is None:
                settlement = self._given_up(delivery, refusal or Reason.SUBJECT)
            else:
                timestamp = int(self._outside.wall())
                headers = signed_headers(delivery.delivery_id, timestamp, message.body, endpoint.secrets)
                reply = await self._transport.post(url, headers, message.body)
                settlement = self._result(delivery, message, reply, self._outside.monotonic() - began_at)
            await self._settle(settlement)
        except StoreError as error:
            # The lease runs out, and the delivery is due again.
            self._events.emit(events.StoreFailed(operation="webhooks", error=error))
        except Exception:
            # The outermost frame of a task: an unexpected error must be logged, and must not affect other messages.
            log.exception("webhook failed", extra={"delivery_id": delivery.delivery_id})
        finally:
            now = self._outside.monotonic()
            pace.end(
                now,
                is_failure=reply is not None and reply.reason is not None,
                seconds=now - began_at,
                pause_seconds=0.0 if reply is None else reply.retry_after_seconds or 0.0,
            )
            if reply is not None and reply.reason is Reason.GONE:
                pace.is_disabled = True

    def _refusal(self, delivery: Delivery, endpoint: Endpoint, message: Message | None) -> Reason | None:
        """Return why a message must not be sent, or None."""
        if message is None:
            return Reason.SUBJECT
        if not endpoint.belongs_to(message.owner):
            return Reason.ENDPOINT
        return Reason.EXPIRED if _is_after(_now_of(delivery), message.expires_at) else None

    def _result(self, delivery: Delivery, message: Message, reply: Reply, seconds: float) -> Settlement:
        """Decide what follows an attempt."""
        state, reason, delay_seconds = DeliveryState.DELIVERED, reply.reason, 0.0
        if reason is not None:
            state = DeliveryState.FAILED
            delay = retry_delay_seconds(
                delivery.attempts + 1, self._outside.random(), retry_after_seconds=reply.retry_after_seconds
            )
            if reason is not Reason.GONE:
                if delay is None:
                    reason = Reason.EXHAUSTED
                elif _is_after(_now_of(delivery) + delay, message.expires_at):
                    reason = Reason.EXPIRED
                else:
                    state, delay_seconds = DeliveryState.PENDING, delay
        settlement = Settlement(
            delivery_id=delivery.delivery_id,
            token=delivery.token,
            state=state,
            delay_seconds=delay_seconds,
            status=reply.status,
            reason=reason,
        )
        cause = reply.reason
        self._events.emit(events.WebhookSent(delivery=delivery, settlement=settlement, cause=cause, seconds=seconds))
        return settlement

    def _given_up(self, delivery: Delivery, reason: Reason) -> Settlement:
        """Return that a delivery has failed without a request."""
        settlement = Settlement(
            delivery_id=delivery.delivery_id,
            token=delivery.token,
            state=DeliveryState.FAILED,
            is_attempt=False,
            reason=reason,
        )
        self._events.emit(events.WebhookDropped(delivery=delivery, reason=reason))
        return settlement

    async def _settle(self, settlement: Settlement) -> None:
        """Store a result. Retried until the lease has run out; then an instance sends the message again."""
        give_up_at = self._outside.monotonic() + LEASE_SECONDS
        while True:
            try:
                await self._outbox.settle([settlement])
            except StoreError:
                if self._outside.monotonic() >= give_up_at:
                    raise
                await asyncio.sleep(SETTLE_PAUSE_SECONDS)
            else:
                return


def _postponed(delivery: Delivery, seconds: float) -> Settlement:
    """Return the settlement of a delivery that must wait. The wait does not count as an attempt."""
    return Settlement(
        delivery_id=delivery.delivery_id,
        token=delivery.token,
        state=DeliveryState.PENDING,
        delay_seconds=seconds,
        is_attempt=False,
        reason=delivery.reason,
    )


def _now_of(taken: Delivery) -> float:
    """Return when a delivery was taken, by the store's own clock, which may differ from this machine's."""
    return taken.due_at - LEASE_SECONDS


def _is_after(time_: float, end: float | None) -> bool:
    return end is not None and time_ >= end
