"""How failures look on the wire: `application/problem+json` (RFC 9457), the same for every cause, echoing nothing."""

from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from ytmp3.errors import MethodNotAllowed, RangeNotSatisfiable, RequestError, TrackGone

CONTENT_TYPE: Final = "application/problem+json"

# The service answers with data, never with a document that may run or embed anything (OWASP REST cheat sheet).
SECURITY_HEADERS: Final = CIMultiDictProxy(
    CIMultiDict(
        {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Frame-Options": "DENY",
        }
    )
)
SERVER: Final = "ytmp3"
"""Instead of the library's own, which names its version and Python's."""

_CODES: Final[dict[int, tuple[str, str]]] = {
    400: ("bad_request", "The request is not well-formed HTTP."),
    404: ("not_found", "There is nothing at this address."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("body_too_large", "The body is larger than this address accepts."),
    417: ("expectation_failed", "The only expectation answered is 100-continue."),
    431: ("headers_too_large", "The header fields are larger than this server accepts."),
    500: ("internal_error", "The service made a mistake. It has been logged."),
}


def document(*, status: int, code: str, detail: str) -> dict[str, object]:
    """Return the five members that every error has."""
    return {
        "type": f"urn:ytmp3:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }


def render(*, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return the answer for an error."""
    body = orjson.dumps(document(status=status, code=code, detail=detail))
    return web.Response(body=body, status=status, content_type=CONTENT_TYPE, headers=headers)


def from_request_error(error: RequestError) -> web.Response:
    """Return the answer for an error raised on purpose."""
    headers = {}
    code = error.code
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, error.retry_after_seconds))
    match error:
        case MethodNotAllowed():
            headers["Allow"] = ", ".join(sorted(error.allowed))
        case RangeNotSatisfiable():
            headers["Content-Range"] = f"bytes */{error.size_bytes}"
        case TrackGone():
            code = error.reason_code
    if error.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="ytmp3"'
    return render(status=error.status, code=code, detail=error.public_detail, headers=headers)


def from_status(status: int) -> web.Response:
    """Return the answer for a failure that is known by its status only (the HTTP library's own)."""
    if status not in _CODES:
        status = 500 if status >= 500 else 400
    code, detail = _CODES[status]
    return render(status=status, code=code, detail=detail)
