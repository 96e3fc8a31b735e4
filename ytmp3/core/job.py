"""Jobs and conversions: what they are, how they may change, when to try again. Pure: time and chance are arguments.

The law of this room: a conversion changes its state only through `advance`, and `TRANSITIONS` is every change there is.

        ┌──────── retried, released, orphaned ───────┐
        v                                            │
     queued ───────────── claimed ──────────────> running ──> done      (finished)
        │                                            │ ├────> failed    (failed, poisoned)
        └───────────────> cancelled <────────────────┘
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ClientId, ConversionId, ConversionKey, InstanceId, JobId, VideoId
from ytmp3.core.link import canonical_link
from ytmp3.core.recipe import EXTENSIONS, Recipe, recipe_of

_TRACK_FILE_NAME: Final = re.compile(rf"([0-9a-f]{{34}})-[0-9]+\.(?:{'|'.join(sorted(EXTENSIONS))})", re.ASCII)


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

    conversion_id: ConversionId
    token: int


class Conversion(Struct, frozen=True, kw_only=True):
    """The work for one key. Times are the store's clock, in seconds since 1970 (UTC)."""

    conversion_id: ConversionId
    """34 hex digits: the shard of the key, then chance. Set at creation."""
    key: ConversionKey
    """`youtube:<id>:<recipe>`: at most one live conversion has it."""
    video_id: VideoId
    client: ClientId
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
    holder: InstanceId | None = None
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
    def recipe(self) -> Recipe:
        """What is asked of the output: the last part of `key`. The stores refuse a record whose key has none."""
        return recipe_of(self.key)

    @property
    def lease(self) -> Lease:
        """The right that its holder has now."""
        return Lease(conversion_id=self.conversion_id, token=self.token)


class Job(Struct, frozen=True, kw_only=True):
    """A client's ticket on a conversion."""

    job_id: JobId
    conversion_id: ConversionId
    client: ClientId
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


def track_file_name(lease: Lease, recipe: Recipe) -> str:
    """Return the name under which a holder publishes its track. Two holders never write the same file."""
    return f"{lease.conversion_id}-{lease.token}.{recipe.extension}"


def conversion_id_of(file_name: str) -> ConversionId | None:
    """Return the conversion whose track has this name (see `track_file_name`); None if no track has such a name.

    The sweep of stray files calls it with whatever names lie in the folder, also with names that are not valid text.
    """
    match = _TRACK_FILE_NAME.fullmatch(file_name)
    return None if match is None else ConversionId(match[1])


class Report(Struct, frozen=True, kw_only=True):
    """News of a running conversion. `progress` is 0 to 1 over all stages and never falls."""

    stage: Stage
    progress: float
    metadata: Metadata | None = None
    """Given once, when the extraction has it."""
