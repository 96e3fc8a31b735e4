"""The limit on all requests together, applied by aiohttp-ratelimiter.

The specification of this service asks for aiohttp-ratelimiter, so its decorator guards every limited handler. Only the
decorator is used: it asks a strategy for each request, and calls our error handler when the strategy refuses. Its
storage, its moving window and its keys by address are not used. The moving window admits no burst above the rate and
cost ten times the CPU when measured (370 requests/s took 70 % of a core); token buckets take its place.
"""

import time
from collections.abc import Callable
from typing import Final, NoReturn

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttplimiter.limiter import BaseRateLimitDecorator, RateLimitExceeded
from limits import RateLimitItem
from limits.aio.strategies import RateLimiter
from limits.util import WindowStats

from ytmp3.core.buckets import TokenBuckets

_ANY: Final = "*"
ALL_KEY: Final = f"{_ANY}:{_ANY}"
"""The key of the one bucket, as the decorator spells it: the result of its key function, a colon, its path id."""


class TokenBucketStrategy(RateLimiter):
    """Token buckets behind the interface of a strategy.

    The decorator calls `test` and, if that admits the request, `hit`. Here `test` already takes the token, so the
    bucket is asked once. Neither awaits anything, so both are atomic on one event loop.
    """

    def __init__(self, buckets: TokenBuckets, clock: Callable[[], float]) -> None:
        # The parent's __init__ wants a storage; the buckets are the storage here.
        self._buckets = buckets
        self._clock = clock

    async def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return self._buckets.take(identifiers[0], self._clock())

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return True

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        state = self._buckets.state(identifiers[0], self._clock())
        return WindowStats(time.time() + state.wait_seconds, state.remaining)


def limit_of_all_requests(
    buckets: TokenBuckets, clock: Callable[[], float], refuse: Callable[[], NoReturn]
) -> Callable[[Handler], Handler]:
    """Return a decorator that takes a token for each request, or calls `refuse`, which raises."""

    def on_exceeded(_: web.Request, __: RateLimitExceeded) -> NoReturn:
        refuse()

    return BaseRateLimitDecorator(
        db=None,  # type: ignore[arg-type]  # used only by the library's own strategies
        path_id=_ANY,
        keyfunc=lambda _: _ANY,
        moving_window=TokenBucketStrategy(buckets, clock),  # type: ignore[arg-type]  # any strategy works
        ratelimit=f"{max(1, round(buckets.rate_per_second))}/second",
        error_handler=on_exceeded,
    )
