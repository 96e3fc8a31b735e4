"""How fast conversions go, measured from the last thousand: the source of every estimate. Pure.

Estimates are for people and for `Retry-After`; nothing is decided by them.
"""

import math
from collections import deque
from typing import Final

from msgspec import Struct

WINDOW: Final = 1000
FIRST_GUESS_SECONDS: Final = 20.0
"""Before anything was measured: a four-minute song on a busy two-core machine."""
LONGEST_WAIT_SECONDS: Final = 300
RECENT_SECONDS: Final = 120.0


class Durations(Struct, frozen=True, kw_only=True):
    """Seconds from claim to end; None while nothing has ended."""

    mean: float | None
    p50: float | None
    p95: float | None


class Pace:
    """Keeps how long conversions took and when they ended."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._ends: deque[float] = deque(maxlen=WINDOW)
        self._recent_mean = FIRST_GUESS_SECONDS

    def ended(self, seconds: float, now: float) -> None:
        """Record a conversion that took `seconds` and ended at `now`."""
        self._recent_mean = seconds if not self._seconds else 0.8 * self._recent_mean + 0.2 * seconds
        self._seconds.append(seconds)
        self._ends.append(now)

    @property
    def seconds_per_conversion(self) -> float:
        return self._recent_mean

    def durations(self) -> Durations:
        """Summarise the window."""
        if not self._seconds:
            return Durations(mean=None, p50=None, p95=None)
        ordered = sorted(self._seconds)
        return Durations(
            mean=math.fsum(ordered) / len(ordered),
            p50=ordered[len(ordered) // 2],
            p95=ordered[min(len(ordered) - 1, math.floor(0.95 * len(ordered)))],
        )

    def slot_wait_seconds(self, *, workers: int, now: float, chance: float) -> int:
        """Return when a slot of a full queue should be free: one conversion's share of the measured drain rate.

        `chance` in [0, 1) spreads those who were refused together over a second window of the same length.
        """
        recent = [at for at in self._ends if now - at <= RECENT_SECONDS]
        is_measured = len(recent) >= 2
        interval = (now - recent[0]) / len(recent) if is_measured else self._recent_mean / max(1, workers)
        return max(1, min(LONGEST_WAIT_SECONDS, math.ceil(interval * (1.0 + chance) + chance)))
