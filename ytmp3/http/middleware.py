"""The outermost middleware: request ids, errors as problem documents, request metrics, CORS.

Every exception of a handler becomes a response here. One middleware does all tasks, because each further middleware
would cost every request time. Headers are added by aiohttp's signal `on_response_prepare`, so that streamed responses
get them too.
"""

import functools
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import HttpVersion10, hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from ytmp3 import logs
from ytmp3.core.errors import RequestError
from ytmp3.http import headers, problems
from ytmp3.http.admission import CLIENT, RateLimitFields
from ytmp3.http.directions import directions
from ytmp3.http.errors import BadRequest, InternalError, MethodNotAllowed, NotFound
from ytmp3.metrics import Metrics

log = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
"""The form of an X-Request-Id that is accepted from a client or proxy. Any other is replaced by a new id."""
_HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|[0-9A-Za-z.%_~!$&'()*+,;=-]*)(?::[0-9]*)?", re.ASCII)
"""The form of Host (RFC 9110, section 7.2). A request with an invalid Host must be refused (RFC 9112, section 3.2)."""
_REJECTIONS: Final = frozenset({429, 503})
"""Statuses of requests that were refused because of limits or of the service's state."""
_ERROR_CODE: Final = web.RequestKey("error_code", str)
"""Why a request was refused, for the access log."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
"""Methods that metrics name. Others are counted as `other`, so that clients cannot create any number of series."""


class RequestMiddleware:
    """Surrounds every handler: install `handle` as the outermost middleware, `add_headers` on `on_response_prepare`.

    `rate_limit_fields` returns the RateLimit header values for a request, or None if it has none. `charge_unknown` is
    called for a request that no route takes, and raises if its address has made too many. Each request is logged at
    `access_level`.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        cors_origins: frozenset[str],
        is_draining: Callable[[], bool],
        rate_limit_fields: Callable[[web.Request], RateLimitFields | None] = lambda _: None,
        charge_unknown: Callable[[web.Request], None] = lambda _: None,
        access_level: int = logging.DEBUG,
    ) -> None:
        self._metrics = metrics
        for code in _codes_of_rejections(RequestError):
            metrics.rejections.labels(code)
        self._access_level = access_level
        self._rate_limit_fields = rate_limit_fields
        self._charge_unknown = charge_unknown
        self._cors_origins = cors_origins
        self._is_draining = is_draining
        # Ids only have to be unique in the log: a random prefix and a count avoid a system call for each request.
        self._request_prefix = secrets.token_hex(5)
        self._request_numbers = itertools.count(1)
        # Checking Host costs more than the rest of this class, and clients send few different ones.
        self._is_host = functools.lru_cache(maxsize=64)(lambda host: _HOST.fullmatch(host) is not None)

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Run the handler, and turn any exception into a response."""
        started_at = time.perf_counter()
        given = request.headers.get("X-Request-Id")
        logs.request_id.set(given if given and _REQUEST_ID.fullmatch(given) else self._new_request_id())
        try:
            if request.version < HttpVersion10 or not self._is_host(request.headers.get(hdrs.HOST, "")):
                raise BadRequest  # noqa: TRY301  rendered below like every other error
            if request.method == hdrs.METH_OPTIONS and self._is_preflight(request):
                response: web.StreamResponse = web.Response(status=204, headers=headers.EMPTY)
            else:
                response = await handler(request)
        except ConnectionError:
            raise  # the client went away: no response can reach it
        except Exception as error:  # noqa: BLE001  the outermost frame of a request
            response = self._error_response(self._charged(error, request), request)
        seconds = time.perf_counter() - started_at
        route = request.match_info.route.resource
        self._metrics.requests.record(
            _route_near(request) if route is None else route.canonical,
            request.method if request.method in _METHODS else "other",
            response.status,
            seconds,
        )
        if log.isEnabledFor(self._access_level):
            self._log_access(request, response, seconds)
        return response

    def _log_access(self, request: web.Request, response: web.StreamResponse, seconds: float) -> None:
        """Write the line of a request. It has the path without the query, because that may hold a signature.

        The path of a feed has a secret token, so only its pattern is shown.
        """
        client = request.get(CLIENT)
        path, resource = request.rel_url.raw_path, request.match_info.route.resource
        extra = {
            "method": request.method,
            "path": resource.canonical if path.startswith("/feed/") and resource is not None else path,
            "status": response.status,
            "client": request.remote if client is None else client.owner,
            "seconds": round(seconds, 4),
        }
        if (code := request.get(_ERROR_CODE)) is not None:
            extra["code"] = code
        log.log(self._access_level, "request", extra=extra)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that depend on the request or on the current state. `headers` has the constant ones."""
        fields = response.headers
        if (request_id := logs.request_id.get()) is not None:
            fields["X-Request-Id"] = request_id
        if (rate_limit := self._rate_limit_fields(request)) is not None:
            fields["RateLimit-Policy"], fields["RateLimit"] = rate_limit
        if self._cors_origins:
            self._add_cors_headers(request, fields)
        if hdrs.UPGRADE in request.headers and "upgrade" in request.headers.get(hdrs.CONNECTION, "").lower():
            # aiohttp drops what follows a request for another protocol (h2c, TLS) in one packet. Closing the connection
            # makes the client repeat it; otherwise the client would wait for its response.
            response.force_close()
            fields[hdrs.CONNECTION] = "close"
        if self._is_draining():
            # Makes a load balancer open its next connection to another instance.
            response.force_close()
            fields[hdrs.CONNECTION] = "close"

    def _charged(self, error: Exception, request: web.Request) -> Exception:
        """Return the error, or the refusal of a request that no route takes, if its address has made too many."""
        if isinstance(error, BadRequest | web.HTTPNotFound | web.HTTPMethodNotAllowed):
            try:
                self._charge_unknown(request)
            except RequestError as refusal:
                return refusal
        return error

    def _error_response(self, error: Exception, request: web.Request) -> web.Response:
        match error:
            case RequestError():
                request[_ERROR_CODE] = error.code
                if error.status in _REJECTIONS:
                    self._metrics.rejections.labels(error.code).inc()
                return problems.response_of(error)
            case web.HTTPMethodNotAllowed():
                return problems.response_of(MethodNotAllowed(frozenset(error.allowed_methods), _detail(error, request)))
            case web.HTTPNotFound():
                return problems.response_of(NotFound(_detail(error, request)))
            case web.HTTPException():
                return problems.response_of_status(error.status)
            case _:
                log.error("request failed", exc_info=error, extra={"method": request.method})
                return problems.response_of(InternalError())

    def _new_request_id(self) -> str:
        return f"{self._request_prefix}{next(self._request_numbers):06x}"

    def _is_preflight(self, request: web.Request) -> bool:
        return (
            request.headers.get(hdrs.ORIGIN) in self._cors_origins
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        )

    def _add_cors_headers(self, request: web.Request, fields: "CIMultiDict[str]") -> None:
        fields.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None and request.path.startswith(("/download/", "/listen/")):
            # For <audio src> and links a browser sends no Origin, and without this it refuses the response. Which page
            # asks is then not known, so the policy is open as soon as one origin is allowed.
            fields["Cross-Origin-Resource-Policy"] = "cross-origin"
        if origin not in self._cors_origins:
            return
        fields["Cross-Origin-Resource-Policy"] = "cross-origin"
        fields[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        fields[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = (
            "Content-Disposition, Content-Range, ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
        )
        if request.method == hdrs.METH_OPTIONS:
            fields[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, HEAD, POST, DELETE"
            fields[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
                "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-API-Key, Range, If-Match, "
                "If-None-Match, If-Range"
            )


def _detail(error: web.HTTPNotFound | web.HTTPMethodNotAllowed, request: web.Request) -> str | None:
    """Return a text that names similar routes, or None for the default text."""
    near = directions(request.path)
    if near is None:
        return None
    what = "There is nothing at this address." if error.status == 404 else "This address does not support this method."
    return f"{what} {near}"


def _route_near(request: web.Request) -> str:
    """Return the route whose path a refused request has, with a method that it does not take; else `unknown`."""
    path = request.rel_url.raw_path
    for resource in request.app.router.resources():
        info = resource.get_info()
        pattern = info.get("pattern")
        if path == info.get("path") or (pattern is not None and pattern.fullmatch(path)):
            return resource.canonical
    return "unknown"


def _codes_of_rejections(kind: type[RequestError]) -> Iterator[str]:
    """Yield the codes of the errors that `rejections` counts: 429 and 503."""
    for error in kind.__subclasses__():
        if error.status in _REJECTIONS:
            yield error.code
        yield from _codes_of_rejections(error)
