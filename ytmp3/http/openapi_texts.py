"""The texts and examples of the OpenAPI document, for people and for generators of clients. Data only.

A test checks that every field has a text, and that every example is a value of its type.
"""

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from ytmp3.core.batch import BatchStatus
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Stage, Status
from ytmp3.core.recipe import DEFAULT_QUALITY, Format
from ytmp3.engine.health import Readiness
from ytmp3.http.request_bodies import BatchRequest, ExtractRequest
from ytmp3.http.wire import (
    BatchCountsView,
    BatchView,
    CheckView,
    FileView,
    HealthView,
    JobView,
    LiveView,
    MetadataView,
    Problem,
)

_ID: Final = "8bd8a0d1b5d6bb9bf5fb8bc7f6a98b0c5f"
_BATCH_ID: Final = "b4c1f0a9d2e84f7b8a6b4f0d3c2e1a0956"
_VIDEO: Final = VideoId("aqz-KE-bpKQ")
_URL: Final = f"https://www.youtube.com/watch?v={_VIDEO}"
_CREATED: Final = datetime(2026, 11, 25, 21, tzinfo=UTC)

EXAMPLES: Final[tuple[Struct, ...]] = (
    ExtractRequest(url=_URL),
    BatchRequest(urls=(_URL, "https://youtu.be/dQw4w9WgXcQ")),
    JobView(
        job_id=_ID,
        batch_id=None,
        status=Status.COMPLETED,
        stage=Stage.DONE,
        progress=1.0,
        queue_position=None,
        eta_seconds=None,
        deduplicated=False,
        url=_URL,
        hint=None,
        video_id=_VIDEO,
        format=Format.MP3,
        quality=DEFAULT_QUALITY,
        metadata=MetadataView(
            title="Big Buck Bunny",
            uploader="Blender",
            duration_seconds=635.0,
            thumbnail_url=f"https://i.ytimg.com/vi/{_VIDEO}/hqdefault.jpg",
        ),
        attempt=1,
        error=None,
        created_at=_CREATED,
        started_at=_CREATED,
        completed_at=_CREATED + timedelta(seconds=21),
        expires_at=_CREATED + timedelta(days=1),
        file=FileView(size_bytes=15_240_960, duration_seconds=635.04, sha256="9f86d081884c7d65" * 4),
        status_url=f"/status/{_ID}",
        download_url=f"/download/{_ID}.mp3",
    ),
    BatchView(
        batch_id=_BATCH_ID,
        status=BatchStatus.RUNNING,
        playlist=None,
        error=None,
        counts=BatchCountsView(
            total=2, waiting=0, pending=1, processing=1, completed=0, failed=0, cancelled=0, refused=0, duplicate=0
        ),
        eta_seconds=22,
        format=Format.MP3,
        quality=DEFAULT_QUALITY,
        created_at=_CREATED,
        completed_at=None,
        expires_at=None,
        status_url=f"/batches/{_BATCH_ID}",
        items_url=f"/batches/{_BATCH_ID}/items",
        archive_url=None,
    ),
    HealthView(
        status=Readiness.OK,
        checks={"store": CheckView(ok=True, detail="replies in 1 ms", age_seconds=2.5)},
    ),
    LiveView(status="ok"),
    Problem(
        type="urn:ytmp3:error:job_unknown",
        title="Not Found",
        status=404,
        detail="There is no job with this id. Jobs are forgotten some time after their end.",
        code="job_unknown",
    ),
)
"""At most one example of each type."""

COMMON_FIELDS: Final = MappingProxyType(
    {
        "archive_url": "Where the archive of the tracks is; null if there is none.",
        "attempt": "The number of the current or last attempt; 0 before the first.",
        "attempted_at": "When the last attempt was made.",
        "attempts": "How many attempts have been made.",
        "batch_id": "The id of the batch; in a job that is no item of a batch, null.",
        "cached_jobs": "Jobs for which a finished track existed.",
        "cache_hits": "The same as `since_start.cached_jobs`; kept for older clients.",
        "cancelled": "How many were cancelled.",
        "capacity": "How many conversions may wait.",
        "cause": "Why the breaker is open; null while it is closed.",
        "checks": "The results of the health checks, by name.",
        "code": "A stable name for programs.",
        "completed": "How many have a finished track.",
        "completed_at": "When it ended.",
        "conversions": "Conversions that have ended in this instance since its start.",
        "counts": "How many items have each status.",
        "created_at": "When it was accepted.",
        "dedup_hits": "The same as `since_start.joined_jobs`; kept for older clients.",
        "deduplicated": "Whether the job joined a conversion that existed already.",
        "deliveries": "The messages about the job or the batch.",
        "detail": "A text for people, which may change.",
        "disk": "The disk with the tracks; null before its first check.",
        "done": "How many succeeded.",
        "download_url": "Where the track is; null unless the job is completed.",
        "duplicate": "Items whose video an earlier item has too.",
        "duplicate_of": "The index of the earlier item with the same video.",
        "duration_seconds": "The duration in seconds.",
        "endpoint": "The name of the webhook endpoint.",
        "error": "Why it failed; in a pending job, why the last attempt failed.",
        "eta_seconds": "Estimated seconds until the end; null if unknown, or after the end.",
        "event": "The kind of the event.",
        "expires_at": "From when it may be removed.",
        "failed": "How many failed.",
        "feed_url": "The address of the feed, with its secret token.",
        "field": "The field of the request that is at fault.",
        "file": "The finished track; null unless the job is completed.",
        "free_bytes": "Free bytes.",
        "format": "The format of the track. The sound of `m4a` and `opus` is copied from YouTube, not encoded again.",
        "hint": "`playlist` if the submitted link names a playlist too; only in the response to `POST /extract`.",
        "index": "The place of the item in the request, from 0.",
        "is_truncated": "Whether the playlist has more entries than were taken.",
        "items": "The items of this page.",
        "items_url": "Where the items of the batch are.",
        "job": "The job of the item; null if it has none.",
        "job_id": "The id of the job: 34 hexadecimal digits.",
        "jobs": "Jobs, or how many of them have each status.",
        "joined_jobs": "Jobs that joined an unfinished conversion.",
        "length": "How many conversions wait.",
        "mean": "The mean.",
        "memory": "The memory of the server process.",
        "message": "A text for people, which may change.",
        "metadata": "YouTube's facts about the video; null before the extraction.",
        "age_seconds": "Seconds since the check; null if it is not a regular one.",
        "active": "How many run a conversion.",
        "next_attempt_at": "When the next attempt will be made.",
        "next_trial_seconds": "Seconds until a trial conversion may start.",
        "next_url": "Where the next page is; null for the last page.",
        "number": "The number of the message among those about its job or batch.",
        "ok": "Whether the check succeeded.",
        "open_seconds": "For how many seconds no conversion has started.",
        "p50": "The median.",
        "p95": "95 % took no longer.",
        "pending": "How many wait.",
        "playlist": "In a request, a link to a playlist, an album or a channel; in a batch, what it was made of.",
        "processing": "How many are being converted.",
        "processing_seconds": "How long the last conversions took.",
        "progress": "From 0 to 1, over all stages; from 0 again with each attempt.",
        "quality": "The bit rate (such as `192k`) or the VBR preset (such as `V0`) of an MP3; null for other formats.",
        "queue": "The queue of this instance.",
        "queue_position": "The place in the queue, from 1; null unless the job is pending.",
        "reason": "Why the last attempt failed.",
        "refused": "Lines that are no links to a video, and entries that are private or deleted.",
        "resident_bytes": "Resident memory in bytes.",
        "retryable": "Whether the same request may succeed later.",
        "sha256": "The SHA-256 of the file, in hexadecimal.",
        "since_start": "What this instance has counted since its start.",
        "size_bytes": "The size in bytes.",
        "stage": "The current step; after the end, the last step that was reached.",
        "started_at": "When a worker first took the conversion.",
        "state": "The state.",
        "status": "The status.",
        "status_url": "Where the current state is.",
        "success_rate": "done / (done + failed); null before the first end.",
        "thumbnail_url": "The picture of the video.",
        "title": "The title.",
        "total": "How many there are.",
        "total_bytes": "The size in bytes.",
        "type": "The type: of a message, its event; of an error, a URN that names its code.",
        "uploader": "The name of the channel.",
        "upstream": "Whether conversions start, or YouTube's failures prevent it.",
        "upstream_blocked_seconds": "Seconds until conversions may start; 0 if they may.",
        "uptime_seconds": "Seconds since the start.",
        "url": "The link. In responses, its canonical form.",
        "urls": "Links to videos, one for each item.",
        "versions": "The versions of this service and its tools, by name.",
        "video_id": "The 11 characters that name the video.",
        "waiting": "Items that get their jobs later.",
        "webhook": "The name of a webhook endpoint of the operator, which gets a message at the end.",
        "webhook_id": "The id of the message, which is the same in each attempt.",
        "workers": "The workers of this instance.",
    }
)
"""What each field means, by its name. A name has the same meaning in all types."""
