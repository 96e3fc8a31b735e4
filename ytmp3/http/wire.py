"""The JSON documents of the API as types."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Stage, Status
from ytmp3.core.recipe import DEFAULT_QUALITY, Quality, Recipe


@dataclass(kw_only=True)
class MetadataView:
    title: str
    uploader: str | None
    duration_seconds: float | None
    thumbnail_url: str | None


@dataclass(kw_only=True)
class ErrorView:
    code: FailureCode
    message: str
    retryable: bool


@dataclass(kw_only=True)
class FileView:
    size_bytes: int
    duration_seconds: float
    sha256: str


@dataclass(kw_only=True)
class JobView:
    """The job's JSON: DESIGN's contract, field for field."""

    job_id: str
    status: Status
    stage: Stage
    progress: float
    queue_position: int | None
    eta_seconds: int | None
    deduplicated: bool
    url: str
    video_id: str
    quality: Quality
    metadata: MetadataView | None
    attempt: int
    error: ErrorView | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    file: FileView | None
    status_url: str
    download_url: str | None


class ExtractRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /extract."""

    url: str
    quality: Quality = DEFAULT_QUALITY

    @property
    def recipe(self) -> Recipe:
        """What the conversion is to make."""
        return Recipe(quality=self.quality)
