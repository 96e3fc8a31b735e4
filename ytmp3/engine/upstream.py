"""Whether YouTube may be asked now, judged by the outcomes of earlier conversions.

Two things stop all new starts of this instance: the breaker, when YouTube refuses this address, and a short pause after
the system refused a process. Running conversions go on. A start that comes after the breaker's pause is its trial.
"""

import asyncio
import math
from collections.abc import Callable

from ytmp3.core.breaker import Breaker
from ytmp3.engine.settings import EngineSettings


class Upstream:
    """The breaker on this instance's clock, and the pause after a refused process."""

    def __init__(self, settings: EngineSettings, *, clock: Callable[[], float]) -> None:
        self._poll_seconds = settings.upstream_poll_seconds
        self._pause_seconds = settings.no_process_pause_seconds
        self._clock = clock
        self._breaker = Breaker()
        self._paused_until = -math.inf
        """Until then nothing starts, because the system refused a process."""

    @property
    def is_blocked(self) -> bool:
        """Whether YouTube refuses this address, as far as is known, or a trial is finding out."""
        return self._breaker.is_open(self._clock())

    @property
    def may_start(self) -> bool:
        """Whether a conversion may start now."""
        return self._clock() >= self._paused_until and not self.is_blocked

    async def until_may_start(self) -> None:
        """Return when a conversion may start."""
        while not self.may_start:  # noqa: ASYNC110 - it changes with time alone, so there is no event
            await asyncio.sleep(self._poll_seconds)

    def blocked_seconds(self) -> int:
        """Return for how long YouTube is not asked, at least 1; 0 when it is asked."""
        now = self._clock()
        return max(1, math.ceil(self._breaker.wait_seconds(now))) if self._breaker.is_open(now) else 0

    def started(self) -> int:
        """Record that a worker takes up a conversion. Returns the number by which its outcome is reported."""
        return self._breaker.started(self._clock())

    def passed(self, start: int) -> None:
        """Record that YouTube served the conversion; it may have failed afterwards."""
        self._breaker.passed(start, self._clock())

    def refused(self, start: int) -> None:
        """Record that YouTube refused the address: a bot check or a rate limit."""
        self._breaker.refused(start, self._clock())

    def ended(self, start: int) -> None:
        """Record that the worker is done with the conversion. A trial without an outcome makes room for the next."""
        self._breaker.ended(start)

    def pause(self) -> None:
        """Start nothing for a while, because the system refused a process."""
        self._paused_until = self._clock() + self._pause_seconds
