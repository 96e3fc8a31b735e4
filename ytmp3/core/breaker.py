"""A circuit breaker for YouTube: while YouTube refuses this server's address, no conversion starts. Pure.

    closed ── 5 refusals in a minute, and at least half of all outcomes ──> open: no conversion starts for a pause
    open ──── the pause is over ──> half open: one conversion, the trial, may start
    half open ── YouTube serves the trial ──> closed
    half open ── YouTube refuses the trial ──> open again, for twice as long

Each start of a conversion has a number. By it, the breaker tells the outcome of the trial from the outcomes of
conversions that had started before the breaker opened; it ignores those, because they are out of date.
"""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""Window, in seconds, of the outcomes that count; also the time after which a second trial may start while the first
still runs."""
REFUSALS_TO_OPEN: Final = 5
"""Fewest refusals in the window that open the breaker. Fewer may concern single videos."""
SHARE_TO_OPEN: Final = 0.5
"""Smallest share of refusals among the outcomes in the window that opens the breaker. Below it, YouTube still serves
most conversions of this address."""
FIRST_PAUSE_SECONDS: Final = 60.0
"""The first pause, in seconds; each refused trial doubles it."""
LONGEST_PAUSE_SECONDS: Final = 3600.0
"""The longest pause, in seconds. According to the yt-dlp wiki, YouTube blocks a session for up to an hour."""
REMEMBERED_OUTCOMES: Final = 1000
"""Most outcomes that are kept. This bounds the memory, and is more than arrive within the window."""


class Breaker:
    """Records whether YouTube served or refused conversions, and decides whether the next one may start."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=REMEMBERED_OUTCOMES)
        """The time of each outcome while closed, and whether it was a refusal."""
        self._open_until: float | None = None
        """The end of the pause, after which the next start is the trial; None while the breaker is closed."""
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._last_start = 0
        self._trial: tuple[int, float] | None = None
        """The start number and the start time of the running trial."""

    def is_open(self, now: float) -> bool:
        """Return whether the breaker prevents all starts now."""
        if self._open_until is None:
            return False
        return now < self._open_until or self._trial_is_running(now)

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until a trial may start; 0 while the breaker is closed."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def started(self, now: float) -> int:
        """Record the start of a conversion, and return its number. The first start after the pause is the trial."""
        self._last_start += 1
        if self._open_until is not None and now >= self._open_until:
            self._trial = (self._last_start, now)
        return self._last_start

    def passed(self, start: int, now: float) -> None:
        """Record that YouTube served a conversion, even if the conversion failed later for another reason."""
        if self._open_until is None:
            self._outcomes.append((now, False))
        elif self._is_trial(start):
            self._open_until = None
            self._trial = None
            self._pause_seconds = FIRST_PAUSE_SECONDS
            self._outcomes.clear()

    def refused(self, start: int, now: float) -> None:
        """Record that YouTube refused the address: a bot check or a rate limit."""
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
        """Record the end of a conversion. If it was a trial without an outcome (cancelled), another trial may start."""
        if self._is_trial(start):
            self._trial = None

    def _is_trial(self, start: int) -> bool:
        return self._trial is not None and self._trial[0] == start

    def _trial_is_running(self, now: float) -> bool:
        # A long trial (a video of several hours) must not block all other conversions, so another trial may start.
        return self._trial is not None and now - self._trial[1] < WINDOW_SECONDS
