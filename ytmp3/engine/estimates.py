"""Estimates of this instance: `core.estimates` with the instance's clock, fed by the events of ended conversions.

Estimates are shown to people and go into `Retry-After`. No decision of the engine depends on them.
"""

import math
from collections.abc import Callable

from ytmp3.core.estimates import LONGEST_WAIT_SECONDS, Durations, Pace, eta_seconds
from ytmp3.core.ids import ClientId
from ytmp3.engine import events


class Estimates:
    """The measured pace of the workers, and the estimates derived from it."""

    def __init__(
        self,
        workers: int,
        start_seconds: Callable[[int], float],
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`start_seconds` returns the time until the conversion at a position may ask YouTube, by the budgets alone."""
        self._workers = workers
        self._start_seconds = start_seconds
        self._clock = clock
        self._random = random
        self._pace = Pace()

    def on_event(self, event: events.Event) -> None:
        """Record the duration of a conversion that ended after an attempt. This is a listener.

        A conversion that failed without an attempt has no seconds, and is left out: it did not occupy a worker, so it
        would make the pace look better than it is.
        """
        match event:
            case (
                events.Finished(conversion=ended, seconds=seconds)
                | events.Failed(conversion=ended, seconds=float(seconds))
            ):
                self._pace.ended(ended.client, seconds, self._clock())
            case _:
                pass

    def durations(self) -> Durations:
        """Summarise the last thousand conversions."""
        return self._pace.durations()

    def eta_seconds(self, client: ClientId, *, position: int | None, progress: float) -> int:
        """Return the seconds until a conversion of a client ends. `position`: that in the queue; None: it runs."""
        return eta_seconds(
            position=position,
            seconds_per_conversion=self._pace.seconds_per_conversion,
            own_seconds=self._pace.seconds_of(client),
            workers=self._workers,
            progress=progress,
            start_seconds=0.0 if position is None else self._start_seconds(position),
        )

    def slot_wait_seconds(self) -> int:
        """Return the `Retry-After` of a full queue. Each call returns a different time.

        The times follow the rate at which slots become free, so that clients that wait for them do not all return for
        the same slot.
        """
        return self._pace.slot_wait_seconds(workers=self._workers, now=self._clock(), chance=self._random())

    def spread_seconds(self, seconds: int) -> int:
        """Return a random `Retry-After` between `seconds` and twice that, so that clients do not return all at once."""
        return min(LONGEST_WAIT_SECONDS, math.ceil(seconds * (1.0 + self._random())))
