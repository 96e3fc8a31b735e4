"""When YouTube refuses this address, stop asking for a while. Pure: the time is an argument.

Closed: everything passes. Open (after enough refusals): nothing passes until a time. Half open: one trial passes, and
its outcome closes the breaker or opens it again for twice as long. Each start has a number, by which an outcome is told
from that of work that began before the breaker opened. The figures are goal L08's.
"""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0
REFUSALS_TO_OPEN: Final = 5
SHARE_TO_OPEN: Final = 0.5
FIRST_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 3600.0
"""YouTube's block of a session lasts up to an hour (the yt-dlp wiki)."""


class Breaker:
    """Counts what conversions met at YouTube, and says whether the next may start."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=1000)
        self._open_until: float | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._last_start = 0
        self._trial: tuple[int, float] | None = None
        """The number of the trial under way, and when it started."""

    def is_open(self, now: float) -> bool:
        """Whether a conversion may not start now."""
        if self._open_until is None:
            return False
        return now < self._open_until or self._trial_is_running(now)

    def wait_seconds(self, now: float) -> float:
        """How long until a trial may start; 0 when closed."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def started(self, now: float) -> int:
        """A conversion starts: after the pause, it is the trial. Returns its number."""
        self._last_start += 1
        if self._open_until is not None and now >= self._open_until:
            self._trial = (self._last_start, now)
        return self._last_start

    def passed(self, start: int, now: float) -> None:
        """YouTube served a conversion (whatever became of it afterwards)."""
        if self._open_until is None:
            self._outcomes.append((now, False))
        elif self._is_trial(start):
            self._open_until = None
            self._trial = None
            self._pause_seconds = FIRST_PAUSE_SECONDS
            self._outcomes.clear()

    def refused(self, start: int, now: float) -> None:
        """YouTube refused the address: a bot check or a rate limit."""
        if self._open_until is None:
            self._outcomes.append((now, True))
            recent = [refused for at, refused in self._outcomes if now - at <= WINDOW_SECONDS]
            refusals = sum(recent)
            if refusals >= REFUSALS_TO_OPEN and refusals >= SHARE_TO_OPEN * len(recent):
                self._open_until = now + self._pause_seconds
        elif self._is_trial(start):
            self._pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds)
            self._open_until = now + self._pause_seconds
            self._trial = None

    def ended(self, start: int) -> None:
        """A conversion is over. If it was the trial and brought no verdict (it was cancelled), the next one is."""
        if self._is_trial(start):
            self._trial = None

    def _is_trial(self, start: int) -> bool:
        return self._trial is not None and self._trial[0] == start

    def _trial_is_running(self, now: float) -> bool:
        # A trial that takes long (an hour of sound) must not hold the door: another one may follow.
        return self._trial is not None and now - self._trial[1] < WINDOW_SECONDS
