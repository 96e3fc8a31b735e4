"""Cuts: the part of a video that a client asks for, to the millisecond. Pure."""

import re
from typing import Final

from msgspec import Struct

MAX_POSITION_SECONDS: Final = 360_000
"""Upper bound of a position, in seconds: 100 hours, more than any video of YouTube has."""
MIN_CUT_MS: Final = 100
"""Shortest part of a video, in milliseconds: about four frames of MP3. A shorter part is most likely a mistake of the
client."""

TOLERATED_SECONDS: Final = 2.0
TOLERATED_FRACTION: Final = 0.02
"""Largest difference between the announced duration of a video and the duration of its sound: these seconds, or this
fraction of the announced duration, whichever is larger. Announced durations are whole seconds, and the sound of a video
may be slightly longer or shorter than its picture."""

_FRACTION: Final = r"(?:\.[0-9]{1,9})?"
POSITION_PATTERN: Final = (
    rf"^(?:[0-9]{{1,5}}{_FRACTION}|[0-9]{{1,4}}:[0-5][0-9]{_FRACTION}|[0-9]{{1,2}}:[0-5][0-9]:[0-5][0-9]{_FRACTION})$"
)
"""Positions as text: seconds, `m:ss` or `h:mm:ss`, each with an optional fraction of a second."""
_CLOCK: Final = re.compile(POSITION_PATTERN, re.ASCII)
_UNITS: Final = re.compile(rf"(?:([0-9]{{1,2}})h)?(?:([0-9]{{1,4}})m)?(?:([0-9]{{1,6}}{_FRACTION})s?)?", re.ASCII)
"""Positions as YouTube writes them into links: `1h2m3s`, `90s` or `90`."""


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
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    seconds = _seconds_of(value.strip().lower()) if isinstance(value, str) else value
    # Comparisons with NaN are false.
    return round(seconds * 1000) if seconds is not None and 0 <= seconds <= MAX_POSITION_SECONDS else None


def _seconds_of(text: str) -> float | None:
    if _CLOCK.fullmatch(text):
        seconds = 0.0
        for part in text.split(":"):
            seconds = 60 * seconds + float(part)
        return seconds
    match = _UNITS.fullmatch(text)
    if match is None or not text:
        return None
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest
