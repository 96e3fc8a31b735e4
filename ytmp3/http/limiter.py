"""The limit on all requests together, applied by aiohttp-ratelimiter.

The requirements of this service prescribe aiohttp-ratelimiter, so its decorator wraps every limited handler. Only the
decorator is used: it calls a strategy for each request, and our error handler if the strategy refuses. The library's
storage, moving window and address keys are not used. Its moving window admits no burst above the rate, and it took ten
times the CPU when measured (370 requests/s took 70 % of a core). Token buckets replace it.
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
"""The key of the single bucket for all requests. The decorator makes it from its key function's result and path id."""


class TokenBucketStrategy(RateLimiter):
    """Token buckets with the interface of a strategy of the `limits` library.

    The decorator calls `test` and, if that admits the request, `hit`. Here `test` already takes the token, and `hit`
    does nothing. Neither awaits anything, so both are atomic on one event loop.
    """

    def __init__(self, buckets: TokenBuckets, clock: Callable[[], float]) -> None:
        # The parent's __init__ is not called: it requires a storage, and the buckets are the storage here.
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
