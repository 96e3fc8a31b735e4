"""Token buckets, one for each key, bounded in number. Pure: the time is an argument.

A bucket holds at most `burst` tokens and gains `rate` tokens a second; a request takes one. In any span of t seconds at
most `burst + rate * t` requests are admitted. A clock that steps back neither adds nor removes tokens.
"""

import math
from collections import OrderedDict
from typing import Final

from msgspec import Struct

from ytmp3.core.retry_schedule import RetrySchedule

MAX_KEYS: Final = 50_000
"""Most buckets that are kept at once; they take 21 MB if each key was refused. Only a bucket that is full again is
dropped. Its key loses nothing, because a new bucket is full too."""


class Bucket(Struct):
    """The tokens of one key at `updated_at`."""

    tokens: float
    updated_at: float
    retries: RetrySchedule | None = None
    """The times given to refused requests; None before the first refusal."""


class BucketState(Struct, frozen=True, kw_only=True):
    """The state of a bucket, as a request would find it."""

    remaining: int
    """Whole tokens left."""
    wait_seconds: float
    """Seconds until the next token; 0 if there is one."""


class TokenBuckets:
    """Buckets of one size and one rate, by key."""

    def __init__(self, *, rate_per_second: float, burst: int, max_keys: int = MAX_KEYS) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._overflow = Bucket(float(burst), -math.inf)
        """The bucket that all new keys share while `max_keys` buckets exist."""

    def __len__(self) -> int:
        """Return the number of keys that have a bucket of their own."""
        return len(self._buckets)

    def take(self, key: str, now: float) -> bool:
        """Take a token if there is one."""
        bucket = self._filled(key, now)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def put_back(self, key: str, now: float) -> None:
        """Put back a token that was taken for nothing."""
        bucket = self._filled(key, now)
        bucket.tokens = min(float(self.burst), bucket.tokens + 1.0)

    def has_token(self, key: str, now: float) -> bool:
        """Return whether `take` would succeed."""
        return self._filled(key, now).tokens >= 1.0

    def state(self, key: str, now: float) -> BucketState:
        """Return the state of the key's bucket without taking a token."""
        bucket = self._filled(key, now)
        missing = max(0.0, 1.0 - bucket.tokens)
        return BucketState(remaining=math.floor(bucket.tokens), wait_seconds=missing / self.rate_per_second)

    def last_state(self, key: str, now: float) -> tuple[int, int]:
        """Return the whole tokens left, and the whole seconds until there is one, as of the last use of the bucket.

        Used for response headers, which are written right after `take` has refilled the bucket. It is cheaper than
        `state`, because it does not refill the bucket again.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._filled(key, now)
        tokens = bucket.tokens
        return (int(tokens), 0) if tokens >= 1.0 else (0, math.ceil((1.0 - tokens) / self.rate_per_second))

    def retry_seconds(self, key: str, now: float, *, chance: float) -> float:
        """Return the seconds after which a refused request should be sent again. Each call gets a different time."""
        bucket = self._filled(key, now)
        if bucket.retries is None:
            bucket.retries = RetrySchedule()
        return bucket.retries.take(
            now,
            rate_per_second=self.rate_per_second,
            earliest_seconds=self.state(key, now).wait_seconds,
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
        overflow = self._refilled(self._overflow, now)
        if len(self._buckets) >= self._max_keys and not self._forget_least_recent(now):
            return overflow
        # A key that used the shared bucket does not get new tokens with a bucket of its own.
        bucket = self._buckets[key] = Bucket(overflow.tokens, now)
        return bucket

    def _forget_least_recent(self, now: float) -> bool:
        key, bucket = next(iter(self._buckets.items()))
        if bucket.tokens + (now - bucket.updated_at) * self.rate_per_second < self.burst:
            return False
        del self._buckets[key]
        return True
