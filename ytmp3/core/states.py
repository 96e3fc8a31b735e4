"""How a conversion may change."""

from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from ytmp3.core.errors import FAILURES, FailureCode, Ytmp3Error
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import Conversion, Metadata, Stage, State, Track

CRASH_LIMIT: Final = 3
"""A conversion that was running at this many crashes of its instance is not tried again (it may be their cause)."""


RETRY_BASE_SECONDS: Final = 2.0


RETRY_CAP_SECONDS: Final = 60.0


class IllegalTransition(Ytmp3Error):
    """A bug: an event that the table does not allow in this state."""


class Event(StrEnum):
    """What can happen to a conversion."""

    CLAIMED = "claimed"
    FINISHED = "finished"
    FAILED = "failed"
    POISONED = "poisoned"
    RETRIED = "retried"
    RELEASED = "released"
    ORPHANED = "orphaned"
    CANCELLED = "cancelled"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.QUEUED, Event.CLAIMED): State.RUNNING,
    (State.QUEUED, Event.RELEASED): State.QUEUED,
    (State.QUEUED, Event.ORPHANED): State.QUEUED,
    (State.QUEUED, Event.CANCELLED): State.CANCELLED,
    (State.RUNNING, Event.FINISHED): State.DONE,
    (State.RUNNING, Event.FAILED): State.FAILED,
    (State.RUNNING, Event.POISONED): State.FAILED,
    (State.RUNNING, Event.RETRIED): State.QUEUED,
    (State.RUNNING, Event.RELEASED): State.QUEUED,
    (State.RUNNING, Event.ORPHANED): State.QUEUED,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
}


LIVE: Final = frozenset({State.QUEUED, State.RUNNING})


ENDED: Final = frozenset({State.DONE, State.FAILED, State.CANCELLED})


def advance(conversion: Conversion, event: Event) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such move.
    """
    try:
        return TRANSITIONS[conversion.state, event]
    except KeyError:
        raise IllegalTransition(f"{conversion.state} cannot be {event}") from None


def held(conversion: Conversion, holder: InstanceId, until: float) -> Conversion:
    """Give a queued conversion to an instance's queue: a new holder, so a new token."""
    return replace(conversion, holder=holder, token=conversion.token + 1, due_at=until)


def claimed(conversion: Conversion, *, now: float, until: float) -> Conversion:
    """A worker starts."""
    return replace(
        conversion,
        state=advance(conversion, Event.CLAIMED),
        stage=Stage.EXTRACTING,
        progress=0.0,
        queue_position=None,
        token=conversion.token + 1,
        due_at=until,
        started_at=conversion.started_at if conversion.started_at is not None else now,
    )


def finished(conversion: Conversion, track: Track, metadata: Metadata, *, now: float, expires_at: float) -> Conversion:
    """The track is published."""
    return replace(
        conversion,
        state=advance(conversion, Event.FINISHED),
        stage=Stage.DONE,
        progress=1.0,
        holder=None,
        track=track,
        metadata=metadata,
        error=None,
        completed_at=now,
        expires_at=expires_at,
    )


def failed(
    conversion: Conversion, code: FailureCode, *, now: float, expires_at: float, event: Event = Event.FAILED
) -> Conversion:
    """The end without a track (`event`: FAILED or POISONED)."""
    return replace(
        conversion,
        state=advance(conversion, event),
        holder=None,
        error=code,
        attempts=conversion.attempts + (event is Event.FAILED),
        completed_at=now,
        expires_at=expires_at,
    )


def cancelled(conversion: Conversion, *, now: float, expires_at: float) -> Conversion:
    """No job rides on it any more."""
    return replace(
        conversion,
        state=advance(conversion, Event.CANCELLED),
        holder=None,
        queue_position=None,
        token=conversion.token + 1,
        completed_at=now,
        expires_at=expires_at,
    )


def retried(conversion: Conversion, code: FailureCode, *, due_at: float) -> Conversion:
    """A tool error, to be tried again by anyone from `due_at` on. Costs an attempt."""
    return replace(_requeued(conversion, Event.RETRIED, due_at), attempts=conversion.attempts + 1, error=code)


def released(conversion: Conversion, *, due_at: float) -> Conversion:
    """Given back unfinished (drain). Costs nothing."""
    return _requeued(conversion, Event.RELEASED, due_at)


def orphaned(conversion: Conversion, *, due_at: float) -> Conversion:
    """The holder stopped renewing. Costs a crash if it was running, nothing if it only waited."""
    crash = conversion.state is State.RUNNING
    return replace(_requeued(conversion, Event.ORPHANED, due_at), crashes=conversion.crashes + crash)


def _requeued(conversion: Conversion, event: Event, due_at: float) -> Conversion:
    return replace(
        conversion,
        state=advance(conversion, event),
        stage=Stage.QUEUED,
        progress=0.0,
        queue_position=None,
        token=conversion.token + 1,
        holder=None,
        due_at=due_at,
    )


def is_stale(conversion: Conversion, *, now: float, retention_seconds: float) -> bool:
    """Whether all who asked have waited longer for the first attempt than the service keeps anything for them."""
    asked_at = conversion.created_at if conversion.joined_at is None else conversion.joined_at
    return conversion.attempts == 0 and now - asked_at > retention_seconds


def should_retry(code: FailureCode, attempts: int, max_retries: int) -> bool:
    """Whether a tool error with `code` is tried again. `attempts` counts the tool errors before this one."""
    return FAILURES[code].retryable and attempts < max_retries


def retry_delay_seconds(attempts: int, chance: float) -> float:
    """Return the wait before the next attempt: full jitter in [0, min(60, 2 * 2^attempts)].

    `chance` is uniform in [0, 1). Full jitter spreads a crowd of retries evenly (AWS Builders' Library).
    """
    return chance * min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2.0 ** min(attempts, 10))
