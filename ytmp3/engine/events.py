"""The events of the engine: immutable values, each emitted once.

The part of the engine that makes a change emits the event. If the job store records the change, the event is emitted
after the store has confirmed it. Listeners turn events into metrics, log lines, the counts of `/stats` and the
estimates. A new listener (a stream to a client, a webhook) needs no change in the engine.

The one rule: listeners are called synchronously, on the event loop. A listener must not block and must not call back
into the engine. This module makes no decisions, and its only state is the list of listeners.

Why synchronously: a listener sees an event before anything else happens, so metrics and log lines have the order of the
changes, and no event can be lost in a queue. Nothing that must survive a crash may depend on an event. A webhook, for
example, is recorded by the job store, in the step that ends the conversion.
"""

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from ytmp3.core.batch import Batch
from ytmp3.core.errors import FailureCode, Fault, StoreError
from ytmp3.core.job import Conversion, Report, Stage, Ticket
from ytmp3.core.webhook import Delivery, Reason, Settlement
from ytmp3.jobstore import Outcome

log = logging.getLogger(__name__)


class Accepted(Struct, frozen=True, kw_only=True):
    """A job is durable. `outcome` says whether it created a conversion, joined one, or found a finished track."""

    ticket: Ticket
    outcome: Outcome


class BatchAccepted(Struct, frozen=True, kw_only=True):
    """A batch is durable. Its items have no jobs yet."""

    batch: Batch


class BatchCancelled(Struct, frozen=True, kw_only=True):
    """A client cancelled a batch. Its holder cancels its jobs, and then ends it."""

    batch: Batch


class BatchEnded(Struct, frozen=True, kw_only=True):
    """The last item of a batch has ended, and the store has recorded it. Emitted by the holder."""

    batch: Batch


class BatchesAdopted(Struct, frozen=True, kw_only=True):
    """This instance feeds these batches now: they were released, or their holder stopped renewing its lease."""

    batches: tuple[Batch, ...]


class JobCancelled(Struct, frozen=True, kw_only=True):
    """A client cancelled a job. The conversion continues while other jobs share it (see `Cancelled`)."""

    ticket: Ticket


class Started(Struct, frozen=True, kw_only=True):
    """A worker has claimed the conversion, and its attempt begins."""

    conversion: Conversion


class Progressed(Struct, frozen=True, kw_only=True):
    """The converter reported progress. Not durable yet: the next renewal carries it to the store."""

    conversion: Conversion
    report: Report


class Retried(Struct, frozen=True, kw_only=True):
    """An attempt failed and counts. The conversion is queued again, and due after `delay_seconds`."""

    conversion: Conversion
    """The conversion as it was claimed: `attempts` does not count this attempt yet."""
    code: FailureCode
    reason: str
    delay_seconds: float
    stage_seconds: Mapping[str, float] = {}


class Postponed(Struct, frozen=True, kw_only=True):
    """An attempt failed for a reason that affects every video. It does not count, and the conversion is requeued."""

    conversion: Conversion
    code: FailureCode
    reason: str
    delay_seconds: float
    """Time until the conversion is due. While new starts are paused, it does not start in this instance even then."""
    stage_seconds: Mapping[str, float] = {}


class UpstreamPaused(Struct, frozen=True, kw_only=True):
    """The breaker has opened, or a trial has failed. No conversion starts in this instance for `pause_seconds`."""

    cause: Fault
    pause_seconds: float


class UpstreamResumed(Struct, frozen=True, kw_only=True):
    """A trial has succeeded: conversions start again. Nothing but trials did for `open_seconds`."""

    cause: Fault
    open_seconds: float


class IdentityPaused(Struct, frozen=True, kw_only=True):
    """An identity is closed, or its trial has failed. No conversion starts through it for `pause_seconds`."""

    name: str
    cause: Fault
    pause_seconds: float


class IdentityResumed(Struct, frozen=True, kw_only=True):
    """The trial of an identity has succeeded: conversions use it again."""

    name: str
    cause: Fault


class Released(Struct, frozen=True, kw_only=True):
    """This instance drains, and has given the running conversion back to the store. No attempt is counted."""

    conversion: Conversion


class Finished(Struct, frozen=True, kw_only=True):
    """The track is published and recorded."""

    conversion: Conversion
    seconds: float
    """Time from the claim to the confirmation of the store."""
    stage_seconds: Mapping[Stage, float]


class Failed(Struct, frozen=True, kw_only=True):
    """The conversion has ended without a track, for all of its jobs. Emitted once for a conversion."""

    conversion: Conversion
    """The conversion as it was claimed: `attempts` does not count the last attempt."""
    code: FailureCode
    reason: str
    seconds: float | None
    """Time from the claim to the end; None if no attempt was made."""
    stage_seconds: Mapping[str, float] = {}


class Cancelled(Struct, frozen=True, kw_only=True):
    """All jobs of the conversion were cancelled. It was removed from the queue, or its attempt was stopped."""

    conversion: Conversion


class LeaseLost(Struct, frozen=True, kw_only=True):
    """Another instance holds the conversion now. The attempt here was stopped without publishing anything."""

    conversion: Conversion


class Adopted(Struct, frozen=True, kw_only=True):
    """Conversions that were due, and that no instance held, are in this instance's queue now."""

    conversions: tuple[Conversion, ...]


class TrackExpired(Struct, frozen=True, kw_only=True):
    """A track reached the end of its retention; its file and its records are removed."""

    file_name: str


class StoreFailed(Struct, frozen=True, kw_only=True):
    """A call to the job store failed. The caller retries it, at once or in the next iteration of its loop."""

    operation: str
    """The method of JobStore, or the loop that called it."""
    error: StoreError


class WebhookSent(Struct, frozen=True, kw_only=True):
    """A request to a webhook endpoint has ended. `settlement` says what follows; it is stored next."""

    delivery: Delivery
    """The delivery as it was taken: `attempts` does not count this request yet."""
    settlement: Settlement
    cause: Reason | None
    """Why this request failed; None if it succeeded."""
    seconds: float


class WebhookDropped(Struct, frozen=True, kw_only=True):
    """A delivery has failed without a request."""

    delivery: Delivery
    reason: Reason


class ProbeOutcome(StrEnum):
    """The outcome of a `POST /probe`."""

    EXTRACTED = "extracted"
    """YouTube was asked because of this request."""
    JOINED = "joined"
    """Another request had begun the extraction."""
    CACHED = "cached"
    """The result of an earlier request was used."""
    LATE = "late"
    """The extraction took longer than a request waits. A later request gets its result."""


class ProbeAnswered(Struct, frozen=True, kw_only=True):
    """A `POST /probe` was answered."""

    outcome: ProbeOutcome
    code: FailureCode | None
    """Why there is no description; None: there is one, or it is late."""


class LoopLagged(Struct, frozen=True, kw_only=True):
    """A timer of the event loop fired this much too late. A measurement, emitted ten times a second."""

    seconds: float


Event: TypeAlias = (
    Accepted
    | BatchAccepted
    | BatchCancelled
    | BatchEnded
    | BatchesAdopted
    | JobCancelled
    | Started
    | Progressed
    | Retried
    | Postponed
    | UpstreamPaused
    | UpstreamResumed
    | IdentityPaused
    | IdentityResumed
    | Released
    | Finished
    | Failed
    | Cancelled
    | LeaseLost
    | Adopted
    | TrackExpired
    | StoreFailed
    | WebhookSent
    | WebhookDropped
    | ProbeAnswered
    | LoopLagged
)
Listener: TypeAlias = Callable[[Event], None]


class Events:
    """Passes each event to all listeners, in the order in which they were added."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)

    def listen(self, listener: Listener) -> None:
        """Add a listener; it receives the events from now on."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Call every listener. An error in a listener is logged, and affects neither the engine nor other listeners."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                # The outermost frame of a listener: a conversion must not fail because of an error in a metric or log.
                log.exception("event listener failed", extra={"kind": type(event).__name__})
