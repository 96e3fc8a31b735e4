"""Loudness: its spellings, and the steps by which a target changes a track."""

import re

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.loudness import (
    CEILING_DBTP,
    LOUDNESS_PATTERN,
    STEP_DB,
    LoudnessMode,
    Measured,
    parse_loudness,
    spelling_of,
    steps_to,
    volume_of,
)

levels = st.floats(-60, 3)


def measured(lufs: float, peak: float = -20.0) -> Measured:
    return Measured(lufs=lufs, peak_dbtp=peak)


def test_a_loudness_has_several_spellings() -> None:
    spellings: dict[object, str] = {
        "off": "off", " Tags ": "tags", -14: "-14", "-14": "-14", "-14.0": "-14", "-14 LUFS": "-14",
        "-14lufs": "-14", -14.26: "-14.3", -5: "-5", -30: "-30", "-16.5": "-16.5",
    }  # fmt: skip
    for value, spelling in spellings.items():
        loudness = parse_loudness(value)
        assert loudness is not None
        assert spelling_of(loudness) == spelling
        assert parse_loudness(spelling) == loudness
        assert re.fullmatch(LOUDNESS_PATTERN, spelling)


def test_an_invalid_loudness_is_refused() -> None:
    values: tuple[object, ...] = (
        None,
        True,
        False,
        0,
        14,
        -4.9,
        -30.1,
        float("nan"),
        float("-inf"),
        "",
        "on",
        "-",
        "-14 dB",
        "٣",
        [],
    )
    for value in values:
        assert parse_loudness(value) is None, value


def test_a_track_is_lowered_to_the_nearest_step() -> None:
    assert steps_to(-14, measured(-14)) == 0
    assert steps_to(-14, measured(-14.7)) == 0
    assert steps_to(-14, measured(-9.5, peak=1.2)) == -3


def test_a_track_is_raised_only_as_far_as_its_peak_allows() -> None:
    assert steps_to(-14, measured(-20, peak=-20)) == 4
    assert steps_to(-14, measured(-20, peak=-4)) == 2
    assert steps_to(-14, measured(-20, peak=-2.4)) == 0
    assert steps_to(-14, measured(-20, peak=0.5)) == 0


def test_silence_is_not_changed() -> None:
    silence = measured(-70.0, peak=float("-inf"))
    assert silence.is_silent
    assert steps_to(-14, silence) == 0


@given(st.floats(-30, -5), levels, levels)
def test_a_raised_track_stays_below_the_ceiling_and_comes_no_nearer_by_another_step(
    target: float, lufs: float, peak: float
) -> None:
    before = measured(lufs, peak)
    steps = steps_to(target, before)
    after = before.changed(STEP_DB * steps)
    if steps > 0:
        assert after.peak_dbtp <= CEILING_DBTP + 1e-6
    if after.lufs < target - STEP_DB / 2 - 1e-6:
        assert before.changed(STEP_DB * max(1, steps + 1)).peak_dbtp > CEILING_DBTP - 1e-6
    else:
        assert abs(after.lufs - target) <= STEP_DB / 2 + 1e-6


def test_the_volume_of_a_recipe() -> None:
    loud = measured(-9.5, peak=1.0)
    for loudness, before, steps, lufs in (
        (LoudnessMode.OFF, None, 0, None),
        (LoudnessMode.TAGS, loud, 0, -9.5),
        (LoudnessMode.TAGS, measured(-70), 0, None),
        (-14.0, loud, -3, -14.0),
        (-14.0, measured(-70), 0, None),
        # Samples that are no finite numbers, in a hostile file.
        (-14.0, measured(-9.5, peak=float("inf")), 0, None),
        (LoudnessMode.TAGS, measured(float("nan")), 0, None),
        (-14.0, measured(float("inf"), peak=float("nan")), 0, None),
    ):
        volume = volume_of(loudness, before)
        assert (volume.steps, volume.lufs) == (steps, lufs)


def test_the_values_of_tags() -> None:
    loud = measured(-9.5, peak=-6.0)
    assert loud.replaygain_db == -8.5
    assert loud.r128_gain == -3456
    assert round(loud.peak, 4) == 0.5012
