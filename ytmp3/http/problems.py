"""Error responses: `application/problem+json` (RFC 9457), the same form for every cause.

The text of a response comes from the error's class or from the code that raises it, never from the request.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import hdrs, web
from msgspec import UNSET

from ytmp3.core.errors import RequestError
from ytmp3.http import headers
from ytmp3.http.errors import (
    BadRequest,
    BodyTooLarge,
    ExpectationFailed,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RangeNotSatisfiable,
    RequestTimeout,
)
from ytmp3.http.wire import Problem

_encode: Final = msgspec.json.Encoder().encode

ERROR_OF_STATUS: Final[Mapping[int, type[RequestError]]] = MappingProxyType(
    {
        400: BadRequest,
        404: NotFound,
        408: RequestTimeout,
        413: BodyTooLarge,
        417: ExpectationFailed,
        431: HeadersTooLarge,
        500: InternalError,
    }
)
"""The error for a failure of which only the status is known, because the HTTP library detected it."""


def response_of(error: RequestError) -> web.Response:
    """Return the response for an error."""
    code = error.reason_code or error.code
    more: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        more[hdrs.RETRY_AFTER] = str(max(1, error.retry_after_seconds))
    match error:
        case MethodNotAllowed():
            more[hdrs.ALLOW] = ", ".join(sorted(error.allowed))
        case RangeNotSatisfiable():
            more[hdrs.CONTENT_RANGE] = f"bytes */{error.size_bytes}"
        case RequestError(status=HTTPStatus.UNAUTHORIZED):
            more[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="ytmp3"'
    problem = Problem(
        type=f"urn:ytmp3:error:{code}",
        title=error.status.phrase,
        status=error.status,
        detail=error.public_detail,
        code=code,
        field=UNSET if error.field is None else error.field,
    )
    return web.Response(
        body=_encode(problem) + b"\n", status=error.status, headers=headers.extended(headers.PROBLEM, more)
    )


def response_of_status(status: int) -> web.Response:
    """Return the response for a failure of which only the status is known."""
    kind = ERROR_OF_STATUS.get(status) or (InternalError if status >= 500 else BadRequest)
    return response_of(kind())
