"""Token buckets: no span of time admits more than burst + rate * time, whatever the clock and other keys do."""

import math
import random
import tracemalloc
from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.buckets import MAX_KEYS, TokenBuckets

TOLERANCE = 1e-6
"""Fraction of a token by which sums of floats may differ."""


class Meter:
    """Checks admissions against the definition of the limit, for all windows at once.

    With D(t) = admitted before t - rate * t, no window [s, t] holds more than burst + rate * (t - s) exactly if
    D(t) + 1 - min over s <= t of D(s) never exceeds burst.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self.admitted = 0
        self.lowest = math.inf

    def admit(self, at: float) -> None:
        depth = self.admitted - self.rate * at
        self.lowest = min(self.lowest, depth)
        self.admitted += 1
        assert depth + 1 - self.lowest <= self.burst + TOLERANCE


def true_times(rng: random.Random, events: int) -> Iterable[float]:
    now = 0.0
    for _ in range(events):
        now += rng.choice((0.0, 0.0, rng.expovariate(2000), rng.expovariate(100), rng.expovariate(2)))
        yield now


def test_no_window_admits_more_than_burst_and_rate_in_random_events() -> None:
    for seed, (rate, burst) in enumerate([(100.0, 200), (0.5, 1), (7.3, 10), (1000.0, 5)]):
        rng = random.Random(seed)
        buckets = TokenBuckets(rate_per_second=rate, burst=burst)
        meter = Meter(rate, burst)
        for now in true_times(rng, 50_000 * FUZZ_FACTOR):
            if buckets.take("k", now):
                meter.admit(now)
        assert meter.admitted > burst


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.floats(-5, 0)), min_size=1, max_size=60),
)
def test_a_clock_that_steps_back_admits_no_more(rate: float, burst: int, steps: list[tuple[float, float]]) -> None:
    buckets = TokenBuckets(rate_per_second=rate, burst=burst)
    meter = Meter(rate, burst)
    true_now, clock_error = 0.0, 0.0
    for passed, setback in steps:
        true_now += passed
        clock_error += setback
        while buckets.take("k", true_now + clock_error):
            meter.admit(true_now)


def test_a_full_bucket_admits_its_burst_and_then_its_rate() -> None:
    buckets = TokenBuckets(rate_per_second=10.0, burst=5)
    assert [buckets.take("k", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not buckets.take("k", 0.0999)
    assert buckets.take("k", 0.1001)
    assert not buckets.take("k", 0.1002)
    assert [buckets.take("k", 1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_refused_request_takes_no_token() -> None:
    buckets = TokenBuckets(rate_per_second=1.0, burst=1)
    assert buckets.take("k", 0.0)
    for tenth in range(10):
        assert not buckets.take("k", tenth / 10)
    assert buckets.take("k", 1.0)


def test_keys_do_not_share_a_bucket() -> None:
    buckets = TokenBuckets(rate_per_second=1.0, burst=1)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
    assert not buckets.take("a", 0.0)


@given(
    st.floats(0.1, 1000),
    st.integers(1, 20),
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(-1, 2)), max_size=50),
)
def test_the_state_predicts_the_result_of_a_take(rate: float, burst: int, steps: list[tuple[str, float]]) -> None:
    buckets = TokenBuckets(rate_per_second=rate, burst=burst)
    now = 0.0
    for key, passed in steps:
        now += passed
        state = buckets.state(key, now)
        assert state == buckets.state(key, now)
        has_token = buckets.has_token(key, now)
        assert has_token == (state.remaining >= 1) == (state.wait_seconds == 0.0)
        assert 0 <= state.remaining <= burst
        assert buckets.take(key, now) == has_token


@given(st.floats(0.1, 1000), st.integers(1, 20), st.floats(0, 1e6))
def test_a_request_that_waits_for_its_retry_after_is_admitted(rate: float, burst: int, start: float) -> None:
    buckets = TokenBuckets(rate_per_second=rate, burst=burst)
    while buckets.take("k", start):
        pass
    # Retry-After is in whole seconds, and at least one.
    wait = max(1, math.ceil(buckets.state("k", start).wait_seconds))
    assert buckets.take("k", start + wait + TOLERANCE)


def test_requests_refused_by_one_bucket_are_given_different_times() -> None:
    buckets = TokenBuckets(rate_per_second=2.0, burst=1)
    assert buckets.take("k", 0.0)
    assert [buckets.retry_seconds("k", 0.0, chance=0.0) for _ in range(4)] == [0.5, 1.5, 2.5, 3.5]
    # Another key has times of its own.
    assert buckets.take("other", 0.0)
    assert buckets.retry_seconds("other", 0.0, chance=0.0) == 0.5


def test_the_number_of_buckets_is_bounded_however_many_keys_come() -> None:
    buckets = TokenBuckets(rate_per_second=1.0, burst=2, max_keys=500)
    for number in range(20_000):
        buckets.take(f"addr:2001:db8:{number:x}::/64", number / 10_000)
        assert len(buckets) <= 500
    for number in range(20_000):
        buckets.take(f"addr:{number}", 100.0 + number)
    assert len(buckets) <= 500


def test_any_number_of_addresses_costs_less_than_50_megabytes() -> None:
    """With the largest buckets: those of IPv6 networks that were refused once."""
    buckets = TokenBuckets(rate_per_second=20.0, burst=1)

    def come(number: int) -> None:
        key, now = f"addr:2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", number / 1e6
        if not (buckets.take(key, now) and buckets.take(key, now)):
            buckets.retry_seconds(key, now, chance=0.5)

    tracemalloc.start()
    try:
        for number in range(MAX_KEYS + 1000):
            come(number)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(buckets) == MAX_KEYS
    assert most < 50_000_000, most
    # Tracing takes ten times as long; there is no room for more anyway.
    for number in range(MAX_KEYS + 1000, 200_000 * FUZZ_FACTOR):
        buckets.take(f"addr:{number}", number / 1e6)
    assert len(buckets) == MAX_KEYS


def test_many_other_keys_do_not_make_the_limiter_forget_a_key_over_its_limit() -> None:
    buckets = TokenBuckets(rate_per_second=1.0, burst=3, max_keys=50)
    meter = Meter(1.0, 3)
    rng = random.Random(1)
    now = 0.0
    for number in range(20_000):
        now += rng.expovariate(200)
        buckets.take(f"addr:{number}", now)
        if buckets.take("greedy", now):
            meter.admit(now)
    assert meter.admitted > 10


def test_a_key_that_leaves_the_shared_bucket_gets_no_new_tokens() -> None:
    # While all buckets are in use, new keys share one. When there is room again, its missing tokens go along.
    buckets = TokenBuckets(rate_per_second=1.0, burst=10, max_keys=2)
    assert buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)
    assert [buckets.take("c", 0.5) for _ in range(11)] == [True] * 10 + [False]
    assert len(buckets) == 2
    assert not buckets.take("d", 0.5)
    # "a" and "b" are full again and forgotten for "c" and "d".
    assert [buckets.take("c", 1.5) for _ in range(2)] == [True, False]
    assert [buckets.take("d", 2.5) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("max_keys", [1, 2, 5])
def test_every_key_is_held_to_the_limit_however_few_buckets_there_are(max_keys: int) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        buckets = TokenBuckets(rate_per_second=1.0, burst=3, max_keys=max_keys)
        meters = {key: Meter(1.0, 3) for key in "abcdefgh"}
        for now in true_times(rng, 500):
            key = rng.choice("abcdefgh")
            if buckets.take(key, now):
                meters[key].admit(now)
            assert len(buckets) <= max_keys


def test_a_full_bucket_is_forgotten_before_a_used_one() -> None:
    buckets = TokenBuckets(rate_per_second=1.0, burst=2, max_keys=2)
    buckets.take("old", 0.0)
    buckets.take("young", 10.0)
    buckets.take("new", 10.0)
    assert len(buckets) == 2
    assert buckets.state("young", 10.0).remaining == 1


def test_the_meter_of_these_tests_finds_a_window_that_is_too_full() -> None:
    times: deque[float] = deque([0.0, 0.0, 0.5])
    meter = Meter(1.0, 2)
    meter.admit(times.popleft())
    meter.admit(times.popleft())
    with pytest.raises(AssertionError):
        meter.admit(times.popleft())


def test_the_last_state_is_that_of_the_last_use() -> None:
    buckets = TokenBuckets(rate_per_second=0.5, burst=2)
    assert buckets.last_state("a", 0.0) == (2, 0)
    assert buckets.take("a", 0.0)
    assert buckets.last_state("a", 0.0) == (1, 0)
    assert buckets.take("a", 1.0)
    assert buckets.last_state("a", 1.0) == (0, 1)
    assert not buckets.take("a", 1.5)
    # The last state is not refilled: it is for headers, which are written right after a use.
    assert buckets.last_state("a", 9.0) == (0, 1)
    assert buckets.has_token("a", 9.0)
    assert buckets.last_state("a", 9.0) == (2, 0)


def test_a_token_that_is_put_back_can_be_taken_again_and_a_full_bucket_gains_none() -> None:
    buckets = TokenBuckets(rate_per_second=1.0, burst=2)
    assert buckets.take("a", 0.0)
    assert buckets.take("a", 0.0)
    buckets.put_back("a", 0.0)
    assert buckets.take("a", 0.0)
    assert not buckets.take("a", 0.0)
    for _ in range(5):
        buckets.put_back("a", 0.0)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [True, True, False]
