"""Token buckets, one per key, bounded in number. Pure: the time is an argument.

A bucket holds at most `burst` tokens and gains `rate` tokens a second; a request takes one. Never are more than
`burst + rate * t` admitted in any span of t seconds. A clock that steps back adds nothing and takes nothing away.
"""

import math
from collections import OrderedDict
from typing import Final

from msgspec import Struct

from ytmp3.core.turns import Turns

MAX_KEYS: Final = 50_000
"""21 MB at worst, if each was refused. Only a bucket that is full again is forgotten: that changes nothing for its
key."""


class Bucket(Struct):
    """The tokens of one key, as they were at a time."""

    tokens: float
    updated_at: float
    turns: Turns | None = None
    """Of those who were refused; None before the first."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What a request met, for the `RateLimit` and `Retry-After` headers."""

    remaining: int
    """Whole tokens left."""
    wait_seconds: float
    """Until the next token is there; 0 if one is."""


class TokenBuckets:
    """Buckets of one size and one rate, by key."""

    def __init__(self, *, rate_per_second: float, burst: int, max_keys: int = MAX_KEYS) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._crowd = Bucket(float(burst), -math.inf)
        """Shared by all new keys while there is no room for buckets of theirs."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> bool:
        """Take a token if there is one."""
        bucket = self._filled(key, now)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def has_token(self, key: str, now: float) -> bool:
        """Tell whether `take` would find one."""
        return self._filled(key, now).tokens >= 1.0

    def peek(self, key: str, now: float) -> Verdict:
        """Tell what `take` would find, and take nothing."""
        bucket = self._filled(key, now)
        missing = max(0.0, 1.0 - bucket.tokens)
        return Verdict(remaining=math.floor(bucket.tokens), wait_seconds=missing / self.rate_per_second)

    def standing(self, key: str, now: float) -> tuple[int, int]:
        """Return whole tokens left, and whole seconds until there is one, as of the last look at the bucket.

        Every answer tells it right after `take`, which has just filled the bucket.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._filled(key, now)
        tokens = bucket.tokens
        return (int(tokens), 0) if tokens >= 1.0 else (0, math.ceil((1.0 - tokens) / self.rate_per_second))

    def turn(self, key: str, now: float, *, chance: float) -> float:
        """Return the seconds after which one that was just refused should find a token, if it is not alone either."""
        bucket = self._filled(key, now)
        if bucket.turns is None:
            bucket.turns = Turns()
        return bucket.turns.take(
            now,
            rate_per_second=self.rate_per_second,
            earliest_seconds=self.peek(key, now).wait_seconds,
            chance=chance,
        )

    def _filled(self, key: str, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._new(key, now)
        self._buckets.move_to_end(key)
        return self._refilled(bucket, now)

    def _refilled(self, bucket: Bucket, now: float) -> Bucket:
        elapsed = now - bucket.updated_at
        if elapsed > 0.0:
            bucket.tokens = min(float(self.burst), bucket.tokens + elapsed * self.rate_per_second)
            bucket.updated_at = now
        return bucket

    def _new(self, key: str, now: float) -> Bucket:
        crowd = self._refilled(self._crowd, now)
        if len(self._buckets) >= self._max_keys and not self._forget_the_idlest(now):
            return crowd
        # Whoever was one of the crowd does not get rid of its debt with a bucket of its own.
        bucket = self._buckets[key] = Bucket(crowd.tokens, now)
        return bucket

    def _forget_the_idlest(self, now: float) -> bool:
        key, bucket = next(iter(self._buckets.items()))
        if bucket.tokens + (now - bucket.updated_at) * self.rate_per_second < self.burst:
            return False
        del self._buckets[key]
        return True
