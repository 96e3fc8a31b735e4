"""The breaker: opens by its rules, lets one trial through, then closes or waits twice as long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.breaker import (
    ENDS_SECONDS,
    ENDS_TO_OPEN,
    PAUSES,
    REFUSALS_TO_OPEN,
    REMEMBERED_ENDS,
    UNREACHED_TO_OPEN,
    WINDOW_SECONDS,
    Breaker,
    BreakerState,
)
from ytmp3.core.errors import Fault

ADDRESS = PAUSES[Fault.ADDRESS]


class Run:
    """A breaker, and the numbering of the videos whose ends are reported to it."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self._video = 0

    def fails(self, fault: Fault, now: float, times: int = 1) -> None:
        """Let other videos fail."""
        for _ in range(times):
            self._video += 1
            self.breaker.failed(self.breaker.started(now), f"video {self._video}", fault, now)

    def passes(self, now: float, times: int = 1) -> None:
        """Let other videos pass."""
        for _ in range(times):
            self._video += 1
            self.breaker.passed(self.breaker.started(now), f"video {self._video}", now)


def opened(fault: Fault = Fault.ADDRESS, now: float = 0.0) -> Run:
    run = Run()
    run.fails(fault, now, ENDS_TO_OPEN)
    assert run.breaker.cause is fault
    return run


def test_a_new_breaker_is_closed() -> None:
    run = Run()
    breaker = run.breaker
    assert not breaker.is_open(0.0)
    assert (breaker.state(0.0), breaker.cause) == (BreakerState.CLOSED, None)
    assert (breaker.wait_seconds(0.0), breaker.open_seconds(0.0)) == (0.0, 0.0)
    run.passes(0.0)
    assert not breaker.is_open(1.0)


def test_five_refusals_in_a_minute_open_the_breaker_for_a_minute() -> None:
    run = Run()
    breaker = run.breaker
    for second in range(REFUSALS_TO_OPEN - 1):
        run.fails(Fault.ADDRESS, float(second))
    assert not breaker.is_open(10.0)
    run.fails(Fault.ADDRESS, 10.0)
    assert breaker.is_open(10.0)
    assert (breaker.wait_seconds(10.0), breaker.open_seconds(12.0)) == (ADDRESS.first, 2.0)
    assert (breaker.is_open(69.9), breaker.state(69.9)) == (True, BreakerState.OPEN)
    assert (breaker.is_open(70.0), breaker.state(70.0)) == (False, BreakerState.HALF_OPEN)
    assert breaker.wait_seconds(100.0) == 0.0


def test_refusals_spread_over_more_than_a_minute_do_not_open_the_breaker() -> None:
    run = Run()
    for number in range(ENDS_TO_OPEN - 1):
        run.fails(Fault.ADDRESS, number * (WINDOW_SECONDS / 4 + 0.1))
    assert not run.breaker.is_open(number * (WINDOW_SECONDS / 4 + 0.1))


def test_refusals_do_not_open_the_breaker_while_most_conversions_pass() -> None:
    run = Run()
    run.passes(0.0, 6)
    run.fails(Fault.ADDRESS, 1.0, 5)
    assert not run.breaker.is_open(1.0)
    run.fails(Fault.ADDRESS, 1.0)
    assert run.breaker.is_open(1.0)


@pytest.mark.parametrize("fault", [Fault.NETWORK, Fault.SETTINGS])
def test_three_conversions_in_a_row_that_do_not_reach_youtube_open_the_breaker(fault: Fault) -> None:
    run = Run()
    run.fails(fault, 0.0, UNREACHED_TO_OPEN - 1)
    assert not run.breaker.is_open(0.0)
    run.fails(fault, 0.0)
    assert run.breaker.cause is fault
    assert run.breaker.wait_seconds(0.0) == PAUSES[fault].first


def test_a_reply_of_youtube_resets_the_count_of_conversions_that_did_not_reach_it() -> None:
    run = Run()
    for answer in ("passed", "reached", "failed"):
        run.fails(Fault.NETWORK, 0.0, UNREACHED_TO_OPEN - 1)
        match answer:
            case "passed":
                run.passes(0.0)
            case "reached":
                run.breaker.reached(run.breaker.started(0.0))
            case _:
                run.fails(Fault.YOUTUBE, 0.0)
        assert run.breaker.cause is None


@pytest.mark.parametrize("fault", [Fault.NETWORK, Fault.SETTINGS])
def test_a_description_of_the_video_proves_the_network_before_the_trial_has_ended(fault: Fault) -> None:
    run = Run()
    run.fails(fault, 0.0, UNREACHED_TO_OPEN)
    early = run.breaker.started(0.0)
    trial = run.breaker.started(PAUSES[fault].first)
    run.breaker.reached(early)
    assert run.breaker.is_open(PAUSES[fault].first)
    run.breaker.reached(trial)
    assert run.breaker.cause is None


def test_a_description_of_the_video_does_not_prove_that_its_sound_is_served() -> None:
    run = opened(Fault.RELEASE)
    run.breaker.reached(run.breaker.started(PAUSES[Fault.RELEASE].first))
    assert run.breaker.cause is Fault.RELEASE


@pytest.mark.parametrize("fault", [Fault.RELEASE, Fault.YOUTUBE])
@pytest.mark.parametrize(("passed", "failed"), [(0, ENDS_TO_OPEN), (11, 17), (REMEMBERED_ENDS, 19)])
def test_most_of_the_last_conversions_that_blame_the_release_or_youtube_open_the_breaker(
    fault: Fault, passed: int, failed: int
) -> None:
    run = Run()
    run.passes(0.0, passed)
    run.fails(fault, 0.0, failed - 1)
    assert not run.breaker.is_open(0.0)
    run.fails(fault, 0.0)
    assert run.breaker.cause is fault
    assert run.breaker.wait_seconds(0.0) == PAUSES[fault].first


def test_the_most_frequent_fault_is_the_cause() -> None:
    run = Run()
    run.fails(Fault.YOUTUBE, 0.0, 4)
    run.fails(Fault.RELEASE, 0.0, 4)
    run.fails(Fault.ADDRESS, 0.0, 1)
    run.fails(Fault.RELEASE, 0.0, 1)
    assert run.breaker.cause is Fault.RELEASE


def test_one_video_that_fails_again_and_again_does_not_open_the_breaker() -> None:
    breaker = Breaker()
    for number in range(100):
        breaker.failed(breaker.started(0.0), f"video {number % 9}", Fault.RELEASE, 0.0)
    assert breaker.cause is None


def test_the_failures_of_a_video_that_succeeds_later_do_not_count() -> None:
    run = Run()
    run.fails(Fault.YOUTUBE, 0.0, ENDS_TO_OPEN - 1)
    for number in range(1, ENDS_TO_OPEN):
        run.breaker.passed(run.breaker.started(0.0), f"video {number}", 0.0)
    run.fails(Fault.YOUTUBE, 0.0, ENDS_TO_OPEN)
    assert run.breaker.cause is None


def test_conversions_of_the_day_before_do_not_count() -> None:
    run = Run()
    run.fails(Fault.RELEASE, 0.0, ENDS_TO_OPEN - 1)
    run.fails(Fault.RELEASE, ENDS_SECONDS + 1, ENDS_TO_OPEN - 1)
    assert run.breaker.cause is None
    run.fails(Fault.RELEASE, ENDS_SECONDS + 1)
    assert run.breaker.cause is Fault.RELEASE


def test_after_the_pause_one_trial_may_start_and_no_other() -> None:
    breaker = opened().breaker
    assert not breaker.is_open(60.0)
    breaker.started(60.0)
    assert breaker.is_open(60.0)
    assert breaker.is_open(60.0 + WINDOW_SECONDS - 0.1)


def test_a_trial_that_passes_closes_the_breaker() -> None:
    run = opened()
    run.passes(60.0)
    assert not run.breaker.is_open(61.0)
    # Refusals from before it opened do not count any more.
    run.fails(Fault.ADDRESS, 62.0, REFUSALS_TO_OPEN - 1)
    assert not run.breaker.is_open(62.0)


@pytest.mark.parametrize("fault", list(PAUSES))
def test_each_failed_trial_doubles_the_pause_up_to_a_bound(fault: Fault) -> None:
    run = opened(fault)
    now, pause, first = 0.0, PAUSES[fault].first, PAUSES[fault].first
    for _ in range(12):
        assert run.breaker.wait_seconds(now) == pause
        now += pause
        assert not run.breaker.is_open(now)
        run.fails(fault, now)
        pause = min(PAUSES[fault].longest, 2 * pause)
    assert pause == PAUSES[fault].longest
    assert run.breaker.open_seconds(now) == now
    now += pause
    run.passes(now)
    run.fails(fault, now, ENDS_TO_OPEN)
    assert run.breaker.wait_seconds(now) == first


def test_a_trial_that_fails_for_another_reason_makes_that_the_cause() -> None:
    run = opened(Fault.NETWORK)
    run.fails(Fault.ADDRESS, 2.0)
    assert (run.breaker.cause, run.breaker.wait_seconds(2.0)) == (Fault.ADDRESS, ADDRESS.first)
    run.fails(Fault.NETWORK, 62.0)
    assert (run.breaker.cause, run.breaker.wait_seconds(62.0)) == (Fault.NETWORK, PAUSES[Fault.NETWORK].longest)


@pytest.mark.parametrize("now", [6.0, 61.0])
@pytest.mark.parametrize("outcome", ["failed", "passed"])
def test_outcomes_of_conversions_that_were_under_way_when_the_breaker_opened_are_ignored(
    outcome: str, now: float
) -> None:
    run = Run()
    early = run.breaker.started(0.0)
    run.fails(Fault.ADDRESS, 0.0, REFUSALS_TO_OPEN)
    trial = run.breaker.started(now)
    if outcome == "passed":
        run.breaker.passed(early, "early", now)
    else:
        run.breaker.failed(early, "early", Fault.ADDRESS, now)
    run.breaker.ended(early)
    assert run.breaker.is_open(now)
    run.breaker.passed(trial, "trial", now)
    assert run.breaker.is_open(now) is (now < ADDRESS.first)


def test_a_trial_without_an_outcome_makes_room_for_the_next() -> None:
    run = opened()
    trial = run.breaker.started(60.0)
    assert run.breaker.is_open(60.0)
    run.breaker.ended(trial)
    assert not run.breaker.is_open(60.0)
    assert run.breaker.wait_seconds(60.0) == 0.0
    run.passes(60.0)
    run.fails(Fault.ADDRESS, 60.0)
    assert not run.breaker.is_open(60.0)


def test_a_trial_that_takes_longer_than_a_minute_does_not_hold_up_the_next() -> None:
    breaker = opened().breaker
    breaker.started(60.0)
    assert not breaker.is_open(60.0 + WINDOW_SECONDS)
    breaker.started(60.0 + WINDOW_SECONDS)
    assert breaker.is_open(60.0 + WINDOW_SECONDS + 1)


@pytest.mark.parametrize("starts_before_the_pause_ends", [0.0, 30.0, 59.9])
def test_a_start_during_the_pause_is_no_trial(starts_before_the_pause_ends: float) -> None:
    breaker = opened().breaker
    breaker.started(starts_before_the_pause_ends)
    assert not breaker.is_open(60.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["started", "reached", "passed", "ended", *PAUSES]), st.integers(0, 5), st.floats(0, 100)
        ),
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
            case "reached":
                breaker.reached(last - back)
            case "passed":
                breaker.passed(last - back, str(last), now)
            case fault:
                breaker.failed(last - back, str(last), Fault(fault), now)
        assert 0.0 <= breaker.wait_seconds(now) <= ADDRESS.longest
        assert not breaker.is_open(now + ADDRESS.longest + WINDOW_SECONDS)


@pytest.mark.parametrize("fault", [Fault.YOUTUBE, Fault.ADDRESS])
def test_the_attempts_that_an_outage_has_cost_are_given_back_once(fault: Fault) -> None:
    run = Run()
    run.passes(0.0)
    run.fails(fault, 0.0, times=ENDS_TO_OPEN - 1 if fault is Fault.YOUTUBE else REFUSALS_TO_OPEN)
    assert run.breaker.cause is fault
    failed = [f"video {number}" for number in range(2, run._video + 1)]
    # The last one has opened the breaker, and so was not counted.
    assert [run.breaker.takes_refund(video) for video in failed] == [True] * (len(failed) - 1) + [False]
    assert not any(run.breaker.takes_refund(video) for video in ["video 1", *failed])


def test_a_video_that_failed_several_times_gets_all_of_these_attempts_back() -> None:
    run = Run()
    for _ in range(3):
        run.breaker.failed(run.breaker.started(0.0), "often", Fault.YOUTUBE, 0.0)
    run.breaker.failed(run.breaker.started(0.0), "often", Fault.RELEASE, 0.0)
    run.fails(Fault.RELEASE, 0.0, times=ENDS_TO_OPEN - 1)
    assert run.breaker.cause is Fault.RELEASE
    assert [run.breaker.takes_refund("often") for _ in range(4)] == [True, True, True, False]


def test_an_attempt_is_not_given_back_to_a_video_that_has_been_served_since() -> None:
    run = opened(Fault.YOUTUBE)
    run.breaker.passed(run.breaker.started(PAUSES[Fault.YOUTUBE].first), "video 1", PAUSES[Fault.YOUTUBE].first)
    assert run.breaker.cause is None
    assert not run.breaker.takes_refund("video 1")
    assert run.breaker.takes_refund("video 2")


@pytest.mark.parametrize("fault", [Fault.NETWORK, Fault.RELEASE])
def test_failures_that_were_not_counted_are_not_given_back(fault: Fault) -> None:
    run = opened(fault)
    assert not any(run.breaker.takes_refund(f"video {number}") for number in range(ENDS_TO_OPEN + 1))
