"""Renders jobs as JSON for clients. Pure.

A view is made for one response. A job that has not changed since its last response is not rendered again.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from ytmp3.core.errors import FAILURES
from ytmp3.core.job import Metadata, State, Status, Ticket
from ytmp3.core.loudness import spelling_of
from ytmp3.core.recipe import Format
from ytmp3.core.tag_edits import TagEdits
from ytmp3.engine.jobs import Live
from ytmp3.http.addresses import Addresses
from ytmp3.http.wire import ChapterView, ErrorView, FileView, Hint, JobView, MetadataView, TagsView

RENDERED_JOBS: Final = 2000
"""Most rendered jobs in the cache. With the tickets they were made from, they take about 4 MB."""


def job_view(
    ticket: Ticket,
    live: Live,
    addresses: Addresses,
    link_until: int | None = None,
    *,
    has_playlist: bool = False,
) -> JobView:
    """Return the job as its owner sees it.

    `link_until`: when the signed link to its track, or before that to its sound, ends; None: the link is not signed.
    `has_playlist`: the submitted link also names a playlist. Not stored, so only the response to the submission has it.
    """
    job, conversion, status = ticket.job, ticket.conversion, ticket.status
    report = live.report if status is Status.PROCESSING else None
    metadata = ticket.edited(conversion.metadata or (report.metadata if report else None))
    track = conversion.track if status is Status.COMPLETED else None
    is_open = status in {Status.PENDING, Status.PROCESSING}
    is_listenable = is_open and conversion.recipe.format is Format.MP3
    return JobView(
        job_id=job.job_id,
        batch_id=job.batch_id,
        status=status,
        stage=report.stage if report else conversion.stage,
        progress=round(report.progress if report else conversion.progress, 4),
        queue_position=live.queue_position if status is Status.PENDING else None,
        eta_seconds=live.eta_seconds if is_open else None,
        deduplicated=job.deduplicated,
        url=ticket.url,
        hint=Hint.PLAYLIST if has_playlist else None,
        video_id=conversion.video_id,
        format=conversion.recipe.format,
        quality=conversion.recipe.quality,
        start_seconds=conversion.recipe.cut.start_seconds,
        end_seconds=conversion.recipe.cut.end_seconds,
        language=conversion.recipe.language,
        loudness=spelling_of(conversion.recipe.loudness),
        metadata=None if metadata is None else metadata_view(metadata),
        tags=None if job.edits is None else tags_view(job.edits),
        attempt=_attempt(ticket),
        error=_error(ticket),
        created_at=moment(job.created_at),
        started_at=None if conversion.started_at is None else moment(conversion.started_at),
        completed_at=optional_moment(conversion.completed_at if job.cancelled_at is None else job.cancelled_at),
        expires_at=optional_moment(conversion.expires_at),
        file=None
        if track is None
        else FileView(
            size_bytes=track.size_bytes,
            duration_seconds=track.duration_seconds,
            sha256=track.sha256 if job.edits is None else None,
            loudness_lufs=track.loudness_lufs,
        ),
        status_url=addresses.of_job(job.job_id),
        download_url=None if track is None else addresses.of_track(job.job_id, conversion.recipe.extension, link_until),
        listen_url=addresses.of_sound(job.job_id, link_until) if is_listenable else None,
    )


class Renderer:
    """Renders jobs as JSON and caches the result, because clients poll far more often than a job changes.

    Without the cache, rendering took a third of the CPU time of a status request.
    """

    def __init__(self, addresses: Addresses, *, remembered: int = RENDERED_JOBS) -> None:
        self._addresses = addresses
        self._remembered = remembered
        self._encode = msgspec.json.Encoder().encode
        self._rendered: dict[str, tuple[Ticket, Live, int | None, bytes]] = {}

    def render(self, ticket: Ticket, live: Live, link_until: int | None = None, *, has_playlist: bool = False) -> bytes:
        """Return the job's JSON."""
        if has_playlist:
            return self._encode(job_view(ticket, live, self._addresses, link_until, has_playlist=True))
        job_id = ticket.job.job_id
        last = self._rendered.get(job_id)
        if last is not None and last[0] == ticket and last[1] == live and last[2] == link_until:
            return last[3]
        body = self._encode(job_view(ticket, live, self._addresses, link_until))
        if last is None and len(self._rendered) >= self._remembered:
            del self._rendered[next(iter(self._rendered))]
        self._rendered[job_id] = (ticket, live, link_until, body)
        return body


def tags_view(edits: TagEdits) -> TagsView:
    """Return the tags that a client has chosen as it sees them."""
    return TagsView(
        title=edits.title,
        artist=edits.artist,
        album=edits.album,
        cover=edits.cover,
        track_number=edits.track_number,
        track_total=edits.track_total,
    )


def metadata_view(metadata: Metadata) -> MetadataView:
    """Return the metadata of a video as clients see it."""
    return MetadataView(
        title=metadata.title,
        uploader=metadata.uploader,
        artist=metadata.artist,
        track=metadata.track,
        album=metadata.album,
        release_year=metadata.release_year,
        duration_seconds=metadata.duration_seconds,
        thumbnail_url=metadata.thumbnail_url,
        audio_language=metadata.audio_language,
        chapters=tuple(
            ChapterView(start_seconds=chapter.start_seconds, title=chapter.title) for chapter in metadata.chapters
        ),
    )


def _attempt(ticket: Ticket) -> int:
    """Return the number of the current attempt, or of the last one; 0 before the first."""
    conversion = ticket.conversion
    # The record counts attempts that failed or crashed. It does not count the current or the successful one.
    ended = conversion.attempts + conversion.crashes
    return ended + 1 if conversion.state in {State.RUNNING, State.DONE} else ended


def _error(ticket: Ticket) -> ErrorView | None:
    """Return the error of a failed job, or the last error of a job that waits for its next attempt."""
    code = ticket.conversion.error
    if code is None or ticket.status not in {Status.PENDING, Status.FAILED}:
        return None
    failure = FAILURES[code]
    return ErrorView(code=code, message=failure.message, retryable=failure.retryable)


def optional_moment(seconds: float | None) -> datetime | None:
    """Return a time of the store, if there is one."""
    return None if seconds is None else moment(seconds)


def moment(seconds: float) -> datetime:
    """Return a time of the store in UTC, with milliseconds."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)
