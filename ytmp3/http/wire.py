"""The JSON documents of the HTTP API's responses, as types.

`request_bodies` has those of its requests, and `stats_wire` the numbers of `GET /stats`. The server encodes responses
with these types, and a client can use the same types. In a response every field is present; a field that does not apply
is null. Decoding a response ignores unknown fields, so that an older client can read the responses of a newer server.
Times are RFC 3339 in UTC. Nothing here computes a value.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ytmp3.core.batch import BatchStatus, ItemStatus
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Stage, Status
from ytmp3.core.recipe import Format, Quality
from ytmp3.core.webhook import DeliveryState, Reason, WebhookEvent
from ytmp3.engine.health import Readiness


class Hint(StrEnum):
    """What else the client may want to do with the submitted link."""

    PLAYLIST = "playlist"
    """It names a playlist too."""


class ChapterView(Struct, frozen=True, kw_only=True):
    """A chapter of the video. It ends where the next one starts."""

    start_seconds: float
    title: str


class MetadataView(Struct, frozen=True, kw_only=True):
    """YouTube's metadata of the video. `duration_seconds` is the announced duration; `file` has the measured one.

    `artist`, `track`, `album` and `release_year` are those of YouTube Music, and null for a video that is no song.
    """

    title: str
    uploader: str | None
    artist: str | None
    track: str | None
    album: str | None
    release_year: int | None
    duration_seconds: float | None
    thumbnail_url: str | None
    audio_language: str | None
    chapters: tuple[ChapterView, ...]


class TagsView(Struct, frozen=True, kw_only=True):
    """The tags that the request has chosen for the track of a job. Another request can have them as `metadata`."""

    title: str | None
    artist: str | None
    album: str | None
    cover: bool
    track_number: int | None
    track_total: int | None


class BatchTagsView(Struct, frozen=True, kw_only=True):
    """The tags that the request has chosen for all tracks of a batch."""

    artist: str | None
    album: str | None
    cover: bool
    track_numbers: bool


class ErrorView(Struct, frozen=True, kw_only=True):
    """Why the last attempt failed. `retryable`: submitting the same link again later may succeed."""

    code: FailureCode
    message: str
    retryable: bool


class FileView(Struct, frozen=True, kw_only=True):
    """The finished track.

    `sha256` is null if the request has changed its tags: they are written as it is sent. `loudness_lufs` is null if the
    loudness was not measured, or the track is silent.
    """

    size_bytes: int
    duration_seconds: float
    sha256: str | None
    loudness_lufs: float | None


class JobView(Struct, frozen=True, kw_only=True):
    """A job. `batch_id` is set if the job is an item of a batch. `quality` is null for a format that is copied.

    `start_seconds` and `end_seconds` are null at the beginning and at the end of the video. `tags` is null if the
    request has chosen none; `metadata` contains them already.
    """

    job_id: str
    batch_id: str | None
    status: Status
    stage: Stage
    progress: float
    queue_position: int | None
    eta_seconds: int | None
    deduplicated: bool
    url: str
    hint: Hint | None
    video_id: str
    format: Format
    quality: Quality | None
    start_seconds: float | None
    end_seconds: float | None
    language: str
    loudness: str
    metadata: MetadataView | None
    tags: TagsView | None
    attempt: int
    error: ErrorView | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    file: FileView | None
    status_url: str
    download_url: str | None
    listen_url: str | None


class JobMessage(Struct, frozen=True, kw_only=True):
    """The body of a webhook message about a job. `timestamp` is when the job's end was recorded."""

    type: WebhookEvent
    timestamp: datetime
    data: JobView


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One webhook message to one endpoint. `next_attempt_at` is null unless it is pending."""

    webhook_id: str
    number: int
    event: WebhookEvent
    endpoint: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    attempted_at: datetime | None
    next_attempt_at: datetime | None
    status: int | None
    reason: Reason | None


class DeliveriesView(Struct, frozen=True, kw_only=True):
    """The body of `GET /jobs/ID/deliveries` and `GET /batches/ID/deliveries`."""

    deliveries: list[DeliveryView]


class JobsView(Struct, frozen=True, kw_only=True):
    """A page of a client's jobs, the newest first. `next_url` is the next page; null for the last one.

    `unavailable` has the ids of jobs of this page that cannot be read now, because a part of the store does not reply.
    """

    jobs: list[JobView]
    next_url: str | None
    unavailable: list[str]


class FeedView(Struct, frozen=True, kw_only=True):
    """The address of a client's feed. It contains the secret token, and is shown only once."""

    feed_url: str


class BatchCountsView(Struct, frozen=True, kw_only=True):
    """The items of a batch by status; together they are `total`.

    `waiting` items get their jobs later. `refused` lines are not links to a video. A `duplicate` has the job of an
    earlier item.
    """

    total: int
    waiting: int
    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    refused: int
    duplicate: int


class PlaylistView(Struct, frozen=True, kw_only=True):
    """The playlist that a batch was made of. `is_truncated`: it has more entries than were taken."""

    url: str
    title: str | None
    is_truncated: bool


class ChaptersView(Struct, frozen=True, kw_only=True):
    """The video whose chapters are the items of a batch. `is_truncated`: it has more chapters than were taken."""

    url: str
    title: str | None
    is_truncated: bool


class ItemErrorView(Struct, frozen=True, kw_only=True):
    """Why an item has no job, or why the playlist or the chapters of a batch could not be read."""

    code: str
    message: str


class BatchView(Struct, frozen=True, kw_only=True):
    """A batch. It is `completed` once every item has ended, whether or not some have failed.

    `archive_url` is set once it has ended, if it has a track. `quality` is null for a format that is copied.
    """

    batch_id: str
    status: BatchStatus
    playlist: PlaylistView | None
    chapters: ChaptersView | None
    error: ItemErrorView | None
    counts: BatchCountsView
    eta_seconds: int | None
    format: Format
    quality: Quality | None
    start_seconds: float | None
    end_seconds: float | None
    language: str
    loudness: str
    tags: BatchTagsView | None
    created_at: datetime
    completed_at: datetime | None
    expires_at: datetime | None
    status_url: str
    items_url: str
    archive_url: str | None


class BatchMessage(Struct, frozen=True, kw_only=True):
    """The body of a webhook message about a batch."""

    type: WebhookEvent
    timestamp: datetime
    data: BatchView


class ItemView(Struct, frozen=True, kw_only=True):
    """An item of a batch. The link itself is not repeated.

    `index` is the place of its link in `urls`, of the entry in the playlist, or of the chapter, from 0.
    """

    index: int
    status: ItemStatus
    video_id: str | None
    duplicate_of: int | None
    error: ItemErrorView | None
    job: JobView | None


class ItemsView(Struct, frozen=True, kw_only=True):
    """Some items of a batch, in the order of the request. `next_url` is the next page; null for the last one.

    `unavailable` has the ids of jobs of these items that cannot be read now, because a part of the store does not
    reply. Such an item has the last status that the batch knows, and no `job`.
    """

    items: tuple[ItemView, ...]
    next_url: str | None
    unavailable: tuple[str, ...]


class Problem(Struct, frozen=True, kw_only=True):
    """The body of every error response (RFC 9457). `code` is stable; `detail` is for people and may change.

    `field` names the field of the request that is at fault. It is absent if no single field is.
    """

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(pattern="^[a-z_]+$")]
    field: str | UnsetType = UNSET


class CheckView(Struct, frozen=True, kw_only=True):
    """The latest result of one health check. `age_seconds` is null if the result is not that of a regular check."""

    ok: bool
    detail: str
    age_seconds: float | None


class HealthView(Struct, frozen=True, kw_only=True):
    """The body of `GET /health`. `checks` is keyed by what was checked.

    `status` is `ok`, `degraded` (jobs are accepted, but their conversions wait), `draining` or `unready`.
    """

    status: Readiness
    checks: dict[str, CheckView]


class LiveView(Struct, frozen=True, kw_only=True):
    """The body of `GET /health/live`."""

    status: Literal["ok"]
