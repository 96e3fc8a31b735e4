"""The values of the service: conversions, the jobs that share them, and what a client sees of both.

A *conversion* is the work for one key (one video in one recipe). A *job* is one client's ticket on a conversion; many
jobs may share one. The job store keeps both; `core/states` says how a conversion may change.

Everything here is immutable: a change makes a new value. Field names are the names in the stored records, so renaming
one needs a change of the stores' schema. Adding one needs only a default.
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
    """Where a conversion stands. `core/states` has the table of moves between them."""

    QUEUED = "queued"
    """It waits to be started, either in the queue of the instance that holds it, or held by nobody until some instance
    adopts it. Nobody adopts it before `due_at`, which is how a retry waits for its time."""
    RUNNING = "running"
    """A worker of the holder works on it. If that instance crashes, nobody renews the lease; it runs out, and the next
    instance that adopts the conversion puts it back to `queued` first."""
    DONE = "done"
    """The track is verified and published. Final."""
    FAILED = "failed"
    """There is no track, and `error` says why. Final: a new request for the same key makes a new conversion."""
    CANCELLED = "cancelled"
    """Every job on it was cancelled before it ended. Final: a new request for the same key makes a new conversion."""


class Stage(StrEnum):
    """What a worker is doing for a conversion, in the order in which it happens. Shown to clients."""

    QUEUED = "queued"
    """No worker has it."""
    EXTRACTING = "extracting"
    """YouTube is asked what the video is and where its sound is."""
    DOWNLOADING = "downloading"
    """The sound arrives. It is encoded at the same time where its container allows that."""
    CONVERTING = "converting"
    """The download is complete, and its rest is being encoded."""
    PUBLISHING = "publishing"
    """The track is verified, tagged and moved to its place."""
    DONE = "done"
    """The track can be downloaded."""


class Status(StrEnum):
    """A job's status as clients see it. It is never stored, but derived from the job and its conversion."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Metadata(Struct, frozen=True, kw_only=True):
    """What YouTube says of the video. `converter/youtube/metadata` has cleaned the text and bounded its length."""

    title: str
    uploader: str | None
    duration_seconds: float | None
    """As YouTube announces it, in whole seconds. None if it does not say. The track's own duration is in `Track`."""
    thumbnail_url: str | None


class Track(Struct, frozen=True, kw_only=True):
    """A finished, verified audio file. All of it is measured on the file itself, none of it is YouTube's word."""

    file_name: str
    """Its name on the shelf (see `track_file_name`). The file under this name is never changed, only deleted."""
    size_bytes: int
    """Compared with the file before each download: a file of another size is not sent."""
    duration_seconds: float
    """Counted over the frames of the sound."""
    sha256: str
    """Of the whole file, tag included. Also the ETag of the download, so it is the same on every instance."""
    published_at: float
    """The file's last change, in seconds since 1970: the Last-Modified of the download."""


class Lease(Struct, frozen=True, kw_only=True):
    """The right to work on a conversion: what a holder shows with each of its writes.

    The store refuses a write whose token is not the conversion's present one. So an instance that was frozen or cut
    off, and comes back after another has taken over, cannot do any harm (a fencing token).
    """

    conversion_id: ConversionId
    token: int


class Conversion(Struct, frozen=True, kw_only=True):
    """The work for one key, as the job store keeps it.

    All times are the store's clock (one clock for all instances), in seconds since 1970 (UTC).
    """

    conversion_id: ConversionId
    """Set at creation: the shard of the key, then 128 random bits. Two conversions of one key, one after the other,
    have different ids."""
    key: ConversionKey
    """Set at creation. At most one live or finished conversion of a key takes new jobs."""
    video_id: VideoId
    """Set at creation."""
    client: ClientId
    """The client whose job created it. The queue takes turns between clients by this field, also after others
    joined."""
    state: State = State.QUEUED
    """Changed by the store alone, by the moves of `core/states`."""
    stage: Stage = Stage.QUEUED
    """Set by the claim and then by the holder with its renewals, so it may be a few seconds old. After a crash it stays
    as it was until another instance adopts the conversion, which sets it back to `queued`. A failure
    leaves it as it is."""
    progress: float = 0.0
    """From 0 to 1 over all stages, set and reset together with `stage`. Never falls within one attempt."""
    queue_position: int | None = None
    """1 is next. Set by the holder's renewals while the conversion waits in its queue: a hint, which may be old. None
    while running, and while nobody holds it."""
    attempts: int = 0
    """Attempts that ended with an error of the video or of YouTube: `retried` and `failed` each add one. A conversion
    is retried while this is below MAX_JOB_RETRIES. A drain or a crash adds nothing."""
    crashes: int = 0
    """Leases that ran out while the conversion was running: adopting it then adds one. At CRASH_LIMIT it fails with the
    code `poison`, because it may be what kills the instances."""
    token: int = 0
    """The fencing token (see `Lease`). Every claim, adoption, release, retry and cancellation raises it; it never
    falls."""
    holder: InstanceId | None = None
    """The instance that must renew the lease. Set by creation and adoption; None once the conversion has been given
    back or has ended. After a crash it is the dead instance's id until another one adopts the conversion."""
    due_at: float
    """While held: when the lease runs out unless it is renewed. While nobody holds it: the earliest time at which an
    instance may adopt it. In both cases any instance may adopt it from then on. Without meaning once it has ended."""
    metadata: Metadata | None = None
    """Set by a renewal once the extraction has it, and again by `finished`. Kept over retries and crashes."""
    error: FailureCode | None = None
    """The error of the last attempt, set by `retried` and `failed`. While the state is `queued` or `running` it is that
    of an earlier attempt; `finished` removes it."""
    track: Track | None = None
    """Set by `finished`: a conversion has one exactly if its state is `done`."""
    created_at: float
    """Set at creation."""
    joined_at: float | None = None
    """When the last further job joined before the end; None if none did. See `states.is_stale`."""
    started_at: float | None = None
    """The time of the first claim. Later claims leave it."""
    completed_at: float | None = None
    """Set by each of the three ends."""
    expires_at: float | None = None
    """Set by each of the three ends, and moved by each job that joins a finished conversion. From then on the store may
    remove the record, its jobs and its file. None while it has not ended."""

    @property
    def recipe(self) -> Recipe:
        """What is asked of the output: the last part of `key`. The stores refuse a record whose key has none."""
        return recipe_of(self.key)

    @property
    def lease(self) -> Lease:
        """What the present holder shows with its writes."""
        return Lease(conversion_id=self.conversion_id, token=self.token)


class Job(Struct, frozen=True, kw_only=True):
    """A client's ticket on a conversion. Written once; only its cancellation changes it."""

    job_id: JobId
    """Where no API keys are in use, whoever knows it may read, download and cancel the job: it is the secret."""
    conversion_id: ConversionId
    client: ClientId
    """The owner. Where API keys are in use, nobody else sees the job."""
    deduplicated: bool
    """Whether it joined a conversion that existed already, unfinished or finished."""
    created_at: float
    cancelled_at: float | None = None
    """Set when the client cancels the job. The conversion goes on if another job that is not cancelled shares it."""


class Ticket(Struct, frozen=True, kw_only=True):
    """A job together with its conversion: all that a status answer needs from the store."""

    job: Job
    conversion: Conversion

    @property
    def status(self) -> Status:
        """The conversion's state in a client's words, unless the job itself was cancelled."""
        if self.job.cancelled_at is not None:
            return Status.CANCELLED
        return _STATUS_OF_STATE[self.conversion.state]

    @property
    def url(self) -> str:
        """The canonical link to the video, however the client spelled it."""
        return canonical_link(self.conversion.video_id)


_STATUS_OF_STATE: Final[dict[State, Status]] = {
    State.QUEUED: Status.PENDING,
    State.RUNNING: Status.PROCESSING,
    State.DONE: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
}


class Report(Struct, frozen=True, kw_only=True):
    """The converter's word on a conversion under way, several times a second. The store gets it with renewals only."""

    stage: Stage
    progress: float
    """From 0 to 1 over all stages; never falls within one attempt."""
    metadata: Metadata | None = None
    """Set in one report of an attempt: the first after the extraction."""


def track_file_name(lease: Lease, recipe: Recipe) -> str:
    """Return the name under which a holder publishes its track.

    The token is part of it, so an instance that has lost the lease can never overwrite its successor's file. The file
    it leaves under its own name is removed by the sweep, because no record names it.
    """
    return f"{lease.conversion_id}-{lease.token}.{recipe.extension}"


def conversion_id_of(file_name: str) -> ConversionId | None:
    """Return the conversion whose track has this name (see `track_file_name`); None if no track has such a name.

    The sweep of stray files calls it with whatever names lie in the folder, also with names that are not valid text.
    """
    match = _TRACK_FILE_NAME.fullmatch(file_name)
    return None if match is None else ConversionId(match[1])
