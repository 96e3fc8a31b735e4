"""The table of routes: every method and path of the API, with its possible responses.

`api` binds a handler to each route and `openapi` documents it, so the OpenAPI document matches the served routes.
This module is data only.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.probe_view import ProbeView
from ytmp3.http.request_bodies import BatchRequest, ExtractRequest, ProbeRequest
from ytmp3.http.stats_wire import StatsView
from ytmp3.http.wire import (
    BatchView,
    DeliveriesView,
    DeliveryView,
    FeedView,
    HealthView,
    ItemsView,
    JobsView,
    JobView,
    LiveView,
    Problem,
)


class Media(StrEnum):
    """Response bodies that are not a type of `wire`. `openapi` maps each to its media type."""

    TRACK = "track"
    LIVE = "live"
    ARCHIVE = "archive"
    COVER = "cover"
    TEXT = "text"
    FEED = "feed"
    EVENTS = "events"
    OPENAPI = "openapi"
    PROGRAM = "program"


Body = type[Struct] | Media | None
"""The type of a response body; None: no body."""


class Route(Struct, frozen=True, kw_only=True):
    """One method on one path."""

    operation: str
    """The stable `operationId` of the OpenAPI document."""
    method: str
    """A route for GET also serves HEAD."""
    path: str
    """The path in the OpenAPI document, with `{job_id}` or `{batch_id}` for an id."""
    pattern: str
    """The path as a pattern of aiohttp's router. A variable part accepts any text, so that a malformed id gets the same
    response as an unknown one. The variable part includes the extension for the same reason: the handler checks it."""
    summary: str
    responses: Mapping[int, Body]
    """Every status that the route may answer with."""
    request: type[Struct] | None = None
    """The JSON document that the request must carry."""
    request_headers: tuple[str, ...] = ()
    """Optional request headers that change the response."""
    request_parameters: tuple[str, ...] = ()
    """Parameters of the query. `openapi` has the form of those that are required; the others are optional."""
    is_limited: bool = True
    """Whether requests need an API key (where keys are in use) and count against the rate limits."""
    needs_key: bool = True
    """Whether requests need an API key where keys are in use. Without one, the client is known by its address."""

    @property
    def example(self) -> str:
        """The path as people write it: /download/ID.mp3."""
        return re.sub(r"{[a-z_]+}", "ID", self.path.replace("{extension}", DEFAULT_RECIPE.extension))


def _problems(*statuses: int) -> dict[int, Body]:
    return dict.fromkeys(statuses, Problem)


_LIMITED: Final = (401, 429, 500)
_STORE: Final = (503,)

EXTRACT: Final = Route(
    operation="extract",
    method="POST",
    path="/extract",
    pattern="/extract",
    summary="Create a job for a YouTube link.",
    request=ExtractRequest,
    request_headers=("Idempotency-Key",),
    responses=MappingProxyType(
        {200: JobView, 202: JobView} | _problems(400, 408, 413, 415, 417, 422, *_LIMITED, *_STORE)
    ),
)
PROBE: Final = Route(
    operation="probe",
    method="POST",
    path="/probe",
    pattern="/probe",
    summary="Find out what YouTube offers for a video, without converting it: languages, formats, sizes, chapters.",
    request=ProbeRequest,
    responses=MappingProxyType({200: ProbeView} | _problems(400, 408, 413, 415, 417, 422, *_LIMITED, *_STORE)),
)
STATUS: Final = Route(
    operation="status",
    method="GET",
    path="/status/{job_id}",
    pattern="/status/{job_id:[^/]+}",
    summary="Read a job.",
    responses=MappingProxyType({200: JobView} | _problems(404, *_LIMITED, *_STORE)),
)
DOWNLOAD: Final = Route(
    operation="download",
    method="GET",
    path="/download/{job_id}.{extension}",
    pattern="/download/{file_name:[^/]+}",
    summary="Download the track of a completed job, whole or in part. The extension is that of its format.",
    request_headers=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
    request_parameters=("until", "signature"),
    responses=MappingProxyType(
        {200: Media.TRACK, 206: Media.TRACK, 304: None, 307: None}
        | _problems(403, 404, 409, 410, 412, 416, *_LIMITED, *_STORE)
    ),
)
LISTEN: Final = Route(
    operation="listen",
    method="GET",
    path="/listen/{job_id}.mp3",
    pattern="/listen/{file_name:[^/]+}",
    summary="Listen to an MP3 while it is converted, from its beginning. 307 to the download once it is finished.",
    request_parameters=("until", "signature"),
    responses=MappingProxyType({200: Media.LIVE, 307: None} | _problems(403, 404, 409, 410, *_LIMITED, *_STORE)),
)
COVER: Final = Route(
    operation="cover",
    method="GET",
    path="/cover/{job_id}.jpg",
    pattern="/cover/{cover_name:[^/]+}",
    summary="Read the cover of a completed job: the picture in its track. 204 if the track has none.",
    request_headers=("If-None-Match",),
    responses=MappingProxyType({200: Media.COVER, 204: None, 304: None} | _problems(404, 409, 410, *_LIMITED, *_STORE)),
)
CANCEL: Final = Route(
    operation="cancel",
    method="DELETE",
    path="/jobs/{job_id}",
    pattern="/jobs/{job_id:[^/]+}",
    summary="Cancel a job. Its conversion stops when no other job needs it; a completed job gives up its track.",
    responses=MappingProxyType({200: JobView} | _problems(404, *_LIMITED, *_STORE)),
)
EVENTS: Final = Route(
    operation="events",
    method="GET",
    path="/events",
    pattern="/events",
    summary="Follow up to 100 jobs as server-sent events: each job first, then its changes, until all have ended.",
    request_headers=("Last-Event-ID",),
    request_parameters=("jobs",),
    responses=MappingProxyType({200: Media.EVENTS, 204: None} | _problems(400, 404, *_LIMITED, *_STORE)),
)
DELIVERIES: Final = Route(
    operation="deliveries",
    method="GET",
    path="/jobs/{job_id}/deliveries",
    pattern="/jobs/{job_id:[^/]+}/deliveries",
    summary="List the webhook messages about a job, with the result of the last attempt of each.",
    responses=MappingProxyType({200: DeliveriesView} | _problems(404, *_LIMITED, *_STORE)),
)
REDELIVER: Final = Route(
    operation="redeliver",
    method="POST",
    path="/jobs/{job_id}/deliveries/{number}/redeliver",
    pattern="/jobs/{job_id:[^/]+}/deliveries/{number:[^/]+}/redeliver",
    summary="Send a webhook message about a job again, with the same id.",
    responses=MappingProxyType({202: DeliveryView} | _problems(404, *_LIMITED, *_STORE)),
)
CREATE_BATCH: Final = Route(
    operation="create_batch",
    method="POST",
    path="/batches",
    pattern="/batches",
    summary="Create a batch of many links. Its items become jobs, a few at a time.",
    request=BatchRequest,
    request_headers=("Idempotency-Key",),
    responses=MappingProxyType({202: BatchView} | _problems(400, 408, 413, 415, 417, 422, *_LIMITED, *_STORE)),
)
BATCH: Final = Route(
    operation="batch",
    method="GET",
    path="/batches/{batch_id}",
    pattern="/batches/{batch_id:[^/]+}",
    summary="Read a batch: how many of its items have which status, and when it will probably end.",
    responses=MappingProxyType({200: BatchView} | _problems(404, *_LIMITED, *_STORE)),
)
ITEMS: Final = Route(
    operation="batch_items",
    method="GET",
    path="/batches/{batch_id}/items",
    pattern="/batches/{batch_id:[^/]+}/items",
    summary="Read the items of a batch with their jobs, a page at a time and in the order of the request.",
    request_parameters=("cursor",),
    responses=MappingProxyType({200: ItemsView} | _problems(400, 404, *_LIMITED, *_STORE)),
)
CANCEL_BATCH: Final = Route(
    operation="cancel_batch",
    method="DELETE",
    path="/batches/{batch_id}",
    pattern="/batches/{batch_id:[^/]+}",
    summary="Cancel a batch: the jobs of its items that have not ended. Finished tracks stay.",
    responses=MappingProxyType({200: BatchView} | _problems(404, *_LIMITED, *_STORE)),
)
BATCH_DELIVERIES: Final = Route(
    operation="batch_deliveries",
    method="GET",
    path="/batches/{batch_id}/deliveries",
    pattern="/batches/{batch_id:[^/]+}/deliveries",
    summary="List the webhook messages about a batch, with the result of the last attempt of each.",
    responses=MappingProxyType({200: DeliveriesView} | _problems(404, *_LIMITED, *_STORE)),
)
REDELIVER_BATCH: Final = Route(
    operation="redeliver_batch",
    method="POST",
    path="/batches/{batch_id}/deliveries/{number}/redeliver",
    pattern="/batches/{batch_id:[^/]+}/deliveries/{number:[^/]+}/redeliver",
    summary="Send a webhook message about a batch again, with the same id.",
    responses=MappingProxyType({202: DeliveryView} | _problems(404, *_LIMITED, *_STORE)),
)
BATCH_EVENTS: Final = Route(
    operation="batch_events",
    method="GET",
    path="/batches/{batch_id}/events",
    pattern="/batches/{batch_id:[^/]+}/events",
    summary="Follow a batch as server-sent events: its counts, and the jobs of its open items, until it has ended.",
    request_headers=("Last-Event-ID",),
    responses=MappingProxyType({200: Media.EVENTS, 204: None} | _problems(404, *_LIMITED, *_STORE)),
)
ARCHIVE: Final = Route(
    operation="archive",
    method="GET",
    path="/batches/{batch_id}/archive.zip",
    pattern="/batches/{archive_of:[^/]+}/archive.zip",
    summary="Download the tracks of an ended batch as one ZIP archive, whole or in part.",
    request_headers=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
    request_parameters=("revision", "until", "signature"),
    responses=MappingProxyType(
        {200: Media.ARCHIVE, 206: Media.ARCHIVE, 304: None}
        | _problems(403, 404, 409, 410, 412, 416, *_LIMITED, *_STORE)
    ),
)
JOBS: Final = Route(
    operation="jobs",
    method="GET",
    path="/jobs",
    pattern="/jobs",
    summary="List the jobs of the API key's owner, the newest first.",
    request_parameters=("cursor", "limit"),
    responses=MappingProxyType({200: JobsView} | _problems(400, 403, *_LIMITED, *_STORE)),
)
MAKE_FEED: Final = Route(
    operation="make_feed",
    method="POST",
    path="/feed",
    pattern="/feed",
    summary="Make a podcast feed of the API key's owner, in place of the last one.",
    responses=MappingProxyType({201: FeedView} | _problems(403, *_LIMITED, *_STORE)),
)
DELETE_FEED: Final = Route(
    operation="delete_feed",
    method="DELETE",
    path="/feed",
    pattern="/feed",
    summary="Delete the feed of the API key's owner.",
    responses=MappingProxyType({204: None} | _problems(403, *_LIMITED, *_STORE)),
)
FEED: Final = Route(
    operation="feed",
    method="GET",
    path="/feed/{token}.xml",
    pattern="/feed/{file_name:[^/]+}",
    summary="The feed: RSS with the 100 newest tracks. Its token takes the place of the API key.",
    responses=MappingProxyType({200: Media.FEED} | _problems(404, 429, 500, *_STORE)),
    needs_key=False,
)
FEED_TRACK: Final = Route(
    operation="feed_track",
    method="GET",
    path="/feed/{token}/{job_id}.{extension}",
    pattern="/feed/{token:[^/]+}/{file_name:[^/]+}",
    summary="Download a track of the feed, whole or in part.",
    request_headers=DOWNLOAD.request_headers,
    responses=MappingProxyType(
        {200: Media.TRACK, 206: Media.TRACK, 304: None, 307: None}
        | _problems(404, 409, 410, 412, 416, 429, 500, *_STORE)
    ),
    needs_key=False,
)
HEALTH: Final = Route(
    operation="health",
    method="GET",
    path="/health",
    pattern="/health",
    summary="Readiness: whether this instance takes new jobs, with the result of each check.",
    responses=MappingProxyType({200: HealthView, 503: HealthView}),
    is_limited=False,
)
LIVE: Final = Route(
    operation="live",
    method="GET",
    path="/health/live",
    pattern="/health/live",
    summary="Liveness: whether the process answers at all.",
    responses=MappingProxyType({200: LiveView}),
    is_limited=False,
)
METRICS: Final = Route(
    operation="metrics",
    method="GET",
    path="/metrics",
    pattern="/metrics",
    summary="Metrics for Prometheus.",
    responses=MappingProxyType({200: Media.TEXT}),
    is_limited=False,
)
STATS: Final = Route(
    operation="stats",
    method="GET",
    path="/stats",
    pattern="/stats",
    summary="The state of this instance in numbers, and the job counts of the shared store.",
    responses=MappingProxyType({200: StatsView} | _problems(*_LIMITED)),
)
OPENAPI: Final = Route(
    operation="openapi",
    method="GET",
    path="/openapi.json",
    pattern="/openapi.json",
    summary="This document.",
    responses=MappingProxyType({200: Media.OPENAPI} | _problems(*_LIMITED)),
)
PROGRAM: Final = Route(
    operation="program",
    method="GET",
    path="/ytmp3.pyz",
    pattern="/ytmp3.pyz",
    summary="The command-line client as one file for Python 3.11 or later.",
    request_headers=("If-None-Match",),
    responses=MappingProxyType({200: Media.PROGRAM, 304: None} | _problems(429, 500)),
    needs_key=False,
)

ROUTES: Final = (
    EXTRACT,
    PROBE,
    STATUS,
    DOWNLOAD,
    LISTEN,
    COVER,
    CANCEL,
    EVENTS,
    DELIVERIES,
    REDELIVER,
    CREATE_BATCH,
    BATCH,
    ITEMS,
    CANCEL_BATCH,
    BATCH_DELIVERIES,
    REDELIVER_BATCH,
    BATCH_EVENTS,
    ARCHIVE,
    JOBS,
    MAKE_FEED,
    DELETE_FEED,
    FEED,
    FEED_TRACK,
    HEALTH,
    LIVE,
    METRICS,
    STATS,
    OPENAPI,
    PROGRAM,
)
