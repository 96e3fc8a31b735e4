"""Limits the requests to one endpoint: a few at once, and none for a while after failures. Pure: time is an argument.

Without this, one endpoint that never responds would occupy all of the sender's requests, and the messages to all other
endpoints would wait. A delivery that must wait is not held in memory: it returns to the outbox with the estimated time
at which it can be sent. So ten thousand deliveries to a dead endpoint cost a few writes each, and no such wait counts
as an attempt.
"""

from collections import OrderedDict
from typing import Final

MAX_AT_ONCE: Final = 4
"""Requests to one endpoint at the same time."""
FAILURES_BEFORE_PAUSE: Final = 5
"""Failures in a row, without a success in between, after which an endpoint is paused."""
FIRST_PAUSE_SECONDS: Final = 30.0
"""Length of the first pause, in seconds. Each further failure doubles it."""
MAX_PAUSE_SECONDS: Final = 600.0
"""Longest pause, in seconds: an endpoint that works again gets its messages at most this much later."""
MAX_AHEAD_SECONDS: Final = 600.0
"""Longest time ahead, in seconds, for which a waiting delivery is scheduled."""
FIRST_GUESS_SECONDS: Final = 1.0
"""Assumed length of a request, in seconds, before the first one has ended."""
SMOOTHING: Final = 0.3
"""Weight of the newest request in the mean length of requests."""
MAX_ENDPOINTS: Final = 1000
"""Most endpoints that are remembered. An address in a request counts by its host."""


class Pace:
    """The state of one endpoint."""

    def __init__(self) -> None:
        self._active = 0
        self._failures = 0
        self._paused_until = float("-inf")
        self._next_turn_at = float("-inf")
        self._mean_seconds = FIRST_GUESS_SECONDS
        self.is_disabled = False
        """Whether the endpoint has responded with 410 (no more messages), until WEBHOOKS_FILE is read again."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self._active == 0

    def begin(self, now: float) -> float:
        """Begin a request and return 0.0; or return the estimated seconds until one can begin."""
        if self._active < MAX_AT_ONCE and now >= self._paused_until:
            self._active += 1
            return 0.0
        step_seconds = self._mean_seconds / MAX_AT_ONCE
        turn_at = max(now + step_seconds, self._paused_until, self._next_turn_at + step_seconds)
        self._next_turn_at = min(turn_at, now + MAX_AHEAD_SECONDS)
        return self._next_turn_at - now

    def end(self, now: float, *, is_failure: bool, seconds: float, pause_seconds: float = 0.0) -> None:
        """End a request that took `seconds`. `pause_seconds`: the pause that the endpoint requested (`Retry-After`)."""
        self._active -= 1
        self._mean_seconds += SMOOTHING * (seconds - self._mean_seconds)
        if not is_failure:
            self._failures = 0
            self._paused_until = self._next_turn_at = float("-inf")
            return
        self._failures += 1
        excess = self._failures - FAILURES_BEFORE_PAUSE
        if excess >= 0:
            pause_seconds = max(pause_seconds, FIRST_PAUSE_SECONDS * 2.0 ** min(excess, 10))
        if pause_seconds > 0:
            self._paused_until = max(self._paused_until, now + min(pause_seconds, MAX_PAUSE_SECONDS))


class Paces:
    """The states of all endpoints, by name and host. The oldest idle one is forgotten first."""

    def __init__(self, *, remembered: int = MAX_ENDPOINTS) -> None:
        self._paces: OrderedDict[tuple[str, str], Pace] = OrderedDict()
        self._remembered = remembered

    def of(self, endpoint: str, host: str) -> Pace:
        """Return the state of an endpoint."""
        key = (endpoint, host)
        if key not in self._paces:
            self._forget_some()
            self._paces[key] = Pace()
        self._paces.move_to_end(key)
        return self._paces[key]

    def clear(self) -> None:
        """Forget all pauses and 410s, because WEBHOOKS_FILE was read again. Requests in progress still count."""
        for key, pace in list(self._paces.items()):
            if pace.is_idle:
                del self._paces[key]
            else:
                pace.is_disabled = False

    def _forget_some(self) -> None:
        idle = (key for key, pace in self._paces.items() if pace.is_idle)
        if len(self._paces) >= self._remembered and (oldest := next(idle, None)) is not None:
            del self._paces[oldest]
