"""When a refused request should come back."""

import math
from typing import Final

from msgspec import Struct

RETURNING_SHARE: Final = 0.5
"""Of the rate: promised to those who were refused. The rest is for whoever comes for the first time."""


LONGEST_TURN_SECONDS: Final = 30.0
"""Whoever does not wait makes others wait longer; not longer than this."""


class Turns(Struct):
    """Tells each refused request when to come back: at a moment that nobody else was told.

    A random wait alone sends 1,000 who were refused together back as a wave that is refused again (goal L04). Here they
    return at RETURNING_SHARE of the rate, and a single one returns at once.
    """

    last_at: float = -math.inf
    """The last turn that was given away."""

    def take(
        self,
        now: float,
        *,
        rate_per_second: float,
        earliest_seconds: float,
        chance: float,
        longest_seconds: float = LONGEST_TURN_SECONDS,
    ) -> float:
        """Return the seconds from `now` until the next free turn. `chance` in [0, 1) spreads those beyond the bound."""
        longest_at = now + longest_seconds
        interval_seconds = 1.0 / (rate_per_second * RETURNING_SHARE)
        turn_at = max(min(self.last_at, longest_at) + interval_seconds, now + earliest_seconds)
        if turn_at > longest_at:
            self.last_at = longest_at
            return max(earliest_seconds, longest_seconds * (1.0 + chance) / 2.0)
        self.last_at = turn_at
        return min(turn_at - now, longest_seconds)  # the sum may be rounded up
