"""How fast conversions go, measured from the last thousand: the source of every estimate. Pure.

Estimates are for people and for `Retry-After`; nothing is decided by them.
"""

import math
from collections import deque
from typing import Final

from msgspec import Struct

from ytmp3.core.retry_schedule import RetrySchedule

WINDOW: Final = 1000
FIRST_GUESS_SECONDS: Final = 20.0
"""Before anything was measured: a four-minute song on a busy two-core machine."""
LONGEST_WAIT_SECONDS: Final = 300
RECENT_SECONDS: Final = 120.0
SHORTEST_INTERVAL_SECONDS: Final = 0.001
"""Between two ends, as far as estimates go: many may end at one moment."""


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
        self._retries = RetrySchedule()

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
        """Return when a slot of a full queue should be free, at the measured drain rate.

        Each that is told gets a turn of its own; `chance` in [0, 1) spreads those whose turn would be too far away.
        """
        recent = [at for at in self._ends if now - at <= RECENT_SECONDS]
        is_measured = len(recent) >= 2
        interval = (now - recent[0]) / len(recent) if is_measured else self._recent_mean / max(1, workers)
        wait_seconds = self._retries.take(
            now,
            rate_per_second=1.0 / max(interval, SHORTEST_INTERVAL_SECONDS),
            earliest_seconds=min(interval, LONGEST_WAIT_SECONDS),
            chance=chance,
            longest_seconds=LONGEST_WAIT_SECONDS,
        )
        return max(1, math.ceil(wait_seconds))


def eta_seconds(*, position: int | None, seconds_per_conversion: float, workers: int, progress: float) -> int:
    """Return the guessed seconds to the end: the turns of the pool before this conversion, then its own rest."""
    turns = 0.0 if position is None else position / max(1, workers)
    return max(1, round(seconds_per_conversion * (turns + 1.0 - progress)))
