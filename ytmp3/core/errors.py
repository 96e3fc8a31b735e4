"""All errors and failure codes of the service. Codes are stable.

    Ytmp3Error
    ├── RequestError         the client's request cannot be served; one HTTP status and one code each
    │   ├── UnsupportedUrl, JobUnknown, ClientQuota, ...            4xx: the client can correct the request
    │   ├── QueueFull, StorageFull, Unready, Draining, ...          503: the service cannot serve it now
    │   └── InvalidJson, Unauthorized, NotFound, RateLimited, ...   raised by the HTTP layer (`http.errors`)
    ├── ConversionError      an attempt of a conversion failed; FAILURES says whether it is retried
    │   └── NoProcess        the operating system could not start a child process, or killed it for memory
    └── StoreError           an operation of a JobStore failed
        ├── StoreDown        no reply in time, or no connection
        │   └── RenewalsMissed   the same for some of several leases
        ├── StoreFull        a write was refused for lack of space
        ├── StoreUnusable    corrupt, of a newer version, locked or evicting: an operator must act
        └── LeaseLost        the caller's lease on the conversion is no longer valid

The rule: a text for clients never repeats any part of the request. Details go to the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import ClassVar, Final


class Ytmp3Error(Exception):
    """The root of all errors raised on purpose."""


class RequestError(Ytmp3Error):
    """An error whose response is an `application/problem+json` document (RFC 9457).

    `code` is stable. `reason_code`, if it is not None, replaces it in the response: the class then stands for errors
    that have different causes and one status. `detail` is for people and says how to correct the request.
    `retry_after_seconds` (>= 1), if it is not None, is sent as `Retry-After`. `field` names the field of the request
    that is at fault, if it is a single one.
    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    detail: ClassVar[str]
    field: str | None = None

    def __init__(
        self, detail: str | None = None, *, reason_code: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        self.reason_code = reason_code
        self.public_detail = self.detail if detail is None else detail
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.public_detail)


class JobUnknown(RequestError):
    """The one response for ids that are malformed, never existed, have expired, or belong to another client."""

    status = HTTPStatus.NOT_FOUND
    code = "job_unknown"
    detail = "There is no job with this id. Jobs are forgotten some time after their end."


class BatchUnknown(RequestError):
    """The one response for ids of batches that are malformed, never existed, have expired, or belong to others."""

    status = HTTPStatus.NOT_FOUND
    code = "batch_unknown"
    detail = "There is no batch with this id. Batches are forgotten some time after their end."


class NothingToConvert(RequestError):
    """Every line of a batch is refused."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "nothing_to_convert"
    field = "urls"
    detail = "No line of `urls` is a link to a YouTube video, such as https://youtu.be/dQw4w9WgXcQ. Nothing was stored."


class TooManyItems(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "too_many_items"
    field = "urls"
    detail = "`urls` has more links than a batch may have. Send them as several batches."


class NotAPlaylist(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "not_a_playlist"
    field = "playlist"
    detail = "`playlist` must be a link to a playlist, an album or a channel: https://www.youtube.com/@Blender."


class PlaylistRefused(RequestError):
    """A list without an end, or one that only its owner can see. Raised with a `reason_code`."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "playlist_refused"
    field = "playlist"
    detail = "This list has no end, or only its owner can see it."


class BatchQuota(RequestError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "batch_quota"
    detail = "This client has reached its limit of unfinished batches. Wait until one of them ends, or cancel one."


class BatchesFull(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "batches_full"
    detail = "This service has reached its limit of unfinished batches. Nothing was stored: send it again later."


class UnsupportedUrl(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "unsupported_url"
    field = "url"
    detail = "`url` must be a link to one YouTube video, such as https://youtu.be/dQw4w9WgXcQ, or its id."


class NotAVideo(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "not_a_video"
    field = "url"
    detail = "This YouTube link names no single video but a channel, a playlist or the like. Send a video's own link."


class IdempotencyKeyReused(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "idempotency_key_reused"
    detail = "This Idempotency-Key belongs to another request of this client. Use a new key for each request."


class ClientQuota(RequestError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "client_quota"
    detail = "This client already has as many unfinished jobs as it may. Wait until one of them ends."


class QueueFull(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "queue_full"
    detail = "The queue of conversions is full. Nothing was stored: send the request again later."


class StorageFull(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "storage_full"
    detail = "There is no disk space for new conversions. Nothing was stored: send the request again later."


class StorageUnavailable(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "storage_unavailable"
    detail = "The disk with the tracks does not answer. Send the request again later."


class Unready(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unready"
    detail = "This instance cannot convert now (see GET /health). Nothing was stored: send the request again later."


class StoreUnavailable(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "store_unavailable"
    detail = "The job store does not answer. Send the request again."


class Draining(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "draining"
    detail = "This instance is shutting down. Send the request again: another instance will answer it."


class UpstreamBlocked(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "upstream_blocked"
    detail = "No conversion succeeds at YouTube at the moment, and the queue is full. Nothing was stored: try later."


class FailureCode(StrEnum):
    """Why a conversion failed: the stable `error.code` of a failed job. FAILURES explains each."""

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
    FORMAT_UNAVAILABLE = "format_unavailable"
    LANGUAGE_UNAVAILABLE = "language_unavailable"
    CUT_OUT_OF_RANGE = "cut_out_of_range"
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
    EXTRACTOR_BROKEN = "extractor_broken"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    EGRESS_MISCONFIGURED = "egress_misconfigured"
    EXPIRED_WAITING = "expired_waiting"
    STORAGE_FULL = "storage_full"


class Fault(StrEnum):
    """The party at fault for a failure. The engine decides by it what happens next, not by lists of codes."""

    VIDEO = "video"
    """This video alone. YouTube replied, and other videos may succeed."""
    YOUTUBE = "youtube"
    """YouTube failed, for this video or for all. Only the share of such failures among many conversions shows which."""
    RELEASE = "release"
    """The installed release of yt-dlp, or one of its player clients, does not understand YouTube any more."""
    ADDRESS = "address"
    """YouTube refuses this server's address."""
    NETWORK = "network"
    """YouTube cannot be reached from this server; no reply arrived."""
    SETTINGS = "settings"
    """A setting of this service is wrong. Every conversion fails until the operator corrects it."""
    DISK = "disk"
    """The disk of this instance is full, failing or gone. Another instance, or a later attempt, may succeed."""
    OURS = "ours"
    """This service or its machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The facts about one failure code.

    `retryable`: the same link may succeed later, so the service tries again by itself, and the client may submit the
    link again. How often the service tries depends on `fault` (see `states.costs_an_attempt`).
    """

    retryable: bool
    message: str
    fault: Fault = Fault.VIDEO


FAILURES: Final[Mapping[FailureCode, Failure]] = MappingProxyType(
    {
        FailureCode.VIDEO_UNAVAILABLE: Failure(retryable=False, message="The video is not available."),
        FailureCode.PRIVATE: Failure(retryable=False, message="The video is private."),
        FailureCode.REMOVED: Failure(retryable=False, message="The video has been removed."),
        FailureCode.MEMBERS_ONLY: Failure(retryable=False, message="The video is for the channel's members only."),
        FailureCode.AGE_RESTRICTED: Failure(retryable=False, message="The video is age restricted."),
        FailureCode.REGION_BLOCKED: Failure(retryable=False, message="The video is not available in this country."),
        FailureCode.LIVE: Failure(retryable=False, message="The video is a live stream that has not ended."),
        FailureCode.UPCOMING: Failure(
            retryable=False, message="The video has not started yet, or YouTube is still processing it."
        ),
        FailureCode.TOO_LONG: Failure(retryable=False, message="The video is longer than this service converts."),
        FailureCode.TOO_LARGE: Failure(retryable=False, message="The video is larger than this service converts."),
        FailureCode.NO_AUDIO: Failure(retryable=False, message="The video has no audio."),
        FailureCode.FORMAT_UNAVAILABLE: Failure(
            retryable=False,
            message="YouTube does not offer the audio of this video in the requested format. Request mp3 instead.",
        ),
        FailureCode.LANGUAGE_UNAVAILABLE: Failure(
            retryable=False,
            message="YouTube does not offer the audio of this video in the requested language. Request another one.",
        ),
        FailureCode.CUT_OUT_OF_RANGE: Failure(
            retryable=False, message="The video ends before the requested part. Request an earlier start or end."
        ),
        FailureCode.DRM: Failure(retryable=False, message="The video is protected by DRM."),
        FailureCode.BOT_CHECK: Failure(
            retryable=True, fault=Fault.ADDRESS, message="YouTube asks this server to prove that it is not a bot."
        ),
        FailureCode.RATE_LIMITED_UPSTREAM: Failure(
            retryable=True, fault=Fault.ADDRESS, message="YouTube limits the rate of this server's requests."
        ),
        FailureCode.UPSTREAM_ERROR: Failure(
            retryable=True, fault=Fault.YOUTUBE, message="YouTube answered with an error."
        ),
        FailureCode.UPSTREAM_TIMEOUT: Failure(
            retryable=True, fault=Fault.YOUTUBE, message="YouTube did not answer in time."
        ),
        FailureCode.OUTPUT_TRUNCATED: Failure(
            retryable=True,
            fault=Fault.OURS,
            message="The audio that arrived is shorter or longer than the video's announced duration.",
        ),
        FailureCode.MEDIA_INVALID: Failure(
            retryable=False, fault=Fault.YOUTUBE, message="The audio that arrived cannot be decoded."
        ),
        FailureCode.TOOL_MISSING: Failure(
            retryable=True, fault=Fault.OURS, message="A program this service needs is missing or broken."
        ),
        FailureCode.POISON: Failure(
            retryable=False,
            fault=Fault.OURS,
            message="The conversion was abandoned: it was running at several crashes of the service.",
        ),
        FailureCode.LOST: Failure(
            retryable=True, fault=Fault.OURS, message="The service lost track of the conversion."
        ),
        FailureCode.EXTRACTOR_BROKEN: Failure(
            retryable=True,
            fault=Fault.RELEASE,
            message="This service cannot read YouTube's answer at the moment. The video itself may be fine.",
        ),
        FailureCode.UPSTREAM_UNREACHABLE: Failure(
            retryable=True, fault=Fault.NETWORK, message="YouTube cannot be reached from this server at the moment."
        ),
        FailureCode.EGRESS_MISCONFIGURED: Failure(
            retryable=True,
            fault=Fault.SETTINGS,
            message="A network setting of this service is wrong, and its operator must correct it.",
        ),
        FailureCode.EXPIRED_WAITING: Failure(
            retryable=True,
            fault=Fault.OURS,
            message="The conversion could not be made within the time that this service keeps waiting jobs.",
        ),
        FailureCode.STORAGE_FULL: Failure(
            retryable=True, fault=Fault.DISK, message="The disk of this service is full or failing."
        ),
    }
)


class ConversionError(Ytmp3Error):
    """An attempt of a conversion failed. `code` is public; `reason` and `stage_seconds` are for the log only."""

    def __init__(self, code: FailureCode, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else str(code))
        self.code = code
        self.reason = reason
        self.stage_seconds: Mapping[str, float] = {}
        """Seconds spent in each stage until the failure. The converter sets it; empty if it did not run."""

    @property
    def failure(self) -> Failure:
        """The facts about this code, with the text for the client."""
        return FAILURES[self.code]


class NoProcess(ConversionError):
    """The operating system refused to start a child process (process limit, no memory), or killed one for memory."""

    def __init__(self, reason: str) -> None:
        super().__init__(FailureCode.TOOL_MISSING, reason)


class StoreError(Ytmp3Error):
    """An operation of a JobStore failed."""


class StoreDown(StoreError):
    """The store did not reply in time. Whether a write took effect is unknown."""


class RenewalsMissed(StoreDown):
    """Some of several leases were not renewed, because a part of the store did not reply or is not usable."""

    def __init__(self, text: str, *, lost: frozenset[str], missed: frozenset[str]) -> None:
        """Take the ids of conversions: `lost` are those whose lease is lost, and `missed` were not renewed."""
        super().__init__(text)
        self.lost = lost
        self.missed = missed


class StoreFull(StoreError):
    """The store refused a write for lack of space. Nothing was written."""


class StoreUnusable(StoreError):
    """The store must not be used: corrupt, of a newer version, locked or evicting. The text is for the operator."""


class LeaseLost(StoreError):
    """The write was refused, because another holder has the conversion or it has ended."""
