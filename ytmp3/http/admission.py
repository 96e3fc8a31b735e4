"""Identifies the client of a request and applies the rate limits: API keys, client addresses, token buckets."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from ytmp3.core.buckets import TokenBuckets
from ytmp3.core.client import ApiKey, Client, Network
from ytmp3.core.ids import ClientId
from ytmp3.http.errors import RateLimited, Unauthorized
from ytmp3.http.identity import client_address, is_trusted, presented_secret
from ytmp3.http.keys import Keys, find_key, owner_of
from ytmp3.http.limiter import ALL_KEY, limit_of_all_requests
from ytmp3.http.settings import RateLimitSettings

RateLimitFields = tuple[str, str]
"""The values of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers)."""

CLIENT: Final = web.RequestKey("client", Client)
"""The client that sent the request. Set on every request that reaches a guarded handler."""
LINK_UNTIL: Final = web.RequestKey("link_until", int)
"""When the signed link ends by which a request without a key was admitted, in seconds since 1970."""
_CLIENT_BUCKETS: Final = web.RequestKey("client_buckets", TokenBuckets)
"""The buckets that limit the client of the request, if its requests are limited."""

REMEMBERED_PEERS: Final = 4096
"""Most peers whose parsed addresses are cached."""
REMEMBERED_CHARACTERS: Final = 256
"""Longest `X-Forwarded-For`, in characters, that is cached. A longer one is parsed at each request. Together with
REMEMBERED_PEERS this bounds the cache to about 3 MB, whatever clients send."""
UNKNOWN_RATE: Final = 0.05
"""The part of REQUESTS_PER_SECOND that one address has for requests of no client: with a wrong API key, or for nothing.
A client whose key has just been replaced needs a few; who guesses keys needs many. By default it is 5 per second."""
UNKNOWN_BURST: Final = 0.25
"""The part of BURST_SIZE that such requests of one address may use at once. By default it is 50."""


def owner_in(request: web.Request, keys: Keys) -> ClientId | None:
    """Return the client that must own a job or a batch, or None if no API keys are in use: then its id gives access."""
    return request[CLIENT].owner if keys.are_required else None


class RateLimits:
    """The bucket of all requests together, one bucket for each client, and one for each address without a client."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self.all = TokenBuckets(rate_per_second=settings.requests_per_second, burst=settings.burst_size)
        self.unknown = TokenBuckets(
            rate_per_second=settings.requests_per_second * UNKNOWN_RATE,
            burst=max(1, round(settings.burst_size * UNKNOWN_BURST)),
        )
        """By address: requests with a wrong API key, and those that no route takes."""
        self._default = _buckets(settings.client_requests_per_second, settings.client_burst_size)
        self._by_size: dict[tuple[float, int], TokenBuckets] = {}

    def of(self, client: Client) -> TokenBuckets | None:
        """Return the buckets that limit this client, or None if it is not limited.

        A key may have a rate of its own; keys with the same rate and burst share one set of buckets.
        """
        key = client.key
        if key is None or key.requests_per_second is None:
            return self._default
        size = (key.requests_per_second, key.burst or 0)
        if size not in self._by_size:
            buckets = _buckets(*size)
            if buckets is not None:
                self._by_size[size] = buckets
        return self._by_size.get(size)


def _buckets(rate_per_second: float, burst: int) -> TokenBuckets | None:
    """Return buckets with this rate and burst. A rate of 0 means no limit; a burst of 0 means twice the rate."""
    if rate_per_second == 0:
        return None
    return TokenBuckets(rate_per_second=rate_per_second, burst=burst or max(1, math.ceil(2 * rate_per_second)))


class Admission:
    """Identifies the client of each request and applies the rate limits.

    `clock` is monotonic. `chance` returns a number in [0, 1), which spreads the retries of refused requests. `link_end`
    returns when the signed link of a request ends, or None if the request has no valid one. `session_key` returns the
    API key of a visitor of the web page who is signed in, or None.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        limits: RateLimits,
        trusted_proxies: Sequence[Network],
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        link_end: Callable[[web.Request], int | None] = lambda _: None,
        session_key: Callable[[web.Request], ApiKey | None] = lambda _: None,
    ) -> None:
        self._keys = keys
        self._link_end = link_end
        self._session_key = session_key
        self._limits = limits
        self._trusted = trusted_proxies
        self._chance = chance
        self._clock = clock
        # Parsing an address costs more than the rest of this class, and most requests come from few peers.
        self._peer_at = functools.lru_cache(maxsize=REMEMBERED_PEERS)(self._peer)
        self._client_at = functools.lru_cache(maxsize=REMEMBERED_PEERS)(self._client)
        self._policy = f'"all";q={limits.all.burst};w={_window_seconds(limits.all)}'
        self._limit_all = limit_of_all_requests(
            limits.all,
            clock,
            lambda: self._refuse(self._limits.all, ALL_KEY, self._clock(), "All clients send"),
        )

    def guard(self, handler: Handler, *, needs_key: bool = True) -> Handler:
        """Wrap a handler with identification and limits. Called once for each route, when the service starts.

        `needs_key`: whether requests without an API key are refused, where keys are in use.

        A request takes a token from both its client's bucket and the bucket of all requests, or from neither. If a
        request that one limit refuses took a token of the other, its Retry-After would be wrong. For the same reason
        nothing may be awaited between the check of the client's bucket and taking both tokens.
        """

        async def charged(request: web.Request) -> web.StreamResponse:
            request[_CLIENT_BUCKETS].take(request[CLIENT].owner, self._clock())
            return await handler(request)

        admitted: Handler = self._limit_all(handler)
        admitted_and_charged: Handler = self._limit_all(charged)

        async def guarded(request: web.Request) -> web.StreamResponse:
            client = request[CLIENT] = self.identify(request, needs_key=needs_key)
            buckets = self._limits.of(client)
            if buckets is None:
                return await admitted(request)
            request[_CLIENT_BUCKETS] = buckets
            now = self._clock()
            if not buckets.has_token(client.owner, now):
                self._refuse(buckets, client.owner, now, "This client sends")
            return await admitted_and_charged(request)

        return guarded

    def rate_limit_fields(self, request: web.Request) -> RateLimitFields | None:
        """Return the RateLimit header values of a response; None if the client was not identified."""
        client = request.get(CLIENT)
        if client is None:
            return None
        now = self._clock()
        remaining, wait_seconds = self._limits.all.last_state(ALL_KEY, now)
        policy, state = self._policy, f'"all";r={remaining};t={wait_seconds}'
        buckets = self._limits.of(client)
        if buckets is not None:
            remaining, wait_seconds = buckets.last_state(client.owner, now)
            policy += f', "client";q={buckets.burst};w={_window_seconds(buckets)}'
            state += f', "client";r={remaining};t={wait_seconds}'
        return policy, state

    def identify(self, request: web.Request, *, needs_key: bool = True) -> Client:
        """Return the client that sent a request: the owner of its API key or of its session, or else its address.

        Where keys are in use, a signed link may stand for one; its end is then in LINK_UNTIL, not yet compared with
        the time.

        Raises:
            Unauthorized: keys are in use, and the request presents none or a wrong one.
            RateLimited: the same, but its address has made too many such requests.
        """
        keys = self._keys.keys
        if keys is not None:
            headers = request.headers
            key = find_key(
                keys, presented_secret(headers.getall("X-API-Key", ()), headers.getall(hdrs.AUTHORIZATION, ()))
            )
            if key is None:
                key = self._session_key(request)
            if key is not None:
                return Client(owner=owner_of(key), key=key)
            link_until = self._link_end(request)
            if link_until is not None:
                request[LINK_UNTIL] = link_until
            elif needs_key:
                self.charge_unknown(request)
                raise Unauthorized
        return self._client_by_address(request)

    def charge_unknown(self, request: web.Request) -> None:
        """Take a token for a request of no client: with a wrong API key, or one that no route takes.

        Such requests take no token of the bucket of all requests, so that they cannot keep the clients out.

        Raises:
            RateLimited: the address of the request has made too many of them.
        """
        address, now = self._client_by_address(request).owner, self._clock()
        if not self._limits.unknown.take(address, now):
            self._refuse(
                self._limits.unknown, address, now, "This address sends, without a valid API key or for nothing,"
            )

    def _client_by_address(self, request: web.Request) -> Client:
        peer = request.remote
        direct, is_proxy = self._peer_at(peer)
        if not is_proxy:
            return direct
        forwarded = tuple(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))
        is_short = sum(map(len, forwarded)) <= REMEMBERED_CHARACTERS
        return self._client_at(peer, forwarded) if is_short else self._client(peer, forwarded)

    def _peer(self, peer: str | None) -> tuple[Client, bool]:
        """Return the peer as a client, and whether it is a trusted proxy."""
        return self._client(peer, ()), is_trusted(peer, self._trusted)

    def _client(self, peer: str | None, forwarded: tuple[str, ...]) -> Client:
        return Client(owner=ClientId("addr:" + client_address(peer, forwarded, self._trusted)))

    def _refuse(self, buckets: TokenBuckets, key: str, now: float, who: str) -> NoReturn:
        """Refuse a request. `who`: the beginning of a sentence that says whose limit is reached."""
        seconds = max(1, math.ceil(buckets.retry_seconds(key, now, chance=self._chance())))
        detail = f"{who} more than {buckets.rate_per_second:g} requests per second. Retry after {seconds} s."
        raise RateLimited(detail, retry_after_seconds=seconds)


def _window_seconds(buckets: TokenBuckets) -> int:
    """Return the seconds in which an empty bucket fills up."""
    return max(1, math.ceil(buckets.burst / buckets.rate_per_second))
