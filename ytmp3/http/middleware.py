"""Around every handler: request id, timing, errors as problem+json, security headers, CORS, identity, rate limits.

Two middlewares, because each costs every request: `frame` (outermost: nothing gets past it unrendered) and `gate` (who
is asking, and may they ask now). Headers are set by a signal, so that streamed answers have them too.
"""

import functools
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10, hdrs, web
from multidict import CIMultiDict

from ytmp3 import logs
from ytmp3.core.errors import RequestError
from ytmp3.http import problems as problem
from ytmp3.http.admission import Handler, Standing
from ytmp3.http.errors import MethodNotAllowed
from ytmp3.metrics import Metrics

log = logging.getLogger(__name__)


_OF_ALL: Final = next(iter(problem.COMMON_HEADERS))
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|[0-9A-Za-z.%_~!$&'()*+,;=-]*)(?::[0-9]*)?", re.ASCII)
"""The form of section 7.2, RFC 9110; whatever is no such thing has to be refused (RFC 9112, section 3.2)."""
_host = functools.lru_cache(maxsize=64)(_HOST.fullmatch)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})


class Frame:
    """The outermost middleware and the signal that completes each answer's headers."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        cors_origins: frozenset[str],
        is_draining: Callable[[], bool],
        standing: Callable[[web.Request], Standing | None] = lambda _: None,
    ) -> None:
        self._metrics = metrics
        self._standing = standing
        self._cors_origins = cors_origins
        self._is_draining = is_draining
        # Unique is enough for a log: a random start and a count, where 64 random bits would cost a system call.
        self._request_prefix = secrets.token_hex(5)
        self._request_numbers = itertools.count(1)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started_at = time.perf_counter()
        given = request.headers.get("X-Request-Id")
        logs.request_id.set(given if given and _REQUEST_ID.fullmatch(given) else self._new_request_id())
        try:
            if request.version < HttpVersion10 or _host(request.headers.get(hdrs.HOST, "")) is None:
                raise web.HTTPBadRequest  # noqa: TRY301  rendered below like every other error
            if request.method == hdrs.METH_OPTIONS and self._is_preflight(request):
                response: web.StreamResponse = web.Response(status=HTTPStatus.NO_CONTENT)
            else:
                response = await handler(request)
        except ConnectionError:
            raise  # the client went away: there is nobody to answer
        except Exception as error:  # noqa: BLE001  the outermost frame of a request
            response = self._rendered(error, request)
        route = request.match_info.route.resource
        self._metrics.requests.record(
            "unknown" if route is None else route.canonical,
            request.method if request.method in _METHODS else "other",
            response.status,
            time.perf_counter() - started_at,
        )
        return response

    def _rendered(self, error: Exception, request: web.Request) -> web.Response:
        """Put into words what a handler raised."""
        match error:
            case RequestError():
                if error.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
                    self._metrics.rejections.labels(error.code).inc()
                return problem.from_request_error(error)
            case web.HTTPMethodNotAllowed():
                return problem.from_request_error(MethodNotAllowed(frozenset(error.allowed_methods)))
            case web.HTTPException():
                return problem.from_status(error.status)
            case _:
                log.error("request failed", exc_info=error, extra={"method": request.method})
                return problem.from_status(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _new_request_id(self) -> str:
        return f"{self._request_prefix}{next(self._request_numbers):06x}"

    def _is_preflight(self, request: web.Request) -> bool:
        return (
            request.headers.get(hdrs.ORIGIN) in self._cors_origins
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        )

    async def complete(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add what every answer carries. Connected to `on_response_prepare`."""
        headers = response.headers
        if _OF_ALL not in headers:  # not made by `problem.headers`
            headers.update(problem.COMMON_HEADERS)
            headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        if (request_id := logs.request_id.get()) is not None:
            headers["X-Request-Id"] = request_id
        if (standing := self._standing(request)) is not None:
            headers["RateLimit-Policy"], headers["RateLimit"] = standing
        if self._cors_origins:
            self._allow_origin(request, headers)
        if self._is_draining():
            # The balancer should open its next connection elsewhere.
            response.force_close()
            headers[hdrs.CONNECTION] = "close"

    def _allow_origin(self, request: web.Request, headers: "CIMultiDict[str]") -> None:
        headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin not in self._cors_origins:
            return
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = (
            "Content-Disposition, ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
        )
        if request.method == hdrs.METH_OPTIONS:
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, HEAD, POST, DELETE"
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Authorization, Content-Type, X-API-Key, Range, If-Range"
            headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
