"""Counts extractions per guest session or address, and says when one of them has had enough."""

import collections
from collections.abc import Callable

from .switches import Limit


class LimitKeeper:
    """An extraction asks once for a page and once as each of several clients: the most frequent request counts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limit: Limit | None = None
        self._requests: collections.defaultdict[str, collections.Counter[str]]
        self._refused_at: dict[str, float]
        self.reset()

    def reset(self) -> None:
        self._requests = collections.defaultdict(collections.Counter)
        self._refused_at = {}

    def is_spent(self, limit: Limit | None, *, visitor: str, address: str, request: str) -> bool:
        """Count a request (`page`, or the client's name); return whether it is over the limit."""
        if limit != self._limit:
            self._limit = limit
            self.reset()
        if limit is None:
            return False
        subject = visitor if limit.per == "visitor" else address
        now = self._clock()
        refused_at = self._refused_at.get(subject)
        if refused_at is not None:
            if limit.pause_seconds is None or now - refused_at < limit.pause_seconds:
                self._refused_at[subject] = now
                return True
            del self._refused_at[subject], self._requests[subject]
        counter = self._requests[subject]
        counter[request] += 1
        if counter[request] <= limit.extractions:
            return False
        self._refused_at[subject] = now
        return True
