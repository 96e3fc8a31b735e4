"""Decides whether conversions may start in this instance, from the outcomes of earlier ones.

Four things prevent starts: the circuit breaker (`core/breaker`) while all conversions would fail for the same cause,
identities that are all closed or have used up their budgets (`identities`), a short pause after the operating system
could not start a process, and a fault of this instance's disk or tools (`Health.fault`). Running conversions continue.
The first start after the breaker's pause is its trial.

Each change of the breaker is emitted as an event. `/health` shows `Upstream.cause`.

Why starts are stopped: each conversion that fails for a common cause costs a slot and a part of the hourly budget, and
YouTube refuses an address for longer if the requests go on.

The duty of the callers: each `started` is followed by one `ended`, whatever happens in between. Otherwise, the breaker
would wait forever for the outcome of a trial, and nothing would start.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ytmp3.core.breaker import PAUSES, Breaker, BreakerState
from ytmp3.core.errors import Fault
from ytmp3.core.ids import VideoId
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.identities import Identities
from ytmp3.engine.settings import EngineSettings

LONGEST_POLL_SECONDS: Final = 5.0
"""Longest sleep, in seconds, of a worker that waits for the budget of an identity. A trial may end earlier."""


class UpstreamState(Struct, frozen=True, kw_only=True):
    """The breaker's state at one moment."""

    state: BreakerState
    cause: Fault | None
    """Why the breaker is open or half open; None while it is closed."""
    open_seconds: float
    """For how long the breaker has been open or half open."""
    next_trial_seconds: float
    """Time until a trial may start."""


class Upstream:
    """The circuit breaker with this instance's clock, and the pause after a process could not be started."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        identities: Identities,
        health: Health,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._poll_seconds = settings.upstream_poll_seconds
        self._pause_seconds = settings.no_process_pause_seconds
        self.identities = identities
        """The egress routes to YouTube."""
        self._health = health
        health.upstream_cause = lambda: self.cause
        self._events = events
        self._clock = clock
        self._breaker = Breaker()
        self._paused_until = -math.inf
        """The end of the pause after a process could not be started."""

    @property
    def is_blocked(self) -> bool:
        """Whether the breaker is open, all identities are closed, or a trial is running: no conversion may start."""
        return self._breaker.is_open(self._clock()) or self.identities.closed_seconds() > 0.0

    @property
    def cause(self) -> Fault | None:
        """Why the breaker is open or half open, or all identities are closed; None otherwise."""
        return self._breaker.cause or self.identities.cause

    @property
    def may_start(self) -> bool:
        """Whether a conversion may start now."""
        is_paused = self._clock() < self._paused_until or self._health.fault is not None
        return not is_paused and self.identities.may_start and not self.is_blocked

    async def until_may_start(self) -> None:
        """Wait until a conversion may start.

        A worker waits here before it takes a conversion, not after it. So the conversion stays in the queue meanwhile,
        where it can be cancelled, shows its position, and is released by a drain.
        """
        while not self.may_start:  # noqa: ASYNC110 - it changes with time alone, so there is no event
            await asyncio.sleep(max(self._poll_seconds, min(LONGEST_POLL_SECONDS, self.identities.wait_seconds)))

    def blocked_seconds(self) -> int:
        """Return the seconds until a trial may start, at least 1; 0 while conversions may start."""
        wait_seconds = max(self._breaker.wait_seconds(self._clock()), self.identities.closed_seconds())
        return max(1, math.ceil(wait_seconds)) if self.is_blocked else 0

    def snapshot(self) -> UpstreamState:
        """Return the state of the breaker, for `/stats`. While all identities are closed, it is shown as open."""
        now, breaker = self._clock(), self._breaker
        if breaker.cause is None and (cause := self.identities.cause) is not None:
            seconds = self.identities.closed_seconds()
            return UpstreamState(
                state=BreakerState.OPEN if seconds else BreakerState.HALF_OPEN,
                cause=cause,
                open_seconds=self.identities.closed_for_seconds(),
                next_trial_seconds=seconds,
            )
        return UpstreamState(
            state=breaker.state(now),
            cause=breaker.cause,
            open_seconds=breaker.open_seconds(now),
            next_trial_seconds=breaker.wait_seconds(now),
        )

    def started(self) -> int:
        """Record that a worker starts a conversion. Returns the start number, with which its outcome is reported."""
        return self._breaker.started(self._clock())

    def reached(self, start: int) -> None:
        """Record that the extraction of a running conversion succeeded."""
        self._record(lambda: self._breaker.reached(start))

    def passed(self, start: int, video_id: VideoId) -> None:
        """Record that YouTube served the conversion, even if it failed later or because of its video."""
        self._record(lambda: self._breaker.passed(start, video_id, self._clock()))

    def failed(self, start: int, video_id: VideoId, fault: Fault) -> None:
        """Record that an attempt failed. Faults that do not affect other conversions are ignored."""
        if fault in PAUSES:
            self._record(lambda: self._breaker.failed(start, video_id, fault, self._clock()))

    def takes_refund(self, video_id: VideoId) -> bool:
        """Return whether this failure is free, because an earlier one of the video was counted wrongly."""
        return self._breaker.takes_refund(video_id)

    def ended(self, start: int) -> None:
        """Record the end of the conversion. If it was a trial without an outcome, another trial may start."""
        self._breaker.ended(start)

    def pause(self) -> None:
        """Prevent starts for some seconds, because the operating system could not start a process.

        Most likely, a limit of processes or the memory of the machine is used up, which is the fault of no video.
        Immediate starts would fail in the same way; after some seconds, running conversions have freed what they hold.
        """
        self._paused_until = self._clock() + self._pause_seconds

    def _record(self, outcome: Callable[[], None]) -> None:
        """Report an outcome to the breaker. If it has opened, reopened or closed, emit that."""
        now, breaker = self._clock(), self._breaker
        cause_before, wait_before, since = breaker.cause, breaker.wait_seconds(now), breaker.open_seconds(now)
        outcome()
        wait_seconds = breaker.wait_seconds(now)
        if breaker.cause is None:
            if cause_before is not None:
                self._events.emit(events.UpstreamResumed(cause=cause_before, open_seconds=since))
        elif wait_seconds > wait_before:
            self._events.emit(events.UpstreamPaused(cause=breaker.cause, pause_seconds=wait_seconds))
