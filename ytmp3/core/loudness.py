"""Loudness: what a client asks for, and what follows from a measurement. Pure.

Loudness is measured in LUFS, and the true peak in dBTP (ITU-R BS.1770). The sound is never encoded again for it. `tags`
writes the gain into tags, which players apply. A target changes the field `global_gain` of each frame of an MP3, in
steps of 1.5 dB, so nothing is lost and the change can be undone.
"""

import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

MIN_TARGET: Final = -30.0
MAX_TARGET: Final = -5.0
"""Lowest and highest target, in LUFS. Broadcasts have -23 or -24, streaming services -14 to -16, loud masters -7."""
STEP_DB: Final = 1.5
"""What one step of `global_gain` changes, in dB: the samples of a frame are multiplied by 2 ** (1 / 4)."""
CEILING_DBTP: Final = -1.0
"""Highest true peak to which a target raises a track, in dBTP: the limit of EBU R 128. It leaves 1 dB for the decoder,
whose output differs a little from the sound that was measured."""
REPLAYGAIN_LUFS: Final = -18.0
"""The loudness to which players bring a track with ReplayGain 2.0."""
R128_LUFS: Final = -23.0
"""The loudness to which players bring an Opus track with R128_TRACK_GAIN (RFC 7845, section 5.2.1)."""
SILENCE_LUFS: Final = -69.0
"""At or below this, a track counts as silent: nothing passes the gate of the measurement, which is at -70 LUFS."""


class LoudnessMode(StrEnum):
    """What is done about the loudness, if there is no target."""

    OFF = "off"
    """Nothing, and nothing is measured."""
    TAGS = "tags"
    """It is measured and written into tags."""


Loudness = LoudnessMode | float
"""What a recipe says about the loudness: a mode, or a target in LUFS."""

LOUDNESS_PATTERN: Final = r"^(?:off|tags|-(?:[5-9]|[12][0-9])(?:\.[0-9])?|-30(?:\.0)?)$"
"""The values as text."""
_TARGET: Final = re.compile(r"(-[0-9]{1,2}(?:\.[0-9]{1,9})?)(?: ?lufs)?", re.ASCII)


def parse_loudness(value: object) -> Loudness | None:
    """Return the loudness for a value from a client, or None if it is not one: the caller refuses it.

    A target is a number or text, such as -14, "-14" or "-14 LUFS"; it is rounded to a tenth.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if text in set(LoudnessMode):
            return LoudnessMode(text)
        match = _TARGET.fullmatch(text)
        value = None if match is None else float(match[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(float(value), 1) if MIN_TARGET <= value <= MAX_TARGET else None


def spelling_of(loudness: Loudness) -> str:
    """Return the canonical spelling: off, tags, -14 or -14.5."""
    return loudness.value if isinstance(loudness, LoudnessMode) else f"{loudness:g}"


class Measured(Struct, frozen=True, kw_only=True):
    """The loudness of a track."""

    lufs: float
    """Integrated loudness of the whole track."""
    peak_dbtp: float
    """The true peak."""

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to measure. A silent track gets no gain."""
        return self.lufs <= SILENCE_LUFS

    def raised(self, steps: int) -> "Measured":
        """Return the loudness after a change by steps of `global_gain`."""
        return Measured(lufs=self.lufs + STEP_DB * steps, peak_dbtp=self.peak_dbtp + STEP_DB * steps)


def steps_to(target: float, measured: Measured) -> int:
    """Return by how many steps of `global_gain` a track has to be changed to come as near to a target as allowed.

    A track is raised only as far as its true peak stays below the ceiling. Lowering is always allowed.
    """
    if measured.is_silent:
        return 0
    wanted = round((target - measured.lufs) / STEP_DB)
    allowed = int((CEILING_DBTP - measured.peak_dbtp) // STEP_DB)
    return min(wanted, max(0, allowed))
