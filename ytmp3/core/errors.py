"""Every failure a client or an operator can meet, each with its stable code.

    Ytmp3Error
    ├── RequestError         the client's request cannot be served; one HTTP status and one code each
    │   ├── InvalidJson, InvalidField, Unauthorized, ...            4xx: whose matter it is: the client's
    │   └── QueueFull, StorageFull, StoreUnavailable, Draining, ... 503: ours, and `Retry-After` says when
    ├── ConversionError      a conversion failed; `code` says why, FAILURES says whether to try again
    └── StoreError           what a JobStore may raise
        ├── StoreDown        no answer in time, or no connection
        ├── StoreFull        a write was refused for want of space
        ├── StoreUnusable    corrupt, newer, locked or evicting: an operator must act
        └── LeaseLost        the fence: this token no longer owns the conversion

Rule of this room: a public text never holds what the client sent; details go to the log.
"""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar


class Ytmp3Error(Exception):
    """The root of all errors raised on purpose."""


class RequestError(Ytmp3Error):
    """A request that is answered with `application/problem+json` (RFC 9457).

    `retry_after_seconds` (>= 1) is sent as `Retry-After` where it is not None.
    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    detail: ClassVar[str]

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int | None = None) -> None:
        self.public_detail = self.detail if detail is None else detail
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.public_detail)


class NotFound(RequestError):
    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    detail = "There is nothing at this address."


class JobUnknown(RequestError):
    """One answer for ids that are malformed, never existed, ended long ago, or are another client's."""

    status = HTTPStatus.NOT_FOUND
    code = "job_unknown"
    detail = "There is no job with this id."


class ExpectationFailed(RequestError):
    status = HTTPStatus.EXPECTATION_FAILED
    code = "expectation_failed"
    detail = "The only expectation answered is 100-continue."


class UnsupportedUrl(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "unsupported_url"
    detail = "The url must be a public http(s) link to one YouTube video."


class NotAVideo(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "not_a_video"
    detail = "This YouTube link does not name a single video (a channel, playlist or search, perhaps)."


class ClientQuota(RequestError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "client_quota"
    detail = "This client has as many unfinished conversions as it may have."


class QueueFull(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "queue_full"
    detail = "The queue of conversions is full. Nothing was stored."


class StorageFull(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "storage_full"
    detail = "There is no space for new conversions. Nothing was stored."


class StoreUnavailable(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "store_unavailable"
    detail = "The job store does not answer."


class Draining(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "draining"
    detail = "This instance is shutting down."


class UpstreamBlocked(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "upstream_blocked"
    detail = "YouTube refuses this service's requests at the moment. Nothing was stored."


class FailureCode(StrEnum):
    """Why a conversion failed: the stable `error.code` of a failed job."""

    VIDEO_UNAVAILABLE = "video_unavailable"
    PRIVATE = "private"
    REMOVED = "removed"
    MEMBERS_ONLY = "members_only"
    AGE_RESTRICTED = "age_restricted"
    REGION_BLOCKED = "region_blocked"
    LIVE = "live"
    UPCOMING = "upcoming"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    NO_AUDIO = "no_audio"
    DRM = "drm"
    BOT_CHECK = "bot_check"
    RATE_LIMITED_UPSTREAM = "rate_limited_upstream"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    OUTPUT_TRUNCATED = "output_truncated"
    MEDIA_INVALID = "media_invalid"
    TOOL_MISSING = "tool_missing"
    POISON = "poison"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is true of every failure with one code.

    `retryable`: trying the same link again may succeed, so the service retries by itself (MAX_JOB_RETRIES) and the
    client may submit again later. `upstream_block`: YouTube refuses the address, not the video.
    """

    retryable: bool
    message: str
    upstream_block: bool = False


FAILURES: dict[FailureCode, Failure] = {
    FailureCode.VIDEO_UNAVAILABLE: Failure(retryable=False, message="The video is not available."),
    FailureCode.PRIVATE: Failure(retryable=False, message="The video is private."),
    FailureCode.REMOVED: Failure(retryable=False, message="The video has been removed."),
    FailureCode.MEMBERS_ONLY: Failure(retryable=False, message="The video is for the channel's members only."),
    FailureCode.AGE_RESTRICTED: Failure(retryable=False, message="The video is age restricted."),
    FailureCode.REGION_BLOCKED: Failure(retryable=False, message="The video is not available in this country."),
    FailureCode.LIVE: Failure(retryable=False, message="The video is a live stream that has not ended."),
    FailureCode.UPCOMING: Failure(retryable=False, message="The video has not started yet."),
    FailureCode.TOO_LONG: Failure(retryable=False, message="The video is longer than this service converts."),
    FailureCode.TOO_LARGE: Failure(retryable=False, message="The video is larger than this service converts."),
    FailureCode.NO_AUDIO: Failure(retryable=False, message="The video has no sound."),
    FailureCode.DRM: Failure(retryable=False, message="The video is protected by DRM."),
    FailureCode.BOT_CHECK: Failure(
        retryable=True, upstream_block=True, message="YouTube asks this server to prove that it is not a bot."
    ),
    FailureCode.RATE_LIMITED_UPSTREAM: Failure(
        retryable=True, upstream_block=True, message="YouTube limits the rate of this server's requests."
    ),
    FailureCode.UPSTREAM_ERROR: Failure(retryable=True, message="YouTube answered with an error."),
    FailureCode.UPSTREAM_TIMEOUT: Failure(retryable=True, message="YouTube did not answer in time."),
    FailureCode.OUTPUT_TRUNCATED: Failure(
        retryable=True, message="The sound that arrived is shorter or longer than the video's announced duration."
    ),
    FailureCode.MEDIA_INVALID: Failure(retryable=False, message="The sound that arrived cannot be decoded."),
    FailureCode.TOOL_MISSING: Failure(retryable=True, message="A program this service needs is missing or broken."),
    FailureCode.POISON: Failure(
        retryable=False, message="The conversion was abandoned: it was running at several crashes of the service."
    ),
    FailureCode.LOST: Failure(
        retryable=True, message="The service lost track of the conversion, or could not begin it before it expired."
    ),
}


class ConversionError(Ytmp3Error):
    """A conversion's attempt failed. `code` is public, `reason` is for the log only."""

    def __init__(self, code: FailureCode, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else str(code))
        self.code = code
        self.reason = reason

    @property
    def failure(self) -> Failure:
        return FAILURES[self.code]


class NoProcess(ConversionError):
    """The machine gives us no process for a tool (a limit on processes, no memory), or took away the one we had."""

    def __init__(self, reason: str) -> None:
        super().__init__(FailureCode.TOOL_MISSING, reason)


class StoreError(Ytmp3Error):
    """What a JobStore may raise."""


class StoreDown(StoreError):
    """The store gave no answer in time; whether a write took effect is not known."""


class StoreFull(StoreError):
    """The store refused a write for want of space; nothing was written."""


class StoreUnusable(StoreError):
    """The store must not be used as it is (corrupt, newer, locked, evicting); the text is for the operator."""


class LeaseLost(StoreError):
    """The write was refused: another holder has the conversion, or it has ended."""
