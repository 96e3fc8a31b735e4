"""Decides whether conversions may start in this instance, from the outcomes of earlier ones.

Two things prevent starts: the circuit breaker (`core/breaker`) while YouTube refuses this server's address, and a short
pause after the operating system could not start a process. Running conversions continue. The first start after the
breaker's pause is its trial.
"""

import asyncio
import math
from collections.abc import Callable

from ytmp3.core.breaker import Breaker
from ytmp3.engine.settings import EngineSettings


class Upstream:
    """The circuit breaker with this instance's clock, and the pause after a process could not be started."""

    def __init__(self, settings: EngineSettings, *, clock: Callable[[], float]) -> None:
        self._poll_seconds = settings.upstream_poll_seconds
        self._pause_seconds = settings.no_process_pause_seconds
        self._clock = clock
        self._breaker = Breaker()
        self._paused_until = -math.inf
        """The end of the pause after a process could not be started."""

    @property
    def is_blocked(self) -> bool:
        """Whether the breaker is open or a trial is running."""
        return self._breaker.is_open(self._clock())

    @property
    def may_start(self) -> bool:
        """Whether a conversion may start now."""
        return self._clock() >= self._paused_until and not self.is_blocked

    async def until_may_start(self) -> None:
        """Wait until a conversion may start."""
        while not self.may_start:  # noqa: ASYNC110 - it changes with time alone, so there is no event
            await asyncio.sleep(self._poll_seconds)

    def blocked_seconds(self) -> int:
        """Return the seconds until the breaker allows a start, at least 1; 0 if it is closed."""
        now = self._clock()
        return max(1, math.ceil(self._breaker.wait_seconds(now))) if self._breaker.is_open(now) else 0

    def started(self) -> int:
        """Record that a worker starts a conversion. Returns the start number, with which its outcome is reported."""
        return self._breaker.started(self._clock())

    def passed(self, start: int) -> None:
        """Record that YouTube served the conversion, even if the conversion failed later for another reason."""
        self._breaker.passed(start, self._clock())

    def refused(self, start: int) -> None:
        """Record that YouTube refused the address: a bot check or a rate limit."""
        self._breaker.refused(start, self._clock())

    def ended(self, start: int) -> None:
        """Record the end of the conversion. If it was a trial without an outcome, another trial may start."""
        self._breaker.ended(start)

    def pause(self) -> None:
        """Prevent starts for some seconds, because the operating system could not start a process."""
        self._paused_until = self._clock() + self._pause_seconds
