"""Around every handler: request id, timing, errors as problem+json, security headers, CORS, identity, rate limits.

Two middlewares, because each costs every request: `frame` (outermost: nothing gets past it unrendered) and `gate` (who
is asking, and may they ask now). Headers are set by a signal, so that streamed answers have them too.
"""

import functools
import itertools
import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final, NoReturn

from aiohttp import HttpVersion10, hdrs, web
from aiohttplimiter.limiter import BaseRateLimitDecorator, RateLimitExceeded
from limits import RateLimitItem
from limits.aio.strategies import RateLimiter
from limits.util import WindowStats
from multidict import CIMultiDict

from ytmp3 import logs
from ytmp3.core.buckets import TokenBuckets
from ytmp3.core.errors import MethodNotAllowed, RateLimited, RequestError, Unauthorized
from ytmp3.http import problems as problem
from ytmp3.http.identity import ApiKey, Client, Network, client_address, find_key, is_trusted, presented_secret
from ytmp3.metrics import Metrics

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Standing = tuple[str, str]
"""`RateLimit-Policy` and `RateLimit`: the fields of the IETF httpapi draft. A draft, but the only specified ones."""

CLIENT: Final = web.RequestKey("client", Client)
"""Set by the gate on every request that reaches a handler."""
_BUCKETS: Final = web.RequestKey("buckets", TokenBuckets)
"""The client's own, where it has a limit of its own."""

_OF_ALL: Final = next(iter(problem.COMMON_HEADERS))
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|[0-9A-Za-z.%_~!$&'()*+,;=-]*)(?::[0-9]*)?", re.ASCII)
"""The form of section 7.2, RFC 9110; whatever is no such thing has to be refused (RFC 9112, section 3.2)."""
_host = functools.lru_cache(maxsize=64)(_HOST.fullmatch)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
REMEMBERED_PEERS: Final = 4096
REMEMBERED_CHARACTERS: Final = 256
"""Of `X-Forwarded-For`: the longer are read each time. With the peers it bounds what is remembered to some 3 MB."""
_GLOBAL: Final = "*"
_ALL_KEY: Final = f"{_GLOBAL}:{_GLOBAL}"
"""How the decorator spells the key of the one bucket: its key function's answer, then its path id."""


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
                raise web.HTTPBadRequest
            if request.method == hdrs.METH_OPTIONS and self._is_preflight(request):
                response: web.StreamResponse = web.Response(status=HTTPStatus.NO_CONTENT)
            else:
                response = await handler(request)
        except ConnectionError:
            raise  # the client went away: there is nobody to answer
        except Exception as error:
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


class Keys:
    """The accepted API keys; `replace` swaps them while requests are served (SIGHUP)."""

    def __init__(self, keys: Sequence[ApiKey] | None) -> None:
        self.keys = keys

    @property
    def are_required(self) -> bool:
        return self.keys is not None

    def replace(self, keys: Sequence[ApiKey]) -> None:
        """Take new keys."""
        self.keys = keys


class Limits:
    """The global bucket, and one for each client."""

    def __init__(self, *, rate_per_second: float, burst: int, client_rate_per_second: float, client_burst: int) -> None:
        self.all = TokenBuckets(rate_per_second=rate_per_second, burst=burst)
        self._default = _buckets(client_rate_per_second, client_burst)
        self._own: dict[tuple[float, int], TokenBuckets] = {}

    def of(self, client: Client) -> TokenBuckets | None:
        """Return the buckets that limit this client, or None."""
        key = client.key
        if key is None or key.requests_per_second is None:
            return self._default
        size = (key.requests_per_second, key.burst or 0)
        if size not in self._own:
            buckets = _buckets(*size)
            if buckets is not None:
                self._own[size] = buckets
        return self._own.get(size)


def _buckets(rate_per_second: float, burst: int) -> TokenBuckets | None:
    if rate_per_second == 0:
        return None
    return TokenBuckets(rate_per_second=rate_per_second, burst=burst or max(1, math.ceil(2 * rate_per_second)))


class TokenBucketStrategy(RateLimiter):
    """Our token bucket in the place of aiohttp-ratelimiter's moving window.

    The stock limiter admits no burst beyond its rate and costs ten times the CPU (facts: 370 requests/s take 70 % of a
    core). The decorator calls `test`, and `hit` right after it: the first takes the token, so that a bucket is asked
    once. It has no await inside, so it is atomic on one event loop.
    """

    def __init__(self, buckets: TokenBuckets, clock: Callable[[], float] = time.monotonic) -> None:
        # The parent wants a storage; ours are the buckets.
        self._buckets = buckets
        self._clock = clock

    async def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return self._buckets.take(identifiers[0], self._clock())

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return True

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        verdict = self._buckets.peek(identifiers[0], self._clock())
        return WindowStats(time.time() + verdict.wait_seconds, verdict.remaining)


class Gate:
    """Who is asking, and may they ask now. Wraps the handlers that are not exempt, once, at start."""

    def __init__(
        self,
        *,
        keys: Keys,
        limits: Limits,
        trusted_proxies: Sequence[Network],
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._trusted = trusted_proxies
        self._chance = chance
        self._clock = clock
        # Parsing an address costs more than the rest of the gate; most requests come from few peers.
        self._peer_at = functools.lru_cache(maxsize=REMEMBERED_PEERS)(self._peer)
        self._client_at = functools.lru_cache(maxsize=REMEMBERED_PEERS)(self._client)
        self._policy = f'"all";q={limits.all.burst};w={_window_seconds(limits.all)}'
        self._decorate = BaseRateLimitDecorator(
            db=None,  # type: ignore[arg-type]  # only the stock strategies use it
            path_id=_GLOBAL,
            keyfunc=lambda _: _GLOBAL,
            moving_window=TokenBucketStrategy(limits.all, clock),  # type: ignore[arg-type]
            ratelimit=f"{max(1, round(limits.all.rate_per_second))}/second",
            error_handler=self._refuse_all,
        )

    def guard(self, handler: Handler) -> Handler:
        """Return the handler behind identity and limits.

        A request takes a token of its client's and one of the bucket over all, or none: who is refused by the one must
        not have paid the other, or coming back as told would not be enough. Nothing is awaited between look and take.
        """

        async def charged(request: web.Request) -> web.StreamResponse:
            request[_BUCKETS].take(request[CLIENT].owner, self._clock())
            return await handler(request)

        admitted: Handler = self._decorate(handler)
        admitted_and_charged: Handler = self._decorate(charged)

        async def guarded(request: web.Request) -> web.StreamResponse:
            client = request[CLIENT] = self.identify(request)
            buckets = self._limits.of(client)
            if buckets is None:
                return await admitted(request)
            request[_BUCKETS] = buckets
            now = self._clock()
            if not buckets.has_token(client.owner, now):
                _refuse(buckets.turn(client.owner, now, chance=self._chance()))
            return await admitted_and_charged(request)

        return guarded

    def standing(self, request: web.Request) -> Standing | None:
        """Return where a client stands, if it is known by now who asks."""
        client = request.get(CLIENT)
        if client is None:
            return None
        now = self._clock()
        remaining, wait_seconds = self._limits.all.standing(_ALL_KEY, now)
        policy, state = self._policy, f'"all";r={remaining};t={wait_seconds}'
        buckets = self._limits.of(client)
        if buckets is not None:
            remaining, wait_seconds = buckets.standing(client.owner, now)
            policy += f', "client";q={buckets.burst};w={_window_seconds(buckets)}'
            state += f', "client";r={remaining};t={wait_seconds}'
        return policy, state

    def identify(self, request: web.Request) -> Client:
        """Return the client.

        Raises:
            Unauthorized: keys are in use, and none or a wrong one was presented.
        """
        keys = self._keys.keys
        if keys is not None:
            headers = request.headers
            key = find_key(
                keys, presented_secret(headers.getall("X-API-Key", ()), headers.getall(hdrs.AUTHORIZATION, ()))
            )
            if key is None:
                raise Unauthorized
            return Client(owner=f"key:{key.name}", key=key)
        peer = request.remote
        direct, may_speak_for_others = self._peer_at(peer)
        if not may_speak_for_others:
            return direct
        forwarded = tuple(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))
        is_short = sum(map(len, forwarded)) <= REMEMBERED_CHARACTERS
        return self._client_at(peer, forwarded) if is_short else self._client(peer, forwarded)

    def _peer(self, peer: str | None) -> tuple[Client, bool]:
        """The peer itself as a client, and whether it is a proxy of ours."""
        return self._client(peer, ()), is_trusted(peer, self._trusted)

    def _client(self, peer: str | None, forwarded: tuple[str, ...]) -> Client:
        return Client(owner="addr:" + client_address(peer, forwarded, self._trusted))

    def _refuse_all(self, request: web.Request, exceeded: RateLimitExceeded) -> NoReturn:
        _refuse(self._limits.all.turn(_ALL_KEY, self._clock(), chance=self._chance()))


def _refuse(wait_seconds: float) -> NoReturn:
    raise RateLimited(retry_after_seconds=max(1, math.ceil(wait_seconds)))


def _window_seconds(buckets: TokenBuckets) -> int:
    """The time in which an empty bucket fills up."""
    return max(1, math.ceil(buckets.burst / buckets.rate_per_second))
