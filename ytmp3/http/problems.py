"""How failures look on the wire: `application/problem+json` (RFC 9457), the same for every cause, echoing nothing.

Also the headers that all answers have in common.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from ytmp3.core.errors import RequestError
from ytmp3.http.errors import MethodNotAllowed, RangeNotSatisfiable, TrackGone

CONTENT_TYPE: Final = "application/problem+json"

# The service answers with data, never with a document that may run or embed anything (OWASP REST cheat sheet).
COMMON_HEADERS: Final = CIMultiDictProxy(
    CIMultiDict(
        {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Frame-Options": "DENY",
            # Instead of the library's own, which names its version and Python's.
            "Server": "ytmp3",
        }
    )
)

# Copied whole into each answer, not field by field: every status request does it.
_HEADERS: Final = {
    content_type: CIMultiDictProxy(
        CIMultiDict({**COMMON_HEADERS, "Cache-Control": "no-store", "Content-Type": content_type})
    )
    for content_type in (CONTENT_TYPE, "application/json")
}
_CODES: Final[dict[int, tuple[str, str]]] = {
    400: ("bad_request", "The request is not well-formed HTTP."),
    404: ("not_found", "There is nothing at this address."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("body_too_large", "The body is larger than this address accepts."),
    417: ("expectation_failed", "The only expectation answered is 100-continue."),
    431: ("headers_too_large", "The header fields are larger than this server accepts."),
    500: ("internal_error", "The service made a mistake. It has been logged."),
}


def headers(content_type: str, more: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return the headers of an answer in JSON: `more`, and those that are the same in each."""
    return CIMultiDict({**_HEADERS[content_type], **more}) if more else _HEADERS[content_type]


def document(*, status: int, code: str, detail: str) -> dict[str, object]:
    """Return the five members that every error has."""
    return {
        "type": f"urn:ytmp3:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }


def render(*, status: int, code: str, detail: str, more: dict[str, str] | None = None) -> web.Response:
    """Return the answer for an error."""
    body = orjson.dumps(document(status=status, code=code, detail=detail))
    return web.Response(body=body, status=status, headers=headers(CONTENT_TYPE, more))


def from_request_error(error: RequestError) -> web.Response:
    """Return the answer for an error raised on purpose."""
    more = {}
    code = error.code
    if error.retry_after_seconds is not None:
        more["Retry-After"] = str(max(1, error.retry_after_seconds))
    match error:
        case MethodNotAllowed():
            more["Allow"] = ", ".join(sorted(error.allowed))
        case RangeNotSatisfiable():
            more["Content-Range"] = f"bytes */{error.size_bytes}"
        case TrackGone():
            code = error.reason_code
    if error.status is HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = 'Bearer realm="ytmp3"'
    return render(status=error.status, code=code, detail=error.public_detail, more=more)


def from_status(status: int) -> web.Response:
    """Return the answer for a failure that is known by its status only (the HTTP library's own)."""
    if status not in _CODES:
        status = 500 if status >= 500 else 400
    code, detail = _CODES[status]
    return render(status=status, code=code, detail=detail)
