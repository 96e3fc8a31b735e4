"""Error codes are a contract with clients. This second list of them detects accidental changes."""

import pytest

from ytmp3.core import description, errors
from ytmp3.core.errors import (
    FAILURES,
    ConversionError,
    FailureCode,
    Fault,
    NoProcess,
    RequestError,
    StoreError,
    Ytmp3Error,
)
from ytmp3.http import errors as http_errors

STATUS_OF_CODE = {
    "bad_request": 400,
    "invalid_json": 400,
    "invalid_field": 400,
    "unauthorized": 401,
    "link_expired": 403,
    "not_found": 404,
    "job_unknown": 404,
    "delivery_unknown": 404,
    "feed_unknown": 404,
    "idempotency_key_reused": 422,
    "invalid_idempotency_key": 400,
    "keys_not_in_use": 403,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "not_ready": 409,
    "not_listenable": 409,
    "gone": 410,
    "precondition_failed": 412,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "expectation_failed": 417,
    "unsupported_url": 422,
    "not_a_video": 422,
    "webhook_refused": 422,
    "headers_too_large": 431,
    "internal_error": 500,
    "rate_limited": 429,
    "client_quota": 429,
    "batch_quota": 429,
    "batches_full": 503,
    "batch_unknown": 404,
    "not_a_playlist": 422,
    "playlist_refused": 422,
    "nothing_to_convert": 422,
    "too_many_items": 422,
    "invalid_cursor": 400,
    "queue_full": 503,
    "storage_full": 503,
    "storage_unavailable": 503,
    "unready": 503,
    "store_unavailable": 503,
    "draining": 503,
    "upstream_blocked": 503,
    "probe_refused": 422,
    "probe_failed": 503,
    "probe_pending": 503,
    "too_many_downloads": 503,
    "too_many_streams": 503,
}

RETRYABLE = {
    "bot_check",
    "rate_limited_upstream",
    "upstream_error",
    "upstream_timeout",
    "output_truncated",
    "tool_missing",
    "lost",
    "extractor_broken",
    "upstream_unreachable",
    "egress_misconfigured",
    "expired_waiting",
    "storage_full",
}
FINAL = {
    "video_unavailable",
    "private",
    "removed",
    "members_only",
    "age_restricted",
    "region_blocked",
    "live",
    "upcoming",
    "too_long",
    "too_large",
    "no_audio",
    "format_unavailable",
    "language_unavailable",
    "cut_out_of_range",
    "drm",
    "media_invalid",
    "poison",
}


def kinds_of_request_error() -> list[type[RequestError]]:
    """Return all of them, whichever tests run: Python knows the subclasses in modules that were imported."""
    kinds = RequestError.__subclasses__()
    assert {kind.__module__ for kind in kinds} == {errors.__name__, http_errors.__name__, description.__name__}
    return kinds


def test_every_request_error_has_its_code_and_status() -> None:
    kinds = kinds_of_request_error()
    assert {kind.code: int(kind.status) for kind in kinds} == STATUS_OF_CODE
    assert len(kinds) == len(STATUS_OF_CODE)


@pytest.mark.parametrize("kind", kinds_of_request_error(), ids=lambda kind: kind.code)
def test_every_request_error_has_a_text_for_the_public(kind: type[RequestError]) -> None:
    assert kind.detail.endswith(".")
    assert len(kind.detail) < 120


def test_a_request_error_carries_its_text_and_its_retry_after() -> None:
    plain = errors.QueueFull()
    assert plain.public_detail == errors.QueueFull.detail
    assert plain.retry_after_seconds is None
    told = errors.QueueFull("It is full.", retry_after_seconds=7)
    assert (told.public_detail, told.retry_after_seconds, str(told)) == ("It is full.", 7, "It is full.")


def test_an_error_names_the_field_that_is_at_fault() -> None:
    assert errors.QueueFull().field is None
    assert errors.UnsupportedUrl("Why.").field == errors.NotAVideo().field == "url"
    assert http_errors.InvalidField("Why.", field="quality").field == "quality"
    assert http_errors.InvalidField().field is None


def test_some_request_errors_carry_what_their_response_needs() -> None:
    assert http_errors.MethodNotAllowed(frozenset({"GET"})).allowed == {"GET"}
    assert http_errors.RangeNotSatisfiable(10).size_bytes == 10
    gone = http_errors.TrackGone("The track is no longer kept.", reason_code="expired")
    assert (gone.reason_code, gone.public_detail) == ("expired", "The track is no longer kept.")


def test_the_codes_of_failed_jobs_are_the_listed_ones() -> None:
    assert {code.value for code in FailureCode} == RETRYABLE | FINAL
    assert not RETRYABLE & FINAL


@pytest.mark.parametrize("code", list(FailureCode))
def test_every_failure_code_is_retryable_as_listed(code: FailureCode) -> None:
    failure = FAILURES[code]
    assert failure.retryable == (code.value in RETRYABLE)
    assert failure.message.endswith(".")


def test_no_failure_at_fault_of_the_video_is_retried() -> None:
    assert {code.value for code, failure in FAILURES.items() if failure.fault is Fault.VIDEO} == FINAL - {
        "media_invalid", "poison",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (Fault.YOUTUBE, {"upstream_error", "upstream_timeout", "media_invalid"}),
        (Fault.RELEASE, {"extractor_broken"}),
        (Fault.ADDRESS, {"bot_check", "rate_limited_upstream"}),
        (Fault.NETWORK, {"upstream_unreachable"}),
        (Fault.SETTINGS, {"egress_misconfigured"}),
        (Fault.OURS, {"output_truncated", "tool_missing", "poison", "lost", "expired_waiting"}),
        (Fault.DISK, {"storage_full"}),
    ],
)
def test_every_other_failure_names_who_is_at_fault(fault: Fault, codes: set[str]) -> None:
    assert {code.value for code, failure in FAILURES.items() if failure.fault is fault} == codes


def test_every_failure_code_is_explained() -> None:
    assert set(FAILURES) == set(FailureCode)


def test_a_conversion_error_keeps_its_reason_for_the_log() -> None:
    error = ConversionError(FailureCode.PRIVATE, "as yt-dlp said")
    assert (str(error), error.reason) == ("private: as yt-dlp said", "as yt-dlp said")
    assert error.failure is FAILURES[FailureCode.PRIVATE]
    assert str(ConversionError(FailureCode.PRIVATE)) == "private"


def test_all_errors_raised_on_purpose_have_one_root() -> None:
    for kind in (RequestError, ConversionError, StoreError):
        assert issubclass(kind, Ytmp3Error)
    assert {kind.__name__ for kind in StoreError.__subclasses__()} == {
        "StoreDown", "StoreFull", "StoreUnusable", "LeaseLost",
    }  # fmt: skip


def test_a_child_process_that_could_not_be_started_is_a_retryable_missing_tool() -> None:
    error = NoProcess("fork: Cannot allocate memory")
    assert isinstance(error, ConversionError)
    assert (error.code, error.failure.retryable) == (FailureCode.TOOL_MISSING, True)
    assert error.reason == "fork: Cannot allocate memory"


def test_missed_renewals_tell_lost_leases_from_those_that_are_not_renewed() -> None:
    error = errors.RenewalsMissed("node 2 does not reply", lost=frozenset({"a"}), missed=frozenset({"b", "c"}))
    # Whoever only knows an outage treats it as one.
    assert isinstance(error, errors.StoreDown)
    assert str(error) == "node 2 does not reply"
    assert error.lost == {"a"}
    assert error.missed == {"b", "c"}
