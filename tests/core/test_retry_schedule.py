"""The retry times of refused requests: each request gets its own, and none is too late."""

from collections import Counter
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.retry_schedule import LONGEST_RETRY_SECONDS, RETURNING_SHARE, RetrySchedule

RATE = 100.0


def test_a_request_that_was_refused_alone_comes_back_as_soon_as_it_may() -> None:
    schedule = RetrySchedule()
    assert schedule.take(5.0, rate_per_second=RATE, earliest_seconds=0.25, chance=0.9) == 0.25
    assert schedule.take(99.0, rate_per_second=RATE, earliest_seconds=0.25, chance=0.9) == 0.25


def test_a_thousand_requests_come_back_at_their_share_of_the_rate() -> None:
    schedule = RetrySchedule()
    seconds = Counter(
        ceil(schedule.take(7.0, rate_per_second=RATE, earliest_seconds=0.01, chance=0.0)) for _ in range(1000)
    )
    assert max(seconds.values()) <= RATE * RETURNING_SHARE + 1
    assert max(seconds) <= 1000 / (RATE * RETURNING_SHARE) + 1


def test_a_hundred_thousand_wait_no_longer_than_the_bound_and_are_spread_below_it() -> None:
    schedule = RetrySchedule()
    waits = [
        schedule.take(0.0, rate_per_second=RATE, earliest_seconds=0.0, chance=number % 100 / 100)
        for number in range(100_000)
    ]
    assert max(waits) <= LONGEST_RETRY_SECONDS
    beyond = Counter(ceil(wait) for wait in waits[50_000:])
    assert len(beyond) >= 14
    # They do not delay a request that is refused later.
    assert schedule.take(LONGEST_RETRY_SECONDS * 2, rate_per_second=RATE, earliest_seconds=0.5, chance=0.0) == 0.5


@given(
    rate=st.floats(0.1, 10_000),
    asked=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 60), st.floats(0, 1, exclude_max=True)), max_size=50),
)
def test_no_time_is_before_the_earliest_or_after_the_bound(
    rate: float, asked: list[tuple[float, float, float]]
) -> None:
    schedule, now = RetrySchedule(), 0.0
    for step, earliest, chance in asked:
        now += step
        wait = schedule.take(now, rate_per_second=rate, earliest_seconds=earliest, chance=chance)
        assert wait >= earliest - 1e-9
        assert wait <= max(earliest, LONGEST_RETRY_SECONDS) + 1e-9
