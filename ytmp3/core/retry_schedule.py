"""Spreads the retries of refused requests over time, so that they do not arrive all at once. Pure."""

import math
from typing import Final

from msgspec import Struct

RETURNING_SHARE: Final = 0.5
"""Share of the rate that is reserved for retries. The rest is for first requests."""
LONGEST_RETRY_SECONDS: Final = 30.0
"""Upper bound of a Retry-After, in seconds, however many clients retry too early and push later ones back."""


class RetrySchedule(Struct):
    """Gives each refused request its own time to retry.

    With a random wait alone, 1,000 requests that were refused together would return as one wave and be refused again.
    With this schedule they return at RETURNING_SHARE of the rate, and a single refused request returns as soon as
    possible.
    """

    last_at: float = -math.inf
    """The latest time that was given out."""

    def take(
        self,
        now: float,
        *,
        rate_per_second: float,
        earliest_seconds: float,
        chance: float,
        longest_seconds: float = LONGEST_RETRY_SECONDS,
    ) -> float:
        """Return the seconds from `now` to the next free time, at least `earliest_seconds`.

        When all times within `longest_seconds` are taken, `chance` in [0, 1) spreads the retries over the second half
        of that period.
        """
        longest_at = now + longest_seconds
        interval_seconds = 1.0 / (rate_per_second * RETURNING_SHARE)
        retry_at = max(min(self.last_at, longest_at) + interval_seconds, now + earliest_seconds)
        if retry_at > longest_at:
            self.last_at = longest_at
            return max(earliest_seconds, longest_seconds * (1.0 + chance) / 2.0)
        self.last_at = retry_at
        return min(retry_at - now, longest_seconds)  # the sum may be rounded up
