"""The state machine of a conversion: the table of transitions, and one function for each. Time is an argument.

        ┌──────── retried, released, orphaned ───────┐
        v                                            │
     queued ───────────── claimed ──────────────> running ──> done      (finished)
        │                                            │ ├────> failed    (failed, poisoned)
        └───────────────> cancelled <────────────────┘

Python code changes a state only with the functions below. They call `advance`, which raises if the transition is not in
`TRANSITIONS`. The SQLite adapter uses these functions. The Redis adapter cannot use them, because its transitions are
Lua scripts that run inside the Redis server. The contract suite (tests/contract) therefore runs the same tests against
both adapters, and a model compares them after every step of random programs. The names of states and stages in the
scripts are generated from the enumerations of `core/job`.

After a crash: every transition is one transaction of the store, so a conversion is always in exactly one state. When an
instance dies, its conversions stay `queued` or `running` with this instance as holder. Their leases run out. The next
`adopt` of any instance applies the transition `orphaned` and becomes their holder.
"""

from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from ytmp3.core.errors import FAILURES, FailureCode, Fault, Ytmp3Error
from ytmp3.core.ids import ClientId, ConversionId, ConversionKey, InstanceId, VideoId, place_of
from ytmp3.core.job import Conversion, Metadata, Stage, State, Track

CRASH_LIMIT: Final = 3
"""Number of crashes, each with the conversion running, after which the conversion fails with the code `poison`. It may
itself cause the crashes, and then every further attempt would take another instance down. If all crashes happened at
one place, it is first tried at another one, because the fault may be with that instance."""
ELSEWHERE_SECONDS: Final = 30.0
"""How long, in seconds, an instance leaves such a conversion to the others before it fails it itself: many of their
searches for due conversions, so that one of them gets a free slot. In SQLite there is no such wait, because there are
no others."""
RETRY_BASE_SECONDS: Final = 2.0
"""Upper bound of the wait before the first retry, in seconds. It doubles with each attempt."""
RETRY_CAP_SECONDS: Final = 60.0
"""Upper bound of the wait, in seconds, before most retries: a client that watches its job sees it move within a minute.
"""
YOUTUBE_RETRY_SECONDS: Final = 240.0
"""Upper bound of the wait, in seconds, before the third retry and each later one, where YouTube is at fault.

The first two retries help with short faults. Later ones usually mean an incident at YouTube, which lasts for minutes at
least.
"""
SHORT_RETRIES: Final = 2
"""Number of retries with a short wait, if YouTube is at fault."""
FREE_WAIT_SECONDS: Final = 3600.0
"""For so long after its creation, in seconds, a conversion is retried free of charge if this yt-dlp release fails. It
is enough for ten attempts, and for an operator to install a newer release after the alert."""
SHORTEST_FREE_DELAY_SECONDS: Final = 15.0
"""Lower bound of the wait, in seconds, before an attempt that follows one which did not count."""
LONGEST_DELAY_SECONDS: Final = 1800.0
"""Upper bound of the wait, in seconds, before any attempt: all are retried within half an hour after a fault ends."""
HEAD_START_SECONDS: Final = 3.0
"""How long, in seconds, a retry that is due is left to the instances that have not just failed the conversion: three of
their searches for due conversions (`engine.janitor.ADOPT_SECONDS`).

An instance may be faulty without knowing it. It fails fast, so it is idle again at once, and would adopt most retries
and use up their attempts. Afterwards the instance may adopt the conversion too, because it may be the only one. In
SQLite there is only one instance, so there is no such wait.
"""
LIFETIMES_TO_WAIT: Final = 2
"""Longest wait of a conversion if jobs keep joining it, in retention periods (JOB_EXPIRATION_HOURS)."""


class IllegalTransition(Ytmp3Error):
    """A bug of ours: a transition that the table does not allow from this state."""


class Transition(StrEnum):
    """What can happen to a conversion: the name of each change of its state."""

    CLAIMED = "claimed"
    """A worker of the holder starts an attempt."""
    FINISHED = "finished"
    """A worker has published the track."""
    FAILED = "failed"
    """The attempt ended with an error that is not retried."""
    POISONED = "poisoned"
    """The lease ran out while the conversion was running, for the CRASH_LIMIT-th time or a later one (`is_poison`)."""
    RETRIED = "retried"
    """The attempt ended with an error that is retried later."""
    RELEASED = "released"
    """The holder shuts down and gives the unfinished conversion back to the store."""
    ORPHANED = "orphaned"
    """The holder stopped renewing the lease: it died, froze, or lost its connection to the store."""
    CANCELLED = "cancelled"
    """All jobs of the conversion have been cancelled."""


TRANSITIONS: Final[dict[tuple[State, Transition], State]] = {
    (State.QUEUED, Transition.CLAIMED): State.RUNNING,
    (State.QUEUED, Transition.RELEASED): State.QUEUED,
    (State.QUEUED, Transition.ORPHANED): State.QUEUED,
    (State.QUEUED, Transition.CANCELLED): State.CANCELLED,
    (State.RUNNING, Transition.FINISHED): State.DONE,
    (State.RUNNING, Transition.FAILED): State.FAILED,
    (State.RUNNING, Transition.POISONED): State.FAILED,
    (State.RUNNING, Transition.RETRIED): State.QUEUED,
    (State.RUNNING, Transition.RELEASED): State.QUEUED,
    (State.RUNNING, Transition.ORPHANED): State.QUEUED,
    (State.RUNNING, Transition.CANCELLED): State.CANCELLED,
}
"""All legal transitions: the next state, by the present state and the transition."""

LIVE: Final = frozenset({State.QUEUED, State.RUNNING})
"""The states with work to do. The others are final: no transition leads out of them."""


def advance(conversion: Conversion, transition: Transition) -> State:
    """Return the state after a transition.

    Raises:
        IllegalTransition: `TRANSITIONS` does not allow this transition from the present state.
    """
    try:
        return TRANSITIONS[conversion.state, transition]
    except KeyError:
        raise IllegalTransition(f"{conversion.state} cannot be {transition}") from None


def created(
    *,
    conversion_id: ConversionId,
    key: ConversionKey,
    video_id: VideoId,
    client: ClientId,
    holder: InstanceId,
    now: float,
    until: float,
) -> Conversion:
    """Return a new conversion: queued, and held from the start by the instance that creates it.

    A new conversion has a holder, so no instance has to adopt it before it can start. If the instance dies before it
    has queued the conversion, the lease runs out at `until` like any other. `lua/submit.lua` writes the same record;
    the contract suite compares both with this function.
    """
    blank = Conversion(
        conversion_id=conversion_id,
        key=key,
        video_id=video_id,
        client=client,
        created_at=now,
        due_at=now,
    )
    return held(blank, holder, until)


def held(conversion: Conversion, holder: InstanceId, until: float) -> Conversion:
    """Give a queued conversion to an instance. The token grows, so the previous holder can no longer write."""
    return replace(conversion, holder=holder, token=conversion.token + 1, due_at=until)


def claimed(conversion: Conversion, *, now: float, until: float) -> Conversion:
    """Start an attempt. Only the first claim sets `started_at`, so a client sees the time of all attempts together."""
    return replace(
        conversion,
        state=advance(conversion, Transition.CLAIMED),
        stage=Stage.EXTRACTING,
        progress=0.0,
        queue_position=None,
        token=conversion.token + 1,
        due_at=until,
        started_at=conversion.started_at if conversion.started_at is not None else now,
    )


def finished(conversion: Conversion, track: Track, metadata: Metadata, *, now: float, expires_at: float) -> Conversion:
    """End with a track. The token stays, so a repeated `finish` of the same holder is recognised."""
    return replace(
        conversion,
        state=advance(conversion, Transition.FINISHED),
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
    conversion: Conversion,
    code: FailureCode,
    *,
    now: float,
    expires_at: float,
    transition: Transition = Transition.FAILED,
) -> Conversion:
    """End without a track. `transition` is FAILED, which counts the attempt, or POISONED, which does not.

    Stage and progress stay as they were, so that a client sees how far the attempt came.
    """
    return replace(
        conversion,
        state=advance(conversion, transition),
        holder=None,
        error=code,
        attempts=conversion.attempts + (transition is Transition.FAILED),
        completed_at=now,
        expires_at=expires_at,
    )


def cancelled(conversion: Conversion, *, now: float, expires_at: float) -> Conversion:
    """End because all jobs were cancelled. The token grows, so a worker that is still running can no longer write."""
    return replace(
        conversion,
        state=advance(conversion, Transition.CANCELLED),
        holder=None,
        queue_position=None,
        token=conversion.token + 1,
        completed_at=now,
        expires_at=expires_at,
    )


def given_up(conversion: Conversion, *, now: float) -> Conversion:
    """Let a finished conversion expire now, because the last of its jobs was cancelled: no client needs the track."""
    return replace(conversion, expires_at=min(now, conversion.expires_at or now))


def retried(conversion: Conversion, code: FailureCode, *, due_at: float, costs_attempt: bool = True) -> Conversion:
    """Go back to the queue after an error, to be adopted by any instance from `due_at` on."""
    attempts = conversion.attempts + costs_attempt
    requeued = _requeued(conversion, Transition.RETRIED, due_at)
    return replace(requeued, attempts=attempts, error=code, failed_by=conversion.holder)


def released(conversion: Conversion, *, due_at: float) -> Conversion:
    """Requeue because the holder shuts down. Counts neither an attempt nor a crash."""
    return _requeued(conversion, Transition.RELEASED, due_at)


def orphaned(conversion: Conversion, *, due_at: float) -> Conversion:
    """Requeue because the lease ran out. Counts a crash if the conversion was running, and nothing if it was queued."""
    requeued = _requeued(conversion, Transition.ORPHANED, due_at)
    if conversion.state is not State.RUNNING:
        return requeued
    crashed_at = _holder_place(conversion) if has_crashed_here_only(conversion) else ""
    return replace(requeued, crashes=conversion.crashes + 1, crashed_at=crashed_at)


def has_crashed_here_only(conversion: Conversion) -> bool:
    """Return whether all crashes so far, with the present one, happened at the place of the holder."""
    return conversion.crashes == 0 or conversion.crashed_at == _holder_place(conversion)


def _holder_place(conversion: Conversion) -> str:
    return place_of(conversion.holder or InstanceId(""))


def _requeued(conversion: Conversion, transition: Transition, due_at: float) -> Conversion:
    return replace(
        conversion,
        state=advance(conversion, transition),
        stage=Stage.QUEUED,
        progress=0.0,
        queue_position=None,
        token=conversion.token + 1,
        holder=None,
        due_at=due_at,
    )


def is_poison(conversion: Conversion, *, adopter: InstanceId, crash_limit: int) -> bool:
    """Return whether a conversion whose lease ran out must fail instead of being queued again by `adopter`.

    An instance that crashes at every conversion, for example because it has too little memory, must not fail the jobs
    of all. So at the limit, a conversion that has crashed at one place only gets an attempt at another place.
    `lua/adopt.lua` implements the same rule.
    """
    if conversion.state is not State.RUNNING or conversion.crashes + 1 < crash_limit:
        return False
    return not has_crashed_here_only(conversion) or _holder_place(conversion) == place_of(adopter)


def retention_of(conversion: Conversion, retention_seconds: float) -> float:
    """Return how long the jobs of a conversion are kept; `retention_seconds` is the policy of this instance's store."""
    return retention_seconds if conversion.retention_seconds is None else conversion.retention_seconds


def promised(conversion: Conversion, retention_seconds: float) -> Conversion:
    """Extend the retention of a conversion to at least that of the instance that adds a job to it."""
    longest = max(retention_seconds, retention_of(conversion, retention_seconds))
    return replace(conversion, retention_seconds=longest)


def joined(conversion: Conversion, *, now: float, retention_seconds: float) -> Conversion:
    """Add a further job to a conversion that takes jobs. The job gets the retention of its own instance.

    This never shortens the retention of an earlier job. `lua/submit.lua` implements the same rule.
    """
    kept = promised(conversion, retention_seconds)
    if kept.state is State.DONE:
        return replace(kept, expires_at=max(kept.expires_at or 0.0, now + retention_seconds))
    return replace(kept, joined_at=now)


def takes_jobs(conversion: Conversion, *, now: float, retention_seconds: float) -> bool:
    """Return whether a new job with the same key may join the conversion. `JobStore.forget` overrides this.

    A finished conversion takes jobs for one retention period from its end, although each job that joins moves its
    expiry. So a track that is requested every day is converted again from time to time. `lua/submit.lua` implements the
    same rule.
    """
    if conversion.state is not State.DONE:
        return conversion.state in LIVE
    retention_seconds = retention_of(conversion, retention_seconds)
    return conversion.completed_at is not None and conversion.completed_at + retention_seconds > now


def asked_at(conversion: Conversion) -> float:
    """Return when the latest job of an unfinished conversion was submitted."""
    return conversion.created_at if conversion.joined_at is None else conversion.joined_at


def is_stale(conversion: Conversion, *, now: float, retention_seconds: float) -> bool:
    """Return whether a conversion has waited longer than one retention period since its latest job was submitted.

    The engine then fails it instead of starting it, because the clients have most likely given up. So every wait is
    bounded, even if attempts that do not count are repeated. A second bound, LIFETIMES_TO_WAIT, applies from its
    creation, in case jobs keep joining.
    """
    retention_seconds = retention_of(conversion, retention_seconds)
    return (
        now - asked_at(conversion) > retention_seconds
        or now - conversion.created_at > LIFETIMES_TO_WAIT * retention_seconds
    )


def code_of_stale(conversion: Conversion) -> FailureCode:
    """Return the failure code of a stale conversion: that of its last attempt, or `expired_waiting` without one."""
    return FailureCode.EXPIRED_WAITING if conversion.error is None else conversion.error


def costs_an_attempt(fault: Fault, *, is_paused: bool, waited_seconds: float) -> bool:
    """Return whether a failed attempt counts against MAX_JOB_RETRIES. `is_paused`: whether the breaker is open.

    A fault that affects every video does not count, and neither does one of this instance's disk. If YouTube failed or
    refused, the failure counts only while the breaker is closed, because then it probably concerns this video. The same
    holds for a fault of the yt-dlp release once the conversion has waited `FREE_WAIT_SECONDS`: if other conversions
    succeeded all that time, this yt-dlp fails for this video alone, and its client should get the failure.
    """
    match fault:
        case Fault.YOUTUBE | Fault.ADDRESS:
            return not is_paused
        case Fault.RELEASE:
            return not is_paused and waited_seconds > FREE_WAIT_SECONDS
        case _:
            return fault in {Fault.VIDEO, Fault.OURS}


def should_retry(code: FailureCode, attempts: int, max_retries: int) -> bool:
    """Return whether to retry after a counted attempt that ended with `code`. `attempts` does not include it yet."""
    return FAILURES[code].retryable and attempts < max_retries


def retry_delay_seconds(code: FailureCode, attempts: int, chance: float) -> float:
    """Return the wait before the next attempt: full jitter in [0, min(60, 2 * 2^attempts)].

    `chance` is uniform in [0, 1). Full jitter spreads retries that become due together evenly over the whole wait
    ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Where YouTube is at fault, later retries wait
    from two to four minutes.
    """
    if FAILURES[code].fault in {Fault.YOUTUBE, Fault.ADDRESS} and attempts >= SHORT_RETRIES:
        return YOUTUBE_RETRY_SECONDS * (1.0 + chance) / 2.0
    return chance * min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2.0 ** min(attempts, 10))


def free_delay_seconds(waited_seconds: float, chance: float) -> float:
    """Return the wait after an attempt that did not count: half as long as the conversion has existed, within bounds.

    So the waits grow without a count of them, and a conversion makes at most some 60 such attempts in a day.
    """
    growing = max(SHORTEST_FREE_DELAY_SECONDS, min(LONGEST_DELAY_SECONDS, waited_seconds / 2.0))
    return growing * (3.0 + chance) / 4.0
