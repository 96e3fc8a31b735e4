"""The breaker: opens after enough refusals, lets one trial through, then closes or waits twice as long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.breaker import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, REFUSALS_TO_OPEN, WINDOW_SECONDS, Breaker


def refuse(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.refused(breaker.started(now), now)


def passes(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.passed(breaker.started(now), now)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    refuse(breaker, now, REFUSALS_TO_OPEN)
    return breaker


def test_a_new_breaker_is_closed() -> None:
    breaker = Breaker()
    assert not breaker.is_open(0.0)
    assert breaker.wait_seconds(0.0) == 0.0
    passes(breaker, 0.0)
    assert not breaker.is_open(1.0)


def test_five_refusals_in_a_minute_open_the_breaker_for_a_minute() -> None:
    breaker = Breaker()
    for second in range(REFUSALS_TO_OPEN - 1):
        refuse(breaker, float(second))
    assert not breaker.is_open(10.0)
    refuse(breaker, 10.0)
    assert breaker.is_open(10.0)
    assert breaker.wait_seconds(10.0) == FIRST_PAUSE_SECONDS
    assert breaker.is_open(69.9)
    assert not breaker.is_open(70.0)
    assert breaker.wait_seconds(100.0) == 0.0


def test_refusals_spread_over_more_than_a_minute_do_not_open_the_breaker() -> None:
    breaker = Breaker()
    for number in range(20):
        refuse(breaker, number * (WINDOW_SECONDS / 4 + 0.1))
    assert not breaker.is_open(number * (WINDOW_SECONDS / 4 + 0.1))


def test_refusals_do_not_open_the_breaker_while_most_conversions_pass() -> None:
    breaker = Breaker()
    passes(breaker, 0.0, 6)
    refuse(breaker, 1.0, 5)
    assert not breaker.is_open(1.0)
    refuse(breaker, 1.0)
    assert breaker.is_open(1.0)


def test_after_the_pause_one_trial_may_start_and_no_other() -> None:
    breaker = opened()
    assert not breaker.is_open(60.0)
    breaker.started(60.0)
    assert breaker.is_open(60.0)
    assert breaker.is_open(60.0 + WINDOW_SECONDS - 0.1)


def test_a_trial_that_passes_closes_the_breaker() -> None:
    breaker = opened()
    breaker.passed(breaker.started(60.0), 61.0)
    assert not breaker.is_open(61.0)
    # Refusals from before it opened do not count any more.
    refuse(breaker, 62.0, REFUSALS_TO_OPEN - 1)
    assert not breaker.is_open(62.0)


def test_each_refused_trial_doubles_the_pause_up_to_an_hour() -> None:
    breaker = opened()
    now, pauses = 0.0, []
    for _ in range(9):
        now += breaker.wait_seconds(now)
        assert not breaker.is_open(now)
        refuse(breaker, now)
        pauses.append(breaker.wait_seconds(now))
    assert pauses == [120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert max(pauses) == LONGEST_PAUSE_SECONDS
    now += LONGEST_PAUSE_SECONDS
    passes(breaker, now)
    refuse(breaker, now, REFUSALS_TO_OPEN)
    assert breaker.wait_seconds(now) == FIRST_PAUSE_SECONDS


@pytest.mark.parametrize("now", [6.0, 61.0])
@pytest.mark.parametrize("outcome", ["refused", "passed"])
def test_outcomes_of_conversions_that_were_under_way_when_the_breaker_opened_are_ignored(
    outcome: str, now: float
) -> None:
    breaker = Breaker()
    early = breaker.started(0.0)
    refuse(breaker, 0.0, REFUSALS_TO_OPEN)
    trial = breaker.started(now)
    getattr(breaker, outcome)(early, now)
    breaker.ended(early)
    assert breaker.is_open(now)
    breaker.passed(trial, now)
    assert breaker.is_open(now) is (now < FIRST_PAUSE_SECONDS)


def test_a_trial_without_an_outcome_makes_room_for_the_next() -> None:
    breaker = opened()
    trial = breaker.started(60.0)
    assert breaker.is_open(60.0)
    breaker.ended(trial)
    assert not breaker.is_open(60.0)
    assert breaker.wait_seconds(60.0) == 0.0
    breaker.passed(breaker.started(60.0), 60.0)
    refuse(breaker, 60.0)
    assert not breaker.is_open(60.0)


def test_a_trial_that_takes_longer_than_a_minute_does_not_hold_up_the_next() -> None:
    breaker = opened()
    breaker.started(60.0)
    assert not breaker.is_open(60.0 + WINDOW_SECONDS)
    breaker.started(60.0 + WINDOW_SECONDS)
    assert breaker.is_open(60.0 + WINDOW_SECONDS + 1)


@pytest.mark.parametrize("starts_before_the_pause_ends", [0.0, 30.0, 59.9])
def test_a_start_during_the_pause_is_no_trial(starts_before_the_pause_ends: float) -> None:
    breaker = opened()
    breaker.started(starts_before_the_pause_ends)
    assert not breaker.is_open(60.0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["started", "passed", "refused", "ended"]), st.integers(0, 5), st.floats(0, 100)),
        max_size=80,
    )
)
def test_the_breaker_never_stays_open_for_longer_than_an_hour_and_a_trial(steps: list[tuple[str, int, float]]) -> None:
    breaker, now, last = Breaker(), 0.0, 0
    for event, back, passed in steps:
        now += passed
        match event:
            case "started":
                last = breaker.started(now)
            case "ended":
                breaker.ended(last - back)
            case _:
                getattr(breaker, event)(last - back, now)
        assert 0.0 <= breaker.wait_seconds(now) <= LONGEST_PAUSE_SECONDS
        assert not breaker.is_open(now + LONGEST_PAUSE_SECONDS + WINDOW_SECONDS)
