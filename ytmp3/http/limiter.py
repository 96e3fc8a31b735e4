"""The adapter of aiohttp-ratelimiter."""

import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItem
from limits.aio.strategies import RateLimiter
from limits.util import WindowStats

from ytmp3.core.buckets import TokenBuckets

_GLOBAL: Final = "*"


_ALL_KEY: Final = f"{_GLOBAL}:{_GLOBAL}"
"""How the decorator spells the key of the one bucket: its key function's answer, then its path id."""


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
