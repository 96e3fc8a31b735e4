"""The values of the service: conversions, the jobs that share them, and a job's status.

A *conversion* is the work for one key (one video in one recipe). A *job* is one client's ticket on a conversion; many
jobs may share one conversion. The job store records both. `core/states` has the transitions of a conversion.

All values are immutable: a change makes a new value. The stored records use the same field names. Renaming a field
therefore needs a change of the stores' schema; adding a field needs only a default.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import BatchId, ClientId, ConversionId, ConversionKey, InstanceId, JobId, VideoId
from ytmp3.core.language import Language
from ytmp3.core.link import canonical_link
from ytmp3.core.recipe import EXTENSIONS, Recipe, recipe_of
from ytmp3.core.tag_edits import TagEdits
from ytmp3.core.webhook import WebhookEvent, WebhookTarget

_TRACK_FILE_NAME: Final = re.compile(
    rf"([0-9a-f]{{34}})-[0-9]+(?:-[0-9a-f]+)?\.(?:{'|'.join(sorted(EXTENSIONS))})", re.ASCII
)
"""The names of tracks. Up to version 0.2 the number was the token alone; the part behind it was never released."""
_HOLDER_DIGITS: Final = 39
"""Digits of the holder in the name of a track. An instance's id has 16 characters (128 bits), and 2 ** 128 has 39."""


class State(StrEnum):
    """The state of a conversion. `core/states` has the transitions."""

    QUEUED = "queued"
    """Waiting to start, either in the queue of its holder, or without a holder until an instance adopts it. No instance
    adopts it before `due_at`; this is the delay of a retry."""
    RUNNING = "running"
    """A worker of the holder works on it. If that instance crashes, its lease runs out, and the next instance that
    adopts the conversion sets it back to `queued` first."""
    DONE = "done"
    """The track is verified and published. Final."""
    FAILED = "failed"
    """There is no track, and `error` says why. Final: a new request for the same key makes a new conversion."""
    CANCELLED = "cancelled"
    """All jobs of the conversion were cancelled before it ended. Final, like `failed`."""


class Stage(StrEnum):
    """The stages of an attempt, in this order. Shown to clients."""

    QUEUED = "queued"
    """No worker works on the conversion."""
    EXTRACTING = "extracting"
    """yt-dlp fetches the video's metadata and the addresses of its audio."""
    DOWNLOADING = "downloading"
    """The audio is downloaded, and encoded at the same time if its container allows that."""
    CONVERTING = "converting"
    """The download is complete; the rest of it is being encoded."""
    PUBLISHING = "publishing"
    """The track is verified, tagged and moved to the shelf."""
    DONE = "done"
    """The track can be downloaded."""


class Status(StrEnum):
    """A job's status as clients see it. It is never stored, but derived from the job and its conversion."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Chapter(Struct, frozen=True, kw_only=True):
    """A chapter of a video. It ends where the next one starts, or where the video ends."""

    start_seconds: float
    title: str


class Metadata(Struct, frozen=True, kw_only=True):
    """YouTube's metadata of the video. `converter/youtube/metadata` has cleaned the text and bounded its length.

    The fields with a default are missing in records of 0.2 or older.
    """

    title: str
    uploader: str | None
    """The name of the channel, without the " - Topic" of YouTube's own artist channels."""
    duration_seconds: float | None
    """The duration that YouTube announces, in whole seconds; None if it is unknown. `Track` has the measured one."""
    thumbnail_url: str | None
    artist: str | None = None
    """The artists that YouTube Music names, separated by commas. This and the next three are None for other videos."""
    track: str | None = None
    """The title of the song, without the additions that the title of a video often has."""
    album: str | None = None
    release_year: int | None = None
    audio_language: Language | None = None
    """The language of the converted audio track; None if YouTube does not say, as for most videos with one track."""
    chapters: tuple[Chapter, ...] = ()
    """At least two, in the order of their starts, or none."""


class Track(Struct, frozen=True, kw_only=True):
    """A finished, verified audio file. All fields are measured on the file, none is taken from YouTube."""

    file_name: str
    """The file's name on the shelf (see `track_file_name`). The file is never changed, only deleted."""
    size_bytes: int
    """The file's size. Before each download it is compared with the file: a file of another size is not sent."""
    duration_seconds: float
    """The sum of the durations of all audio frames."""
    sha256: str
    """Hash of the whole file, tag included. It is the ETag of the download, so all instances send the same ETag."""
    published_at: float
    """The file's last modification, in seconds since 1970: the Last-Modified of the download."""
    crc32: int | None = None
    """The file's CRC-32, for the archives of batches. None in a record of 0.2 or older: then it is computed when it is
    first needed."""
    loudness_lufs: float | None = None
    """Its integrated loudness, in LUFS; None if it was not measured, or the track is silent."""


class Lease(Struct, frozen=True, kw_only=True):
    """The right to work on a conversion. A holder passes its lease with each of its writes.

    The store refuses a write unless both the holder and the token are the conversion's current ones (a fencing token).
    So an instance that was frozen or disconnected while another one took over cannot overwrite the other's work.

    The token alone is not enough. A store may lose its last writes: a replica without them is promoted, or a backup is
    restored. It then issues the same tokens again, to other instances.
    """

    conversion_id: ConversionId
    token: int
    holder: InstanceId
    """The instance for which the store issued the token. Empty if there is no holder: then no write is accepted."""


class Conversion(Struct, frozen=True, kw_only=True):
    """The stored record of the work for one key.

    All times are the store's clock (one clock for all instances), in seconds since 1970 (UTC).
    """

    conversion_id: ConversionId
    """Set at creation: the shard of the key, then 128 random bits. Successive conversions of one key have different
    ids."""
    key: ConversionKey
    """Set at creation. At most one live or finished conversion of a key takes new jobs."""
    video_id: VideoId
    """Set at creation."""
    client: ClientId
    """The client whose job created the conversion. The queue schedules clients by this field, also after jobs of other
    clients have joined."""
    state: State = State.QUEUED
    """Changed only by the store, by the transitions of `core/states`."""
    stage: Stage = Stage.QUEUED
    """Set by the claim, and then by the holder's renewals, so the value may be a few seconds old. A crash leaves it
    unchanged; the adoption that follows sets it back to `queued`. A failure leaves it unchanged."""
    progress: float = 0.0
    """From 0 to 1 over all stages, set and reset together with `stage`. Never falls within one attempt."""
    queue_position: int | None = None
    """The position in the holder's queue; 1 is next. Set by the holder's renewals, so the value may be old. None while
    the conversion runs or has no holder."""
    attempts: int = 0
    """Attempts that ended with an error of the video or of YouTube: `retried` and `failed` each add one. A conversion
    is retried while this is below MAX_JOB_RETRIES. A drain or a crash adds nothing, nor does an error that every video
    would meet (see `states.costs_an_attempt`)."""
    crashes: int = 0
    """Number of leases that ran out while the conversion was running; the adoption that follows adds one. At
    CRASH_LIMIT the conversion fails with the code `poison`, because it may itself cause the crashes: see
    `states.is_poison`."""
    crashed_at: str | None = None
    """The place (`ids.place_of`) at which all of these crashes happened; empty if there were several. Set together with
    `crashes`."""
    token: int = 0
    """The fencing token (see `Lease`). Every claim, adoption, release, retry and cancellation raises it; it never
    falls."""
    holder: InstanceId | None = None
    """The instance that must renew the lease. Set by creation and adoption; None once the conversion has been released,
    queued for a retry, or has ended. After a crash it stays the dead instance's id until another one adopts the
    conversion."""
    due_at: float
    """The earliest time at which any instance may adopt the conversion. With a holder, this is the end of the lease;
    without one, it is the end of the retry delay. Has no meaning once the conversion has ended."""
    metadata: Metadata | None = None
    """Set by a renewal after the extraction, and again by `finished`. Kept over retries and crashes."""
    error: FailureCode | None = None
    """The error of the last attempt, set by `retried` and `failed`. While the state is `queued` or `running`, this is
    the error of an earlier attempt. `finished` removes it."""
    failed_by: InstanceId | None = None
    """The instance whose attempt was the last to end with `retried`; None if none did. The other instances may adopt
    the conversion first (see `states.HEAD_START_SECONDS`)."""
    track: Track | None = None
    """Set by `finished`. A conversion has a track if and only if its state is `done`."""
    created_at: float
    """Set at creation."""
    joined_at: float | None = None
    """When the latest job joined the unfinished conversion; None if none did. Used by `states.is_stale`."""
    started_at: float | None = None
    """The time of the first claim. Later claims leave it."""
    completed_at: float | None = None
    """When the conversion was done, failed or cancelled; None before."""
    retention_seconds: float | None = None
    """How long its jobs are kept after its end: the longest JOB_EXPIRATION_HOURS of the instances that took a job on
    it. So each job is kept for as long as its instance promised, whichever instance ends the conversion. Set at
    creation, raised by a job that joins. None in a record of 0.2 or older: then the policy of the store applies."""
    expires_at: float | None = None
    """When the store may remove the record, its jobs and its track. Set when the conversion ends, and moved by each job
    that joins a finished conversion. None while it has not ended."""

    @property
    def recipe(self) -> Recipe:
        """The requested format and quality: the last part of `key`. The stores refuse a record without a valid one."""
        return recipe_of(self.key)

    @property
    def lease(self) -> Lease:
        """The lease of the current holder, which it passes with its writes."""
        return Lease(conversion_id=self.conversion_id, token=self.token, holder=self.holder or InstanceId(""))


class Job(Struct, frozen=True, kw_only=True):
    """A client's ticket on a conversion. Written once; only its cancellation changes it."""

    job_id: JobId
    """A secret if the service uses no API keys: then the id alone gives access to read, download and cancel the job."""
    conversion_id: ConversionId
    client: ClientId
    """The owner. If the service uses API keys, no other client can access the job."""
    deduplicated: bool
    """Whether the job joined a conversion that existed already, unfinished or finished."""
    created_at: float
    cancelled_at: float | None = None
    """When the client cancelled the job; None if it did not. The conversion continues if other jobs still need it."""
    webhooks: tuple[WebhookTarget, ...] = ()
    """The targets that get a message when the job has ended. Set at creation, from WEBHOOKS_FILE and the request."""
    batch_id: BatchId | None = None
    """The batch that the job is an item of; None for a job of `POST /extract`. Set at creation."""
    edits: TagEdits | None = None
    """The tags that the client has chosen for its track; None if it has chosen none. Set at creation. The file on the
    shelf does not have them, because other jobs share it."""


class Ticket(Struct, frozen=True, kw_only=True):
    """A job together with its conversion: all data from the store that a status response needs."""

    job: Job
    conversion: Conversion

    @property
    def status(self) -> Status:
        """The job's status: `cancelled` if the client cancelled it, otherwise derived from the conversion's state."""
        if self.job.cancelled_at is not None:
            return Status.CANCELLED
        return _STATUS_OF_STATE[self.conversion.state]

    @property
    def metadata(self) -> Metadata | None:
        """The recorded metadata, with the tags that the client has chosen; None before the extraction."""
        return self.edited(self.conversion.metadata)

    def edited(self, metadata: Metadata | None) -> Metadata | None:
        """Return the metadata of the video, with the tags that the client has chosen."""
        edits = self.job.edits
        if metadata is None or edits is None:
            return metadata
        return replace(
            metadata,
            title=edits.title or metadata.title,
            track=metadata.track and (edits.title or metadata.track),
            artist=edits.artist or metadata.artist,
            album=edits.album or metadata.album,
        )

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

EVENT_OF_STATE: Final[dict[State, WebhookEvent]] = {
    State.DONE: WebhookEvent.JOB_COMPLETED,
    State.FAILED: WebhookEvent.JOB_FAILED,
}
"""The event that the jobs of an ended conversion report. A cancelled conversion has no job that was not cancelled by
its owner, so nothing is reported."""


class Report(Struct, frozen=True, kw_only=True):
    """The progress of a running conversion, emitted by the converter several times a second.

    Renewals carry the latest report to the store.
    """

    stage: Stage
    progress: float
    """From 0 to 1 over all stages; never falls within one attempt."""
    metadata: Metadata | None = None
    """Set in only one report of an attempt: the first one after the extraction."""


def track_file_name(lease: Lease, recipe: Recipe) -> str:
    """Return the name under which a holder publishes its track.

    The name contains token and holder, so an instance that has lost the lease can never overwrite or delete the file of
    another one, not even after the store went back in time (see `Lease`). No record names the file of such an instance,
    so the janitor's sweep removes it.

    The holder is written as a decimal number. Version 0.2 takes names with any other character for files without a
    record, and would delete the tracks of newer instances an hour after they were published.
    """
    holder = int.from_bytes(lease.holder.encode(), "big")
    return f"{lease.conversion_id}-{lease.token}{holder:0{_HOLDER_DIGITS}d}.{recipe.extension}"


def conversion_id_of(file_name: str) -> ConversionId | None:
    """Return the conversion whose track has this name (see `track_file_name`); None if no track has such a name.

    The sweep of stray files passes every name in the folder, even names that are not valid UTF-8.
    """
    match = _TRACK_FILE_NAME.fullmatch(file_name)
    return None if match is None else ConversionId(match[1])
