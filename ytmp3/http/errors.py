"""Errors that only the HTTP layer raises."""

from http import HTTPStatus

from ytmp3.core.errors import RequestError


class InvalidJson(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid_json"
    detail = "The body must be one JSON object in UTF-8."


class InvalidField(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid_field"
    detail = "A field of the request is missing, unknown or of the wrong form."


class Unauthorized(RequestError):
    status = HTTPStatus.UNAUTHORIZED
    code = "unauthorized"
    detail = "A valid API key is required, as X-API-Key or as Authorization: Bearer."


class MethodNotAllowed(RequestError):
    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "method_not_allowed"
    detail = "This address does not answer this method."

    def __init__(self, allowed: frozenset[str]) -> None:
        super().__init__()
        self.allowed = allowed


class BodyTimeout(RequestError):
    status = HTTPStatus.REQUEST_TIMEOUT
    code = "request_timeout"
    detail = "The body did not arrive in time."


class NotReady(RequestError):
    status = HTTPStatus.CONFLICT
    code = "not_ready"
    detail = "The track is not ready yet."


class TrackGone(RequestError):
    """The job ended without a track, or the track is no longer kept; carries the job's own error code."""

    status = HTTPStatus.GONE
    code = "gone"
    detail = "This job has no track."

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason_code = code


class PreconditionFailed(RequestError):
    status = HTTPStatus.PRECONDITION_FAILED
    code = "precondition_failed"
    detail = "The track is not the one the request asks for."


class BodyTooLarge(RequestError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body_too_large"
    detail = "The body is larger than this address accepts."


class UnsupportedMediaType(RequestError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    detail = "The body must be application/json in UTF-8, without a content encoding."


class RangeNotSatisfiable(RequestError):
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "range_not_satisfiable"
    detail = "The range lies outside the track."

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes


class RateLimited(RequestError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "rate_limited"
    detail = "Too many requests."


class TooManyDownloads(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "too_many_downloads"
    detail = "This instance sends as many tracks at once as it can."
