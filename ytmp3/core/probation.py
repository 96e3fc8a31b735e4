"""The first conversions with a new release of yt-dlp: which failures are repeated with the previous release. Pure.

A new release may work in every trial and fail at YouTube, so the previous release stays ready for a while. A conversion
that fails for a reason that the new release may have caused is repeated at once with the previous one. Only if the
repetition succeeds is the new release to blame: YouTube, the network and the video were the same.

YouTube may refuse an address (`Fault.ADDRESS`) because of how a release asks, so such failures are repeated, too. If
MAX_REFUSED repetitions in a row are refused as well, YouTube means the address. Then these failures are not repeated
until a conversion succeeds, because each repetition is one more request from that address.
"""

from typing import Final

from ytmp3.core.errors import FAILURES, FailureCode, Fault

MAX_BLAMES: Final = 3
"""Number of conversions that fail with the new release and succeed with the previous one, after which the previous one
is used again. A single one may be chance."""
ENDS: Final = 100
"""Conversions with the new release after which it may pass, if more succeeded than had to be repeated (`is_passed`)."""
SECONDS: Final = 3600.0
"""Time, in seconds, after which it may pass with fewer conversions, too: two zygotes take 40 MB more than one."""
MAX_REFUSED: Final = 3
"""Number of repetitions in a row that YouTube refused as well, after which such failures are not repeated."""

_SUSPICIOUS_FAULTS: Final = frozenset({Fault.RELEASE, Fault.YOUTUBE, Fault.ADDRESS})
_SUSPICIOUS_CODES: Final = frozenset(
    {
        *(FailureCode.TOOL_MISSING, FailureCode.OUTPUT_TRUNCATED, FailureCode.VIDEO_UNAVAILABLE),
        *(FailureCode.NO_AUDIO, FailureCode.FORMAT_UNAVAILABLE, FailureCode.LANGUAGE_UNAVAILABLE),
    }
)
"""Codes that a release may report for a video that can be converted, if it misreads YouTube's responses."""


def is_suspicious(code: FailureCode) -> bool:
    """Return whether the release of yt-dlp may have caused this failure."""
    return FAILURES[code].fault in _SUSPICIOUS_FAULTS or code in _SUSPICIOUS_CODES


class Probation:
    """The count of one probation. Times are in seconds of a steady clock."""

    def __init__(self, began_at: float) -> None:
        self.begin_step(began_at)
        self.blames: list[FailureCode] = []
        """The codes of the failures that the previous release did not have."""

    def begin_step(self, now: float) -> None:
        """Begin to count again, because the release has another share of conversions. Blames stay."""
        self._began_at = now
        self._failed = self._refused = 0
        self.good = 0
        """Number of conversions that have succeeded with the new release in this step."""

    def ended(self, *, is_good: bool) -> None:
        """Count a conversion with the new release."""
        if is_good:
            self.good += 1
            self.succeeded()
        else:
            self._failed += 1

    def succeeded(self) -> None:
        """Take note of a success with either release: YouTube does not refuse the address."""
        self._refused = 0

    def blame(self, code: FailureCode) -> None:
        """Count a conversion that failed with the new release, and succeeded with the previous one."""
        self.blames.append(code)

    def is_repeated(self, code: FailureCode) -> bool:
        """Return whether a conversion that failed with the new release is repeated with the previous one."""
        if FAILURES[code].fault is Fault.ADDRESS and self._refused >= MAX_REFUSED:
            return False
        return is_suspicious(code)

    def refused(self, code: FailureCode) -> None:
        """Count a repetition that failed as well, with this code."""
        self._refused += FAILURES[code].fault is Fault.ADDRESS

    def seconds(self, now: float) -> float:
        """Return how long this step has lasted in this server."""
        return now - self._began_at

    @property
    def is_failed(self) -> bool:
        """Whether the previous release must be used again."""
        return len(self.blames) >= MAX_BLAMES

    @property
    def may_end_by_time(self) -> bool:
        """Whether time may end the step: the release converts most of what it gets, or it has got nothing.

        Otherwise a release that converts nothing would be used for all conversions at a service with few of them.
        """
        if self.blames or self._failed:
            return self.good > len(self.blames) and self.good >= self._failed
        return True

    def is_passed(self, now: float) -> bool:
        """Whether the previous release is no longer needed, once all conversions use the new one."""
        if self.good <= len(self.blames):
            return False
        return self.good + self._failed >= ENDS or self.seconds(now) >= SECONDS
