"""Loudness: the values that a client may request, and the change of volume that follows from a measurement. Pure.

Loudness is measured in LUFS, and the true peak in dBTP (ITU-R BS.1770). The sound is never encoded again for it. `tags`
writes the gain into tags, which players apply. A target changes the field `global_gain` of each frame of an MP3, in
steps of 1.5 dB, so nothing is lost and the change can be undone.
"""

import math
import re
from enum import StrEnum
from typing import Final

from msgspec import Struct

from ytmp3.core.spellings import in_any_case, one_of

MIN_TARGET: Final = -30.0
MAX_TARGET: Final = -5.0
"""Lowest and highest target, in LUFS. Broadcasts have -23 or -24, streaming services -14 to -16, loud masters -7."""
STEP_DB: Final = 1.5
"""The effect of one step of `global_gain`, in dB: the samples of a frame are multiplied by 2 ** (1 / 4)."""
CEILING_DBTP: Final = -1.0
"""Highest true peak to which a target raises a track, in dBTP: the limit of EBU R 128. It leaves 1 dB for the decoder,
whose output differs a little from the sound that was measured."""
REPLAYGAIN_LUFS: Final = -18.0
"""The loudness to which players bring a track with ReplayGain 2.0."""
R128_LUFS: Final = -23.0
"""The loudness to which players bring an Opus track with R128_TRACK_GAIN (RFC 7845, section 5.2.1)."""
SILENCE_LUFS: Final = -69.0
"""At or below this, in LUFS, a track counts as silent. The measurement ignores sound below its gate of -70 LUFS, and
reports that value for a track without any louder sound."""


class LoudnessMode(StrEnum):
    """How the loudness is handled if there is no target."""

    OFF = "off"
    """The loudness is neither measured nor changed."""
    TAGS = "tags"
    """It is measured and written into tags."""


Loudness = LoudnessMode | float
"""The loudness in a recipe: a mode, or a target in LUFS."""

_TARGET: Final = r"-(?:(?:0?[5-9]|[12][0-9])(?:\.[0-9]{1,9})?|30(?:\.0{1,9})?)"
"""A target from MIN_TARGET to MAX_TARGET, as text."""
LOUDNESS_PATTERN: Final = one_of((*map(in_any_case, LoudnessMode), f"{_TARGET}(?: ?{in_any_case('lufs')})?"))
"""The values as text."""
_TEXT: Final = re.compile(LOUDNESS_PATTERN)


def parse_loudness(value: object) -> Loudness | None:
    """Return the loudness for a value from a client; None if the value is invalid, and the caller refuses it then.

    A target is a number or text, such as -14, "-14" or "-14 LUFS"; it is rounded to a tenth.
    """
    if isinstance(value, str):
        if not _TEXT.fullmatch(value):
            return None
        text = value.strip().lower().removesuffix("lufs").rstrip()
        return LoudnessMode(text) if text in set(LoudnessMode) else round(float(text), 1)
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
        """Whether there is nothing to measure: silence, or samples that are no finite numbers. It gets no gain."""
        return not SILENCE_LUFS < self.lufs < math.inf or not self.peak_dbtp < math.inf

    @property
    def replaygain_db(self) -> float:
        """The gain for players with ReplayGain, in dB."""
        return REPLAYGAIN_LUFS - self.lufs

    @property
    def peak(self) -> float:
        """The true peak as a factor of full scale."""
        return float(10 ** (self.peak_dbtp / 20))

    @property
    def r128_gain(self) -> int:
        """The gain for players of Opus, in 1/256 dB (Q7.8)."""
        return round(256 * (R128_LUFS - self.lufs))

    def changed(self, gain_db: float) -> "Measured":
        """Return the loudness after a change of the volume."""
        return Measured(lufs=self.lufs + gain_db, peak_dbtp=self.peak_dbtp + gain_db)


class Volume(Struct, frozen=True, kw_only=True):
    """The change of a track's volume, and the loudness after it."""

    steps: int = 0
    """Steps of `global_gain` by which the track is changed."""
    measured: Measured | None = None
    """The loudness of the track after the change; None if it was not measured, or is silent."""

    @property
    def lufs(self) -> float | None:
        """The loudness that is shown to clients."""
        return None if self.measured is None else round(self.measured.lufs, 1)


UNCHANGED: Final = Volume()


def volume_of(loudness: Loudness, measured: Measured | None) -> Volume:
    """Return the change of volume that a recipe asks for, given the measured loudness of the track."""
    if measured is None or measured.is_silent:
        return UNCHANGED
    steps = 0 if isinstance(loudness, LoudnessMode) else steps_to(loudness, measured)
    return Volume(steps=steps, measured=measured.changed(STEP_DB * steps))


def steps_to(target: float, measured: Measured) -> int:
    """Return the number of steps of `global_gain` that bring a track as near to a target as allowed.

    A track is raised only as far as its true peak stays below the ceiling. Lowering is always allowed.
    """
    if measured.is_silent:
        return 0
    wanted = round((target - measured.lufs) / STEP_DB)
    allowed = int((CEILING_DBTP - measured.peak_dbtp) // STEP_DB)
    return min(wanted, max(0, allowed))
