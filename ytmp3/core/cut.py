"""Cuts: the part of a video that a client asks for, to the millisecond. Pure."""

import re
from typing import Final

from msgspec import Struct

from ytmp3.core.spellings import one_of

MAX_POSITION_SECONDS: Final = 360_000
"""Every position is below this, in seconds: 100 hours, more than any video of YouTube has."""
MIN_CUT_MS: Final = 100
"""Shortest part of a video, in milliseconds: about four frames of MP3. A shorter part is most likely a mistake of the
client."""

TOLERATED_SECONDS: Final = 2.0
TOLERATED_FRACTION: Final = 0.02
"""Largest difference between the announced duration of a video and the duration of its sound: these seconds, or this
fraction of the announced duration, whichever is larger. Announced durations are whole seconds, and the sound of a video
may be slightly longer or shorter than its picture."""

_FRACTION: Final = r"(?:\.[0-9]{1,9})?"
_MINUTES: Final = "(?:[0-9]{1,3}|[0-5][0-9]{3})"
"""Minutes of a position that has no hours: fewer than 100 hours."""
_SECONDS_LEFT: Final = f"(?:[0-5]?[0-9]{_FRACTION}[sS]?)?"
"""Seconds after minutes or hours, with or without the unit."""
POSITION_PATTERN: Final = one_of(
    (
        f"(?:[0-9]{{1,5}}|[0-2][0-9]{{5}}|3[0-5][0-9]{{4}}){_FRACTION}[sS]?",
        f"{_MINUTES}:[0-5][0-9]{_FRACTION}",
        f"[0-9]{{1,2}}:[0-5][0-9]:[0-5][0-9]{_FRACTION}",
        f"{_MINUTES}[mM]{_SECONDS_LEFT}",
        f"[0-9]{{1,2}}[hH](?:[0-5]?[0-9][mM])?{_SECONDS_LEFT}",
    )
)
"""Positions as text, below MAX_POSITION_SECONDS: seconds, `m:ss` or `h:mm:ss`; or with units, as YouTube writes them
into links: `90s`, `1m30s` or `1h2m3s`. The seconds may have a fraction."""
_TEXT: Final = re.compile(POSITION_PATTERN)
_UNITS: Final = re.compile("(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9.]+)s?)?")
"""The parts of a text with units, which fits `POSITION_PATTERN`."""


class Cut(Struct, frozen=True, kw_only=True):
    """The part from `start_ms` to `end_ms`, in milliseconds from the beginning of the sound."""

    start_ms: int = 0
    end_ms: int | None = None
    """None for the end of the video."""

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the video."""
        return self == WHOLE

    @property
    def start_seconds(self) -> float | None:
        """The start in seconds; None if it is the beginning of the video."""
        return self.start_ms / 1000 if self.start_ms else None

    @property
    def end_seconds(self) -> float | None:
        """The end in seconds; None if it is the end of the video."""
        return None if self.end_ms is None else self.end_ms / 1000

    @property
    def is_long_enough(self) -> bool:
        """Whether the end comes after the start."""
        return self.end_ms is None or self.end_ms - self.start_ms >= MIN_CUT_MS

    def fits(self, announced_seconds: float) -> bool:
        """Whether a video of this announced duration contains the part.

        An end that is later than the announced duration, but within `tolerance`, means the end of the video.
        """
        latest = self.start_ms + MIN_CUT_MS if self.end_ms is None else self.end_ms
        slack = 0.0 if self.end_ms is None else tolerance(announced_seconds)
        return self.start_ms / 1000 < announced_seconds and latest / 1000 <= announced_seconds + slack

    def length_of(self, announced_seconds: float | None) -> float | None:
        """Return the expected duration of the part, in seconds; None if the part has no end and the video's is unknown.

        `announced_seconds` is the announced duration of the whole video.
        """
        end = self.end_seconds
        if announced_seconds is not None:
            end = announced_seconds if end is None else min(end, announced_seconds)
        return None if end is None else max(0.0, end - self.start_ms / 1000)

    def is_exact(self, announced_seconds: float | None) -> bool:
        """Whether the duration of the part is known exactly: the video cannot end before the part does."""
        if self.end_ms is None or announced_seconds is None:
            return False
        return self.end_ms / 1000 <= announced_seconds - tolerance(announced_seconds)


WHOLE: Final = Cut()


def tolerance(announced_seconds: float) -> float:
    """Return by how many seconds an announced duration may be wrong."""
    return max(TOLERATED_SECONDS, TOLERATED_FRACTION * announced_seconds)


def parse_position(value: object) -> int | None:
    """Return the position in milliseconds for a value from a client or a link, or None if it is not a position.

    Accepted are seconds as a number, and text: `90`, `90.5`, `1:30`, `1:02:03`, `90s`, `1m30s` or `1h2m3s`.
    """
    if isinstance(value, str):
        return round(_seconds_of(value.strip().lower()) * 1000) if _TEXT.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Comparisons with NaN are false.
    return round(value * 1000) if 0 <= value < MAX_POSITION_SECONDS else None


def _seconds_of(text: str) -> float:
    """Return the seconds of a text that fits `POSITION_PATTERN`, without white space around it and in lower case."""
    if ":" in text:
        seconds = 0.0
        for part in text.split(":"):
            seconds = 60 * seconds + float(part)
        return seconds
    match = _UNITS.fullmatch(text)
    assert match is not None
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest
