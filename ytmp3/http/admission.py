"""Who may send a request now."""

import functools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

from aiohttp import hdrs, web
from aiohttplimiter.limiter import BaseRateLimitDecorator, RateLimitExceeded

from ytmp3.core.buckets import TokenBuckets
from ytmp3.core.client import Client, Network
from ytmp3.core.ids import ClientId
from ytmp3.http.errors import RateLimited, Unauthorized
from ytmp3.http.identity import client_address, is_trusted, presented_secret
from ytmp3.http.keys import Keys, find_key
from ytmp3.http.limiter import _ALL_KEY, _GLOBAL, TokenBucketStrategy

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


Standing = tuple[str, str]
"""`RateLimit-Policy` and `RateLimit`: the fields of the IETF httpapi draft. A draft, but the only specified ones."""


CLIENT: Final = web.RequestKey("client", Client)
"""Set by the gate on every request that reaches a handler."""


_BUCKETS: Final = web.RequestKey("buckets", TokenBuckets)
"""The client's own, where it has a limit of its own."""


REMEMBERED_PEERS: Final = 4096


REMEMBERED_CHARACTERS: Final = 256
"""Of `X-Forwarded-For`: the longer are read each time. With the peers it bounds what is remembered to some 3 MB."""


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
            return Client(owner=ClientId(f"key:{key.name}"), key=key)
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
        return Client(owner=ClientId("addr:" + client_address(peer, forwarded, self._trusted)))

    def _refuse_all(self, request: web.Request, exceeded: RateLimitExceeded) -> NoReturn:
        _refuse(self._limits.all.turn(_ALL_KEY, self._clock(), chance=self._chance()))


def _refuse(wait_seconds: float) -> NoReturn:
    raise RateLimited(retry_after_seconds=max(1, math.ceil(wait_seconds)))


def _window_seconds(buckets: TokenBuckets) -> int:
    """The time in which an empty bucket fills up."""
    return max(1, math.ceil(buckets.burst / buckets.rate_per_second))
