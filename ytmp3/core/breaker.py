"""A circuit breaker for YouTube: when it refuses this address, stop asking for a while. Pure: the time is an argument.

    closed ── 5 refusals in a minute, and at least half of all outcomes ──> open: nothing may start until a time
    open ───── the time has come ─────> half open: one conversion may start, the trial; its outcome decides
    half open ── the trial passes ──> closed;  ── it is refused ──> open again, for twice as long

Each start has a number, which distinguishes the outcome of the trial from outcomes of conversions that were under way
when the breaker opened. Those say nothing about the present, and are ignored.
"""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""Age, in seconds, of the oldest outcome that counts; also how long a trial keeps the next one from starting."""
REFUSALS_TO_OPEN: Final = 5
"""Fewer refusals in the window may be the matter of single videos."""
SHARE_TO_OPEN: Final = 0.5
"""Share of refusals among the outcomes in the window: below it YouTube serves this address, by and large."""
FIRST_PAUSE_SECONDS: Final = 60.0
"""The first pause, in seconds; each refused trial doubles it."""
LONGEST_PAUSE_SECONDS: Final = 3600.0
"""The longest pause, in seconds: YouTube's block of a session lasts up to an hour, says the yt-dlp wiki."""
REMEMBERED_OUTCOMES: Final = 1000
"""Upper bound of the memory: more outcomes than can come in within the window."""


class Breaker:
    """Counts how conversions fared at YouTube, and says whether the next one may start."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=REMEMBERED_OUTCOMES)
        """The time of each outcome while closed, and whether it was a refusal."""
        self._open_until: float | None = None
        """None while closed. From this time on, the next start is the trial."""
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._last_start = 0
        self._trial: tuple[int, float] | None = None
        """The number of the trial under way, and the time of its start."""

    def is_open(self, now: float) -> bool:
        """Return whether no conversion may start now."""
        if self._open_until is None:
            return False
        return now < self._open_until or self._trial_is_running(now)

    def wait_seconds(self, now: float) -> float:
        """Return how long it takes until a trial may start; 0 while closed."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def started(self, now: float) -> int:
        """Record the start of a conversion, and return its number. The first start after the pause is the trial."""
        self._last_start += 1
        if self._open_until is not None and now >= self._open_until:
            self._trial = (self._last_start, now)
        return self._last_start

    def passed(self, start: int, now: float) -> None:
        """Record that YouTube served a conversion; it may have failed afterwards."""
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
        """Record that a conversion is over. A trial without an outcome (it was cancelled) makes room for the next."""
        if self._is_trial(start):
            self._trial = None

    def _is_trial(self, start: int) -> bool:
        return self._trial is not None and self._trial[0] == start

    def _trial_is_running(self, now: float) -> bool:
        # A trial that takes long (a recording of hours) must not keep everything else waiting: another one may follow.
        return self._trial is not None and now - self._trial[1] < WINDOW_SECONDS
