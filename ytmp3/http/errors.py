"""Errors that only the HTTP layer raises, and errors that replace those of the HTTP library.

As in `core.errors`, each class has a stable `code`, a status and a text for clients that never repeats the request.
"""

from http import HTTPStatus

from ytmp3.core.errors import RequestError


class BadRequest(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"
    detail = "The request is not well-formed HTTP."


class InvalidJson(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid_json"
    detail = 'The body must be one JSON object in UTF-8, such as {"url": "https://youtu.be/dQw4w9WgXcQ"}.'


class InvalidField(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid_field"
    detail = "A field of the body is missing, unknown, given twice or of the wrong form."

    def __init__(self, detail: str | None = None, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class InvalidIdempotencyKey(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid_idempotency_key"
    detail = "Idempotency-Key must be given once and have 1 to 255 visible ASCII characters, such as those of a UUID."


class InvalidCursor(RequestError):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid_cursor"
    field = "cursor"
    detail = "`cursor` must come from `next_url` of the page before. Without it, the first page is returned."


class Unauthorized(RequestError):
    status = HTTPStatus.UNAUTHORIZED
    code = "unauthorized"
    detail = "Send a valid API key, once: in the header X-API-Key, or as Authorization: Bearer KEY."


class LinkExpired(RequestError):
    status = HTTPStatus.FORBIDDEN
    code = "link_expired"
    detail = "This download link has expired. Read the job with its API key: `download_url` is a new link."


class KeysNotInUse(RequestError):
    status = HTTPStatus.FORBIDDEN
    code = "keys_not_in_use"
    detail = "This address is for the owner of an API key, and this service uses no API keys."


class FeedUnknown(RequestError):
    status = HTTPStatus.NOT_FOUND
    code = "feed_unknown"
    detail = "There is no feed at this address. Its owner may have replaced or deleted it."


class NotFound(RequestError):
    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    detail = "There is nothing at this address. GET /openapi.json lists all addresses."


class DeliveryUnknown(RequestError):
    status = HTTPStatus.NOT_FOUND
    code = "delivery_unknown"
    detail = "There is no webhook message with this number. `/deliveries` of the job or the batch lists them."


class WebhookRefused(RequestError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "webhook_refused"
    field = "webhook"
    detail = "`webhook` must be an https:// URL, and the operator must allow this client to name one."


class MethodNotAllowed(RequestError):
    """The response names the allowed methods in `Allow`."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "method_not_allowed"
    detail = "This address does not support this method. The header Allow lists those that it does."

    def __init__(self, allowed: frozenset[str], detail: str | None = None) -> None:
        super().__init__(detail)
        self.allowed = allowed


class RequestTimeout(RequestError):
    status = HTTPStatus.REQUEST_TIMEOUT
    code = "request_timeout"
    detail = "The request did not arrive in time."


class NotReady(RequestError):
    status = HTTPStatus.CONFLICT
    code = "not_ready"
    detail = "The track is not ready yet. Retry-After estimates when it will be."


class NotListenable(RequestError):
    status = HTTPStatus.CONFLICT
    code = "not_listenable"
    detail = "Only an MP3 can be listened to while it is converted. Wait for the job, then download its track."


class TrackGone(RequestError):
    """The job ended without a track, or its track is no longer kept. Raised with a `reason_code`."""

    status = HTTPStatus.GONE
    code = "gone"
    detail = "This job has no track."


class PreconditionFailed(RequestError):
    status = HTTPStatus.PRECONDITION_FAILED
    code = "precondition_failed"
    detail = "The track does not match If-Match or If-Unmodified-Since."


class BodyTooLarge(RequestError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body_too_large"
    detail = "The body is larger than this address accepts: 12 KiB, or 256 KiB for /batches."


class UnsupportedMediaType(RequestError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    detail = "Send the body as Content-Type: application/json, in UTF-8 and without Content-Encoding."


class RangeNotSatisfiable(RequestError):
    """The response names the track's size in `Content-Range`."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    code = "range_not_satisfiable"
    detail = "The range lies outside the track. Its size is `file.size_bytes` of the job."

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes


class ExpectationFailed(RequestError):
    status = HTTPStatus.EXPECTATION_FAILED
    code = "expectation_failed"
    detail = "The only supported Expect header is 100-continue."


class RateLimited(RequestError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "rate_limited"
    detail = "Too many requests, of this client or of all together. Retry after the seconds in Retry-After."


class HeadersTooLarge(RequestError):
    """Sent by nginx in front of the service. aiohttp itself answers such a request with 400."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    code = "headers_too_large"
    detail = "The header fields are larger than this server accepts (8190 bytes each, 64 fields)."


class InternalError(RequestError):
    """The response for any exception that is not handled elsewhere. The exception's text is only logged."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal_error"
    detail = "The service made a mistake. It has been logged."


class TooManyDownloads(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "too_many_downloads"
    detail = "This instance already sends as many tracks at once as it can."


class TooManyStreams(RequestError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "too_many_streams"
    detail = "This instance has reached its limit of open event streams. Poll the status of the jobs instead."
