"""Versions of yt-dlp: their forms, age, and challenge solver; and the exit codes of `ytmp3 extractor`. Pure."""

import calendar
import math
import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

_DATE: Final = re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})(?![\d])", re.ASCII)
"""A version of yt-dlp is the day of its release: 2026.10.26, or 2026.10.26.220202.dev0 for a pre-release."""
_VERSION: Final = re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})(?:\.(\d{1,6}))?(?:\.dev(\d{1,4}))?", re.ASCII)
_PINNED_SOLVER: Final = re.compile(r"yt-dlp-ejs\s*==\s*(\d{1,4}(?:\.\d{1,4}){1,3})\s*(?:;|$)", re.ASCII)
_DAY_SECONDS: Final = 24 * 3600
_COMPARED_PARTS: Final = 2
"""How many parts of the solver's version yt-dlp compares: major and minor (extractor/youtube/jsc/_builtin/ejs.py)."""


BUILT_IN_NAME: Final = "built-in"
"""How an operator names the release that is installed with the service."""
STABLE: Final = "stable"
NIGHTLY: Final = "nightly"
"""In place of a version: the newest stable release, and the newest of all."""


class Ended(IntEnum):
    """The exit codes of `ytmp3 extractor`."""

    DONE = 0
    REFUSED = 1
    WRONG = 2
    NOT_FETCHED = 3


MEANINGS: Final[Mapping[Ended, str]] = MappingProxyType(
    {
        Ended.DONE: "The command has done what it says.",
        Ended.REFUSED: "The release, or the folder of releases, cannot be used. The release in use stays.",
        Ended.WRONG: "A setting or VERSION is wrong.",
        Ended.NOT_FETCHED: "The release could not be fetched. The release in use stays.",
    }
)


def age_days(version: str | None, now: float) -> float:
    """Return how many whole days ago a release was made, never negative; NaN if its version is no date.

    `now` is in seconds since 1970.
    """
    found = None if version is None else _DATE.match(version)
    if found is None:
        return math.nan
    year, month, day = map(int, found.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return math.nan
    return max(0, (now - calendar.timegm((year, month, day, 0, 0, 0))) // _DAY_SECONDS)


def fits(solver: str, wanted: str) -> bool:
    """Whether yt-dlp accepts a solver of this version where it was released with `wanted`.

    A difference in the patch version is accepted: the script itself is then the same, and yt-dlp checks its hash.
    """
    return _compared(solver) == _compared(wanted)


def _compared(version: str) -> list[str]:
    return version.split(".")[:_COMPARED_PARTS]


def normalized(version: str) -> str | None:
    """Return a version in the one form that a package index uses: 2026.8.19 for 2026.08.19; None if it is none."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    release = ".".join(str(int(part)) for part in found.groups()[:4] if part is not None)
    return release if found[5] is None else f"{release}.dev{int(found[5])}"


def is_stable(version: str) -> bool:
    """Return whether a version is no pre-release (yt-dlp's nightly builds are pre-releases)."""
    return ".dev" not in version


def is_newer(version: str, other: str) -> bool:
    """Return whether `version` is a newer release than `other`. Anything is newer than what is no version."""
    return normalized(version) != normalized(other) and newest((other, version)) == version


def newest(versions: Iterable[str]) -> str | None:
    """Return the newest of these versions; None if there is none. What is not a version of yt-dlp is ignored."""
    return next(iter(newest_first(versions)), None)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Return these versions in order. What is not a version of yt-dlp is left out."""
    found = {version: _VERSION.fullmatch(version) for version in versions}
    keys = {version: _key(match) for version, match in found.items() if match is not None}
    return sorted(keys, key=keys.__getitem__, reverse=True)


def _key(match: re.Match[str]) -> tuple[int, ...]:
    """The order of versions. A pre-release has a time, so it is newer than the stable release of its day."""
    return tuple(int(part or 0) for part in match.groups())


def pinned_solver(requirements: Iterable[str]) -> str | None:
    """Return the version of yt-dlp-ejs that a release of yt-dlp names in its requirements; None if it names none."""
    return next((found[1] for each in requirements if (found := _PINNED_SOLVER.match(each))), None)
