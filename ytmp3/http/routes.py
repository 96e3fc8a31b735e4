"""The table of routes."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One address and method. `operation` is the name of its handler in `api`."""

    operation: str
    method: str
    path: str
    summary: str
    answers: dict[int, str]
    """Content by status: a schema's name, `problem`, `track`, `text` or `none`."""
    fields: tuple[str, ...] = ()
    """Optional header fields that the answer depends on."""
    is_limited: bool = True
    """Asks for identity and takes a token; probes and scrapers do not."""


_LIMITED: Final = {401: "problem", 429: "problem", 500: "problem"}


_STORE: Final = {503: "problem"}


ROUTES: Final = (
    Route(
        operation="extract",
        method="POST",
        path="/extract",
        summary="Make a job of a YouTube link.",
        answers={200: "JobView", 202: "JobView"}
        | dict.fromkeys((400, 408, 413, 415, 417, 422), "problem")
        | _LIMITED
        | _STORE,
    ),
    Route(
        operation="status",
        method="GET",
        path="/status/{job_id}",
        summary="Read a job.",
        answers={200: "JobView", 404: "problem"} | _LIMITED | _STORE,
    ),
    Route(
        operation="download",
        method="GET",
        path="/download/{job_id}.mp3",
        summary="Fetch the MP3 of a completed job, whole or in part.",
        fields=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
        answers={200: "track", 206: "track", 304: "none"}
        | dict.fromkeys((404, 409, 410, 412, 416), "problem")
        | _LIMITED
        | _STORE,
    ),
    Route(
        operation="cancel",
        method="DELETE",
        path="/jobs/{job_id}",
        summary="Cancel a job; the work stops when no other job rides on it.",
        answers={200: "JobView", 404: "problem"} | _LIMITED | _STORE,
    ),
    Route(
        operation="health",
        method="GET",
        path="/health",
        summary="Readiness, with each check.",
        answers={200: "json", 503: "json"},
        is_limited=False,
    ),
    Route(
        operation="live",
        method="GET",
        path="/health/live",
        summary="Whether the process works at all.",
        answers={200: "json"},
        is_limited=False,
    ),
    Route(
        operation="metrics",
        method="GET",
        path="/metrics",
        summary="Metrics for Prometheus.",
        answers={200: "text"},
        is_limited=False,
    ),
    Route(
        operation="stats",
        method="GET",
        path="/stats",
        summary="The instance's state in numbers.",
        answers={200: "json"} | _LIMITED,
    ),
    Route(
        operation="openapi",
        method="GET",
        path="/openapi.json",
        summary="This document.",
        answers={200: "json"} | _LIMITED,
    ),
)
