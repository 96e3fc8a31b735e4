"""The ladder of ways to ask YouTube: which player clients an extraction asks, and when it goes on to others. Pure.

The first rung asks one client that needs no JavaScript, which costs a tenth of the CPU time. The second asks yt-dlp's
own choice of clients, without the one that has just failed. No single client has to work: a rung that fails five times
in a row is left out for some minutes, and then tried by one conversion.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from ytmp3.core.errors import FailureCode


class Rung(StrEnum):
    """One way to ask."""

    LIGHT = "light"
    """The page, and the client that needs no JavaScript."""
    DEFAULT = "default"
    """yt-dlp's own clients."""


LIGHT_CLIENT: Final = "visionos"
"""yt-dlp's client without JavaScript, which sends plain links (yt-dlp 2026.10.26)."""

FAILURES_TO_SKIP: Final = 5
"""A rung that failed so often in a row, while the next one succeeded, is left out."""

SKIP_SECONDS: Final = 300.0
"""How long a failing rung is left out before one conversion tries it again."""

CURABLE: Final = frozenset(
    {
        FailureCode.EXTRACTOR_BROKEN,
        FailureCode.BOT_CHECK,
        FailureCode.AGE_RESTRICTED,
        FailureCode.VIDEO_UNAVAILABLE,
        FailureCode.NO_AUDIO,
        FailureCode.DRM,
        FailureCode.UPSTREAM_ERROR,
    }
)
"""Failures of one client that another client may not have."""


def clients_of(rung: Rung, failed: Sequence[Rung]) -> tuple[str, ...]:
    """Return yt-dlp's `player_client` for a rung, after other rungs have failed in the same conversion."""
    match rung:
        case Rung.LIGHT:
            return (LIGHT_CLIENT,)
        case Rung.DEFAULT:
            return ("default", f"-{LIGHT_CLIENT}") if Rung.LIGHT in failed else ("default",)


class Ladder:
    """The record of success of each rung. One for each server process; `clock` is in seconds."""

    def __init__(self, order: Sequence[Rung], clock: Callable[[], float]) -> None:
        self._order = tuple(order)
        self._clock = clock
        self._failures = dict.fromkeys(Rung, 0)
        self._skipped_until = dict.fromkeys(Rung, 0.0)

    def rungs(self) -> tuple[Rung, ...]:
        """Return the rungs for the next conversion, in order. At least one, even if all have failed."""
        now = self._clock()
        rungs = tuple(rung for rung in self._order if now >= self._skipped_until[rung])
        for rung in rungs:
            if self._failures[rung] >= FAILURES_TO_SKIP:
                self._skipped_until[rung] = now + SKIP_SECONDS  # others leave it out while this one tries
        return rungs or self._order

    def ended(self, rung: Rung, failed: Sequence[Rung]) -> None:
        """Record a download that succeeded by this rung, after others had failed."""
        for each in failed:
            self._failures[each] += 1
            if self._failures[each] >= FAILURES_TO_SKIP:
                self._skipped_until[each] = self._clock() + SKIP_SECONDS
        self._failures[rung] = 0
        self._skipped_until[rung] = 0.0
