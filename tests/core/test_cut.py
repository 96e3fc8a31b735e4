"""Cuts: the spellings of a position, and what is expected of a part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.cut import MAX_POSITION_SECONDS, WHOLE, Cut, parse_position


def test_a_position_has_several_spellings() -> None:
    spellings: dict[object, int] = {
        "0": 0, 90: 90_000, 90.5: 90_500, "90.5": 90_500, " 1:30 ": 90_000, "01:30": 90_000, "1:02:03.5": 3_723_500,
        "90s": 90_000, "1m30s": 90_000, "1h2m3s": 3_723_000, "2H": 7_200_000, "1m5": 65_000, 0.0004: 0, 1.0006: 1001,
        MAX_POSITION_SECONDS - 1: 359_999_000, "359999": 359_999_000, "1h05m": 3_900_000, "5999m59s": 359_999_000,
        "99:59:59.999": 359_999_999, "1439:59": 86_399_000,
    }  # fmt: skip
    for value, milliseconds in spellings.items():
        assert parse_position(value) == milliseconds, value


def test_an_invalid_position_is_refused() -> None:
    values: tuple[object, ...] = (
        None, True, -1, MAX_POSITION_SECONDS, "360000", "9999:00", "6000:00", "1h90m", "90m75s", "100h", "6000m",
        "\xa090", -0.001, float("nan"), float("inf"), 10**30, 1e300, "", " ", "-1", "1:60", "1:5", "1:60:00",
        "60:1:00", "1e3", "1,5", ".5", "1.", "::", "m", "100:00:00", "٣", "0x10", "link", [], {}, b"1",
    )  # fmt: skip
    for value in values:
        assert parse_position(value) is None, value


@given(st.integers(0, 359_999_999))
def test_a_position_is_the_same_as_a_number_and_as_a_clock_time(milliseconds: int) -> None:
    seconds, rest = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"
    assert parse_position(milliseconds / 1000) == parse_position(clock) == milliseconds


def test_a_part_shows_its_bounds_and_null_for_those_of_the_video() -> None:
    assert (WHOLE.start_seconds, WHOLE.end_seconds, WHOLE.is_whole) == (None, None, True)
    part = Cut(start_ms=1500, end_ms=2250)
    assert (part.start_seconds, part.end_seconds, part.is_whole) == (1.5, 2.25, False)


def test_an_end_must_come_after_the_start() -> None:
    assert all(cut.is_long_enough for cut in (WHOLE, Cut(start_ms=9), Cut(start_ms=9, end_ms=109)))
    assert not any(cut.is_long_enough for cut in (Cut(end_ms=0), Cut(end_ms=99), Cut(start_ms=9, end_ms=9)))


@pytest.mark.parametrize(
    ("cut", "fits"),
    [
        (WHOLE, True),
        (Cut(start_ms=199_000), True),
        (Cut(start_ms=199_950), False),
        (Cut(start_ms=200_000), False),
        (Cut(end_ms=200_000), True),
        # The sound may be 2 % longer than announced.
        (Cut(end_ms=204_000), True),
        (Cut(end_ms=204_001), False),
        (Cut(start_ms=201_000, end_ms=203_000), False),
    ],
)
def test_a_part_has_to_be_inside_the_video(cut: Cut, fits: bool) -> None:
    assert cut.fits(200.0) is fits


def test_the_expected_length_is_that_of_the_part() -> None:
    assert WHOLE.length_of(200.0) == 200.0
    assert WHOLE.length_of(None) is None
    assert Cut(start_ms=1500).length_of(200.0) == 198.5
    assert Cut(start_ms=1500).length_of(None) is None
    assert Cut(start_ms=1500, end_ms=3000).length_of(200.0) == 1.5
    assert Cut(start_ms=1500, end_ms=3000).length_of(None) == 1.5
    assert Cut(start_ms=1500, end_ms=202_000).length_of(200.0) == 198.5
    assert Cut(start_ms=201_000).length_of(200.0) == 0.0


def test_the_length_is_exact_if_the_part_ends_before_the_video_can() -> None:
    assert Cut(end_ms=196_000).is_exact(200.0)
    assert not Cut(end_ms=196_001).is_exact(200.0)
    assert not Cut(start_ms=1000).is_exact(200.0)
    assert not Cut(end_ms=1000).is_exact(None)
