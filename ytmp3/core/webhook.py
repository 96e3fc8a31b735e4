"""The values of webhooks: the targets of a job or a batch, and the records of the messages that must be sent.

A *delivery* is one message to one endpoint, repeated until the endpoint accepts it. It belongs to a *subject*: a job or
a batch. The job store records deliveries (`jobstore/outbox.py`), and `webhooks/` sends them.

After a crash: a delivery is stored in the same step as the end that it reports, so it is never lost. If an instance
dies while it sends one, the lease runs out, and the delivery is sent again with the same id. So a message arrives at
least once, and its receiver recognises a repetition by the id.
"""

from enum import StrEnum
from typing import Final, NewType

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.ids import BatchId

DeliveryId = NewType("DeliveryId", str)
"""The `webhook-id` of a message: the subject's id, a dash, and the number of the target (see `delivery_id`)."""


class WebhookEvent(StrEnum):
    """The `type` of a message. There is none for a cancelled job, because its owner has cancelled it."""

    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    BATCH_COMPLETED = "batch.completed"


BATCH_PREFIX: Final = "batch-"
"""The beginning of a subject's id, if the subject is a batch."""
MAX_TARGETS: Final = 10
"""Most targets of one subject. It limits the work of the steps that create or remove a subject's deliveries."""


class WebhookTarget(Struct, frozen=True, kw_only=True):
    """An endpoint that gets the messages about a subject. Stored with the subject, so it contains no secret."""

    endpoint: str
    """The name of an endpoint in WEBHOOKS_FILE, which has the secret."""
    url: str | None = None
    """The URL that the request named; None: the URL of the endpoint."""
    events: tuple[WebhookEvent, ...] = tuple(WebhookEvent)
    """The events that the endpoint wants."""


class DeliveryState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    """To be sent at `due_at`. While an instance sends it, that is the end of its lease."""
    DELIVERED = "delivered"
    """The endpoint has responded with a status from 200 to 299."""
    FAILED = "failed"
    """The service makes no further attempts, and `reason` says why. The client can send it again (`redeliver`)."""


class Reason(StrEnum):
    """Why an attempt, or the whole delivery, failed. A label of metrics, and shown to the owner."""

    STATUS = "status"
    """The endpoint responded with a status outside 200 to 299, which is in `status`."""
    REDIRECT = "redirect"
    """The endpoint responded with a redirect. Redirects are not followed: they could lead to a private address."""
    GONE = "gone"
    """The endpoint responded with 410: it wants no more messages."""
    TIMEOUT = "timeout"
    """The endpoint did not respond in time."""
    CONNECTION = "connection"
    """No connection: the name is unknown, or the host does not reply, or it broke the connection."""
    TLS = "tls"
    """The endpoint's certificate is not valid for its name, or it does not speak TLS."""
    ADDRESS = "address"
    """The endpoint's address is private, and WEBHOOK_PRIVATE_HOSTS does not list it."""
    ENDPOINT = "endpoint"
    """WEBHOOKS_FILE no longer has the endpoint, or not for this owner."""
    SUBJECT = "subject"
    """The job was cancelled or removed before the message was sent."""
    EXPIRED = "expired"
    """The job's track would have expired before the next attempt."""
    EXHAUSTED = "exhausted"
    """All attempts of the schedule have failed."""


class Delivery(Struct, frozen=True, kw_only=True):
    """The stored record of one message to one endpoint. All times are the store's clock, in seconds since 1970."""

    delivery_id: DeliveryId
    subject_id: str
    """The id of the job, or `batch_subject`."""
    event: WebhookEvent
    endpoint: str
    """See `WebhookTarget`."""
    url: str | None = None
    """See `WebhookTarget`."""
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    """Requests since the delivery was created, or since the last `redeliver`."""
    token: int = 0
    """The fencing token: each `take`, `settle` and `redeliver` raises it, so an instance whose lease has run out
    cannot overwrite the result of another one."""
    created_at: float
    due_at: float
    """The earliest time of the next attempt, or the end of the lease. Has no meaning unless `pending`."""
    attempted_at: float | None = None
    """When the result of the last attempt was stored; None before."""
    status: int | None = None
    """The HTTP status of the last attempt; None if there was no response."""
    reason: Reason | None = None
    """Why the last attempt failed; None if it succeeded or there was none."""


class Settlement(Struct, frozen=True, kw_only=True):
    """The result of handling a delivery that an instance has taken."""

    delivery_id: DeliveryId
    token: int
    """That of the delivery as it was taken."""
    state: DeliveryState
    delay_seconds: float = 0.0
    """If it is pending: how long from now the next attempt is due."""
    is_attempt: bool = True
    """Whether a request was attempted. Otherwise the delivery was only postponed or dropped."""
    status: int | None = None
    reason: Reason | None = None


def batch_subject(batch_id: BatchId) -> str:
    """Return the id of a batch as a subject. It differs from every job's id, which has the same form as a batch's."""
    return f"{BATCH_PREFIX}{batch_id}"


def delivery_id(subject_id: str, number: int) -> DeliveryId:
    """Return the id of the message to the target with this number. The same in every attempt, and after a crash."""
    return DeliveryId(f"{subject_id}-{number}")


def deliveries_of(
    subject_id: str, event: WebhookEvent, targets: tuple[WebhookTarget, ...], *, now: float
) -> list[Delivery]:
    """Return the deliveries of an event, due at once. `lua/outbox.lua` makes the same records."""
    return [
        Delivery(
            delivery_id=delivery_id(subject_id, number),
            subject_id=subject_id,
            event=event,
            endpoint=target.endpoint,
            url=target.url,
            created_at=now,
            due_at=now,
        )
        for number, target in enumerate(targets)
        if event in target.events
    ]


def taken(delivery: Delivery, *, until: float) -> Delivery:
    """Lease a delivery to an instance that sends it. If the instance dies, the delivery is due again at `until`."""
    return replace(delivery, token=delivery.token + 1, due_at=until)


def accepts(delivery: Delivery, settlement: Settlement) -> bool:
    """Return whether a result may be stored. If not, another instance has the delivery, or the call is a repetition."""
    return delivery.state is DeliveryState.PENDING and delivery.token == settlement.token


def settled(delivery: Delivery, settlement: Settlement, *, now: float) -> Delivery:
    """Store the result of an attempt, of a postponement or of giving up."""
    changed = replace(
        delivery,
        state=settlement.state,
        token=delivery.token + 1,
        due_at=now + settlement.delay_seconds,
        reason=settlement.reason,
    )
    if not settlement.is_attempt:
        return changed
    return replace(changed, attempts=delivery.attempts + 1, attempted_at=now, status=settlement.status)


def redelivered(delivery: Delivery, *, now: float) -> Delivery:
    """Make a delivery due at once, whatever its state, with all attempts of the schedule still available."""
    return replace(delivery, state=DeliveryState.PENDING, token=delivery.token + 1, attempts=0, due_at=now)


RETRY_SECONDS: Final = (5.0, 30.0, 300.0, 1800.0, 3600.0, 7200.0, 14_400.0, 21_600.0)
"""Waits before the second attempt and each later one, in seconds: 14 hours in all, within the default retention of 24
hours, after which the track is gone. Standard Webhooks 1.0.0 recommends exponentially growing waits, over days."""
JITTER: Final = 0.2
"""Largest part of a wait that is added to it at random, so that messages to an endpoint that was down for a while do
not all arrive in the same second."""
LONGEST_DELAY_SECONDS: Final = max(RETRY_SECONDS) * (1.0 + JITTER)
"""Longest wait before an attempt, in seconds."""
MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""Upper bound, in seconds, of an endpoint's `Retry-After`. A longer wait would skip attempts of the schedule."""


def retry_delay_seconds(attempts: int, chance: float, *, retry_after_seconds: float | None = None) -> float | None:
    """Return the wait after the `attempts`-th attempt has failed, or None if it was the last one.

    `chance` is uniform in [0, 1). An endpoint may ask for a longer wait with `Retry-After`.
    """
    if attempts > len(RETRY_SECONDS):
        return None
    asked = min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
    return max(RETRY_SECONDS[attempts - 1] * (1.0 + JITTER * chance), asked)
