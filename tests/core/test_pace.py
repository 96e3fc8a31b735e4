"""Estimates from what was measured."""

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.pace import FIRST_GUESS_SECONDS, LONGEST_WAIT_SECONDS, WINDOW, Durations, Pace


def test_before_anything_has_ended_there_is_a_guess_and_no_durations() -> None:
    pace = Pace()
    assert pace.seconds_per_conversion == FIRST_GUESS_SECONDS
    assert pace.durations() == Durations(mean=None, p50=None, p95=None)
    assert pace.slot_wait_seconds(workers=20, now=0.0, chance=0.0) == 1
    assert pace.slot_wait_seconds(workers=1, now=0.0, chance=0.0) == 20


def test_the_first_measurement_replaces_the_guess_and_later_ones_are_mixed_in() -> None:
    pace = Pace()
    pace.ended(10.0, 0.0)
    assert pace.seconds_per_conversion == 10.0
    pace.ended(20.0, 1.0)
    assert pace.seconds_per_conversion == 12.0


def test_durations_sum_up_the_window() -> None:
    pace = Pace()
    for seconds in range(1, 101):
        pace.ended(float(seconds), float(seconds))
    assert pace.durations() == Durations(mean=50.5, p50=51.0, p95=96.0)
    one = Pace()
    one.ended(3.0, 0.0)
    assert one.durations() == Durations(mean=3.0, p50=3.0, p95=3.0)


def test_only_the_last_thousand_count() -> None:
    pace = Pace()
    pace.ended(1e9, 0.0)
    for number in range(WINDOW):
        pace.ended(1.0, float(number))
    assert pace.durations() == Durations(mean=1.0, p50=1.0, p95=1.0)


def test_a_slot_is_promised_at_the_measured_rate() -> None:
    pace = Pace()
    for second in range(0, 100, 10):
        pace.ended(200.0, float(second))
    # Ten ends in 100 s: one in ten seconds, whatever each took.
    assert pace.slot_wait_seconds(workers=20, now=100.0, chance=0.0) == 10
    assert pace.slot_wait_seconds(workers=20, now=100.0, chance=0.99) == 21
    # Two minutes later nothing of it is recent: back to one conversion's share.
    assert pace.slot_wait_seconds(workers=20, now=1000.0, chance=0.0) == 10
    assert pace.slot_wait_seconds(workers=0, now=1000.0, chance=0.0) == 200


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e3)), max_size=30),
    st.integers(1, 1000),
    st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_a_whole_number_from_one_second_to_five_minutes(
    ends: list[tuple[float, float]], workers: int, chance: float
) -> None:
    pace, now = Pace(), 0.0
    for seconds, passed in ends:
        now += passed
        pace.ended(seconds, now)
    wait = pace.slot_wait_seconds(workers=workers, now=now, chance=chance)
    assert isinstance(wait, int)
    assert 1 <= wait <= LONGEST_WAIT_SECONDS
