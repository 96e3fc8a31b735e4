"""The age of a release of yt-dlp, and whether a challenge solver fits it. Pure."""

import calendar
import math
import re
from typing import Final

_DATE: Final = re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})(?![\d])", re.ASCII)
"""A version of yt-dlp is the day of its release: 2026.10.26, or 2026.10.26.220202.dev0 for a pre-release."""
_DAY_SECONDS: Final = 24 * 3600
_COMPARED_PARTS: Final = 2
"""How many parts of the solver's version yt-dlp compares: major and minor (extractor/youtube/jsc/_builtin/ejs.py)."""


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
