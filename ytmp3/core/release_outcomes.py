"""How conversions ended, counted by the release of yt-dlp, for metrics. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

MAX_RELEASES: Final = 4
"""Most releases that are counted: the ones that were used last. Each has a series for every outcome."""


class ReleaseOutcome(StrEnum):
    """How a conversion ended."""

    CONVERTED = "converted"
    FAILED = "failed"
    """Also for a reason of the video. Most of these failures are the same with every release."""
    BLAMED = "blamed"
    """It failed with this release, and succeeded with the one before."""


class ReleaseOutcomes:
    """The counts since the start, by release and outcome. The release that was used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[ReleaseOutcome, int]] = {}

    def use(self, release: str) -> None:
        """Begin to count for a release: all its outcomes are 0 if it is not known."""
        self._counts[release] = self._counts.pop(release, dict.fromkeys(ReleaseOutcome, 0))
        while len(self._counts) > MAX_RELEASES:
            del self._counts[next(iter(self._counts))]

    def add(self, release: str, outcome: ReleaseOutcome) -> None:
        """Count an outcome. That of a release that was forgotten is dropped."""
        if release in self._counts:
            self._counts[release][outcome] += 1

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return the counts by release and outcome."""
        return {
            (release, outcome): count for release, counts in self._counts.items() for outcome, count in counts.items()
        }
