"""The pace of one endpoint: a few requests at once, pauses after failures, and turns that are spread over time."""

from ytmp3.webhooks.pace import (
    FAILURES_BEFORE_PAUSE,
    FIRST_PAUSE_SECONDS,
    MAX_AHEAD_SECONDS,
    MAX_AT_ONCE,
    MAX_PAUSE_SECONDS,
    Pace,
    Paces,
)


def failed(pace: Pace, now: float, times: int = 1) -> None:
    for _ in range(times):
        assert pace.begin(now) == 0.0
        pace.end(now, is_failure=True, seconds=1.0)


def test_an_endpoint_gets_a_few_requests_at_once_and_later_ones_get_turns_in_order() -> None:
    pace = Pace()
    assert [pace.begin(0.0) for _ in range(MAX_AT_ONCE)] == [0.0] * MAX_AT_ONCE
    turns = [pace.begin(0.0) for _ in range(10_000)]
    assert turns == sorted(turns)
    assert turns[0] > 0
    assert turns[-1] == MAX_AHEAD_SECONDS
    pace.end(1.0, is_failure=False, seconds=1.0)
    assert pace.begin(1.0) == 0.0


def test_failures_in_a_row_pause_an_endpoint_for_longer_each_time() -> None:
    pace, now = Pace(), 0.0
    failed(pace, now, FAILURES_BEFORE_PAUSE)
    expected = FIRST_PAUSE_SECONDS
    for _ in range(8):
        assert pace.begin(now) >= expected * 0.999
        now += expected
        failed(pace, now)
        expected = min(2 * expected, MAX_PAUSE_SECONDS)
    assert expected == MAX_PAUSE_SECONDS


def test_a_success_ends_the_pause_and_the_count() -> None:
    pace = Pace()
    failed(pace, 0.0, FAILURES_BEFORE_PAUSE)
    assert pace.begin(FIRST_PAUSE_SECONDS) == 0.0
    pace.end(FIRST_PAUSE_SECONDS, is_failure=False, seconds=0.1)
    failed(pace, FIRST_PAUSE_SECONDS, FAILURES_BEFORE_PAUSE - 1)
    assert pace.begin(FIRST_PAUSE_SECONDS) == 0.0


def test_an_endpoint_may_ask_for_a_pause_within_bounds() -> None:
    pace = Pace()
    assert pace.begin(0.0) == 0.0
    pace.end(0.0, is_failure=True, seconds=0.1, pause_seconds=90.0)
    assert pace.begin(89.0) >= 1.0
    assert pace.begin(90.0) == 0.0
    pace.end(90.0, is_failure=True, seconds=0.1, pause_seconds=float("inf"))
    assert pace.begin(90.0 + MAX_PAUSE_SECONDS) == 0.0


def test_endpoints_do_not_share_a_pace_and_idle_ones_are_forgotten() -> None:
    paces = Paces(remembered=2)
    busy = paces.of("shop", "a.example")
    busy.begin(0.0)
    assert paces.of("shop", "b.example") is not busy
    paces.of("shop", "c.example")
    assert paces.of("shop", "a.example") is busy


def test_reading_the_file_again_enables_every_endpoint() -> None:
    paces = Paces()
    busy, idle = paces.of("a", ""), paces.of("b", "")
    busy.begin(0.0)
    busy.is_disabled = idle.is_disabled = True
    paces.clear()
    assert paces.of("a", "") is busy
    assert not busy.is_disabled
    assert paces.of("b", "") is not idle
