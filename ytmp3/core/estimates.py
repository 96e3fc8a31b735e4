"""Estimates for clients, computed from the durations of the last thousand conversions.

Estimates are shown to people and sent in `Retry-After`. No decision depends on them. Pure: the time and the random
number are arguments.
"""

import math
from collections import OrderedDict, deque
from typing import Final

from msgspec import Struct

from ytmp3.core.ids import ClientId
from ytmp3.core.retry_schedule import RetrySchedule

WINDOW: Final = 1000
"""Number of ended conversions that the estimates are based on."""
FIRST_GUESS_SECONDS: Final = 20.0
"""The assumed duration, in seconds, until the first conversion has ended: that of a four-minute song on two busy
cores."""
NEWEST_SHARE: Final = 0.2
"""The weight of the newest duration in the moving average: it follows a change within about ten conversions."""
LONGEST_WAIT_SECONDS: Final = 300
"""Upper bound of the `Retry-After` of a full queue, in seconds: beyond it an estimate says little."""
CLIENTS: Final = 1000
"""Number of clients whose own mean duration is remembered. An entry takes about 200 bytes."""
RECENT_SECONDS: Final = 120.0
"""Window, in seconds, of the ended conversions from which the rate of freed slots is computed."""
SHORTEST_INTERVAL_SECONDS: Final = 0.001
"""Lower bound of the mean interval between two ends, in seconds. It avoids a division by zero when all conversions in
the window ended together."""


class Durations(Struct, frozen=True, kw_only=True):
    """Seconds from the claim to the end of a conversion; None while none has ended."""

    mean: float | None
    p50: float | None
    p95: float | None


class Pace:
    """Remembers how long conversions took and when they ended."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._ends: deque[float] = deque(maxlen=WINDOW)
        self._recent_mean = FIRST_GUESS_SECONDS
        self._means: OrderedDict[ClientId, float] = OrderedDict()
        """The same for the conversions of each client. The client whose conversion ended longest ago is first."""
        self._retries = RetrySchedule()

    def ended(self, client: ClientId, seconds: float, now: float) -> None:
        """Record a conversion of a client that took `seconds` and ended at `now`."""
        self._recent_mean = _moved(self._recent_mean, seconds) if self._seconds else seconds
        self._means[client] = _moved(self._means.pop(client, seconds), seconds)
        if len(self._means) > CLIENTS:
            self._means.popitem(last=False)
        self._seconds.append(seconds)
        self._ends.append(now)

    @property
    def seconds_per_conversion(self) -> float:
        """The moving average of durations, weighted towards the newest."""
        return self._recent_mean

    def seconds_of(self, client: ClientId) -> float:
        """The same for the client's own conversions, if any is known: some clients convert songs, others hours."""
        return self._means.get(client, self._recent_mean)

    def durations(self) -> Durations:
        """Summarise the durations of the last thousand conversions."""
        if not self._seconds:
            return Durations(mean=None, p50=None, p95=None)
        ordered = sorted(self._seconds)
        return Durations(
            mean=math.fsum(ordered) / len(ordered),
            p50=ordered[len(ordered) // 2],
            p95=ordered[min(len(ordered) - 1, math.floor(0.95 * len(ordered)))],
        )

    def slot_wait_seconds(self, *, workers: int, now: float, chance: float) -> int:
        """Return the seconds until a slot of a full queue is likely to be free for this caller.

        The rate of freed slots is measured over RECENT_SECONDS. If fewer than two conversions ended in that time, the
        rate is estimated from the number of workers. Each call gets a different time, so that callers do not compete
        for one slot. When all times within LONGEST_WAIT_SECONDS are given out, `chance` in [0, 1) spreads the rest.
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


def _moved(mean: float, newest: float) -> float:
    return mean + NEWEST_SHARE * (newest - mean)


def eta_seconds(
    *,
    position: int | None,
    seconds_per_conversion: float,
    own_seconds: float,
    workers: int,
    progress: float,
    start_seconds: float = 0.0,
) -> int:
    """Return the estimated seconds until a conversion ends, at least 1.

    A waiting conversion starts when the workers have ended about `position` others, each in the mean duration of all
    clients. Then it takes `own_seconds`, the mean of its own client. A running one (`position` is None) needs the part
    of `own_seconds` that its progress leaves. The position follows the order of service, which is fair to clients.
    No conversion starts before `start_seconds`, because of the budget towards YouTube.
    """
    rounds = 0.0 if position is None else position / max(1, workers)
    waiting_seconds = max(seconds_per_conversion * rounds, start_seconds)
    return max(1, round(waiting_seconds + own_seconds * (1.0 - progress)))
