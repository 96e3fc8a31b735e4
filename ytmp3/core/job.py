"""Jobs and conversions: what they are, how they may change, when to try again. Pure: time and chance are arguments.

The law of this room: a conversion changes its state only through `advance`, and `TRANSITIONS` is every change there is.

        ┌──────── retried, released, orphaned ───────┐
        v                                            │
     queued ───────────── claimed ──────────────> running ──> done      (finished)
        │                                            │ ├────> failed    (failed, poisoned)
        └───────────────> cancelled <────────────────┘
"""

import hashlib
import re
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.errors import FAILURES, FailureCode, Ytmp3Error
from ytmp3.core.link import canonical_link

CRASH_LIMIT: Final = 3
"""A conversion that was running at this many crashes of its instance is not tried again (it may be their cause)."""

RETRY_BASE_SECONDS: Final = 2.0
RETRY_CAP_SECONDS: Final = 60.0

JOB_ID: Final = re.compile(r"[0-9a-f]{34}", re.ASCII)
"""Two hex digits of shard, then 128 bits from a CSPRNG. Always used with `fullmatch`."""


class IllegalTransition(Ytmp3Error):
    """A bug: an event that the table does not allow in this state."""


class Quality(StrEnum):
    """The quality of the MP3: constant bit rate in kbit/s, or LAME's variable V presets."""

    K96 = "96k"
    K128 = "128k"
    K160 = "160k"
    K192 = "192k"
    K256 = "256k"
    K320 = "320k"
    V0 = "V0"
    V2 = "V2"
    V5 = "V5"


DEFAULT_QUALITY: Final = Quality.K192


class State(StrEnum):
    """Where a conversion stands."""

    QUEUED = "queued"
    """To be done: at once, or not before a time (a retry). Held by an instance's queue, or by none."""
    RUNNING = "running"
    """A worker has it, under a lease. After a crash the lease runs out and the conversion is orphaned."""
    DONE = "done"
    """The track is published and verified. Absorbing."""
    FAILED = "failed"
    """No track, and an error code says why. Absorbing."""
    CANCELLED = "cancelled"
    """Every job that rode on it was cancelled before its end. Absorbing."""


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


class Stage(StrEnum):
    """What is being done for a conversion right now."""

    QUEUED = "queued"
    EXTRACTING = "extracting"
    DOWNLOADING = "downloading"
    CONVERTING = "converting"
    PUBLISHING = "publishing"
    DONE = "done"


class Status(StrEnum):
    """A job's status, as clients see it: derived, never stored."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Metadata(Struct, frozen=True, kw_only=True):
    """What YouTube says of the video, cleaned where it entered (converter/metadata)."""

    title: str
    uploader: str | None
    duration_seconds: float | None
    thumbnail_url: str | None


class Track(Struct, frozen=True, kw_only=True):
    """A finished, verified MP3. `file_name` is immutable: it holds the conversion's id and the publisher's token."""

    file_name: str
    size_bytes: int
    duration_seconds: float
    sha256: str
    published_at: float


class Lease(Struct, frozen=True, kw_only=True):
    """The right to work on a conversion. Every write carries it; a stale `token` is refused."""

    conversion_id: str
    token: int


class Conversion(Struct, frozen=True, kw_only=True):
    """The work for one key. Times are the store's clock, in seconds since 1970 (UTC)."""

    conversion_id: str
    """34 hex digits: the shard of the key, then chance. Set at creation."""
    key: str
    """`youtube:<id>:<recipe>`: at most one live conversion has it."""
    video_id: str
    quality: Quality
    client: str
    """Who asked first: the queue is served in turn by it."""
    state: State = State.QUEUED
    stage: Stage = Stage.QUEUED
    """Written by the holder with its renewals; back to `queued` on every return to the queue."""
    progress: float = 0.0
    """0 to 1 over all stages; the holder's."""
    queue_position: int | None = None
    """1 is next. A hint from the holding queue, refreshed with its renewals."""
    attempts: int = 0
    """Tool errors so far: each `retried` adds one; compared with MAX_JOB_RETRIES."""
    crashes: int = 0
    """Leases lost while running: each `orphaned` in `running` adds one; compared with CRASH_LIMIT."""
    token: int = 0
    """Grows with every change of holder or claim, never falls."""
    holder: str | None = None
    """The instance that renews the lease; None while nobody holds it."""
    due_at: float
    """Held: when the lease runs out. Not held: from when any instance may adopt it. Meaningless once ended."""
    metadata: Metadata | None = None
    """Set by the holder after the extraction; survives retries."""
    error: FailureCode | None = None
    """The last tool error; final once `failed`."""
    track: Track | None = None
    created_at: float
    joined_at: float | None = None
    """When a job last joined it before its end; None while it has only the one it was created for."""
    started_at: float | None = None
    """The first claim."""
    completed_at: float | None = None
    expires_at: float | None = None
    """Set at the end. From then on the record, its jobs and its file may be removed."""

    @property
    def lease(self) -> Lease:
        return Lease(conversion_id=self.conversion_id, token=self.token)


class Job(Struct, frozen=True, kw_only=True):
    """A client's ticket on a conversion."""

    job_id: str
    conversion_id: str
    client: str
    """The owner: `key:<name>` or `addr:<address>`."""
    deduplicated: bool
    """It joined a conversion that was there already."""
    created_at: float
    cancelled_at: float | None = None


class Ticket(Struct, frozen=True, kw_only=True):
    """A job together with the conversion it rides on: all that a status answer needs."""

    job: Job
    conversion: Conversion

    @property
    def status(self) -> Status:
        if self.job.cancelled_at is not None:
            return Status.CANCELLED
        return _STATUS_OF_STATE[self.conversion.state]

    @property
    def url(self) -> str:
        return canonical_link(self.conversion.video_id)


_STATUS_OF_STATE: Final[dict[State, Status]] = {
    State.QUEUED: Status.PENDING,
    State.RUNNING: Status.PROCESSING,
    State.DONE: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
}


def conversion_key(video_id: str, quality: Quality) -> str:
    """Return the dedup key: one spelling for every spelling of a link."""
    return f"youtube:{video_id}:mp3-{quality.lower()}"


def shard_of(key: str) -> str:
    """Return the key's shard: two hex digits, evenly spread (256 shards)."""
    return hashlib.sha256(key.encode()).hexdigest()[:2]


def new_id(key: str, chance: bytes) -> str:
    """Return an id for a job or a conversion of `key`. `chance` is 16 bytes from a CSPRNG (ASVS 11.5.1)."""
    return shard_of(key) + chance.hex()


def advance(conversion: Conversion, event: Event) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table has no such move.
    """
    try:
        return TRANSITIONS[conversion.state, event]
    except KeyError:
        raise IllegalTransition(f"{conversion.state} cannot be {event}") from None


def held(conversion: Conversion, holder: str, until: float) -> Conversion:
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


def is_stale(conversion: Conversion, *, now: float, lifetime_seconds: float) -> bool:
    """Whether all who asked have waited longer for the first attempt than the service keeps anything for them."""
    asked_at = conversion.created_at if conversion.joined_at is None else conversion.joined_at
    return conversion.attempts == 0 and now - asked_at > lifetime_seconds


def should_retry(code: FailureCode, attempts: int, max_retries: int) -> bool:
    """Whether a tool error with `code` is tried again. `attempts` counts the tool errors before this one."""
    return FAILURES[code].retryable and attempts < max_retries


def retry_delay_seconds(attempts: int, chance: float) -> float:
    """Return the wait before the next attempt: full jitter in [0, min(60, 2 * 2^attempts)].

    `chance` is uniform in [0, 1). Full jitter spreads a crowd of retries evenly (AWS Builders' Library).
    """
    return chance * min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2.0 ** min(attempts, 10))


def eta_seconds(*, position: int | None, seconds_per_conversion: float, workers: int, progress: float) -> int:
    """Return the guessed seconds to the end: the turns of the pool before this conversion, then its own rest."""
    turns = 0.0 if position is None else position / max(1, workers)
    return max(1, round(seconds_per_conversion * (turns + 1.0 - progress)))


def track_file_name(lease: Lease) -> str:
    """Return the immutable name under which a holder publishes: two holders never write the same file."""
    return f"{lease.conversion_id}-{lease.token}.mp3"
