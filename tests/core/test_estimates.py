"""Estimates: durations, the time to the end of a conversion, and when to come back to a full queue."""

import heapq
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ytmp3.core.estimates import (
    CLIENTS,
    FIRST_GUESS_SECONDS,
    LONGEST_WAIT_SECONDS,
    WINDOW,
    Durations,
    Pace,
    eta_seconds,
)
from ytmp3.core.ids import ClientId

A, B = ClientId("key:a"), ClientId("key:b")


def test_before_a_conversion_has_ended_the_pace_is_a_guess_and_durations_are_unknown() -> None:
    pace = Pace()
    assert pace.seconds_per_conversion == FIRST_GUESS_SECONDS
    assert pace.durations() == Durations(mean=None, p50=None, p95=None)
    assert pace.slot_wait_seconds(workers=20, now=0.0, chance=0.0) == 1
    assert Pace().slot_wait_seconds(workers=1, now=0.0, chance=0.0) == 20


def test_the_first_duration_replaces_the_guess_and_later_ones_move_the_average() -> None:
    pace = Pace()
    pace.ended(A, 10.0, 0.0)
    assert pace.seconds_per_conversion == 10.0
    pace.ended(A, 20.0, 1.0)
    assert pace.seconds_per_conversion == 12.0


def test_durations_summarise_all_remembered_conversions() -> None:
    pace = Pace()
    for seconds in range(1, 101):
        pace.ended(A, float(seconds), float(seconds))
    assert pace.durations() == Durations(mean=50.5, p50=51.0, p95=96.0)
    one = Pace()
    one.ended(A, 3.0, 0.0)
    assert one.durations() == Durations(mean=3.0, p50=3.0, p95=3.0)


def test_durations_forget_all_but_the_last_thousand() -> None:
    pace = Pace()
    pace.ended(A, 1e9, 0.0)
    for number in range(WINDOW):
        pace.ended(A, 1.0, float(number))
    assert pace.durations() == Durations(mean=1.0, p50=1.0, p95=1.0)


def test_the_wait_for_a_slot_follows_the_measured_rate() -> None:
    pace = Pace()
    for second in range(0, 100, 10):
        pace.ended(A, 200.0, float(second))
    # Ten ends in 100 s: one in ten seconds, however long each took. Every second slot is for clients that come back.
    assert [pace.slot_wait_seconds(workers=20, now=100.0, chance=0.0) for _ in range(3)] == [10, 30, 50]
    many = [pace.slot_wait_seconds(workers=20, now=100.0, chance=number % 100 / 100) for number in range(1000)]
    assert max(many) >= LONGEST_WAIT_SECONDS - 2
    assert min(many[500:]) == LONGEST_WAIT_SECONDS / 2
    pace = Pace()
    pace.ended(A, 200.0, 900.0)
    # Later no end is recent: the rate is again what twenty workers should reach.
    assert pace.slot_wait_seconds(workers=20, now=1000.0, chance=0.0) == 10
    assert pace.slot_wait_seconds(workers=0, now=1000.0, chance=0.0) == 200


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e3)), max_size=30),
    st.integers(1, 1000),
    st.floats(0, 1, exclude_max=True),
)
@example([(300.0, 847.4)], 1, 0.0)
def test_a_wait_is_a_whole_number_from_one_second_to_five_minutes(
    ends: list[tuple[float, float]], workers: int, chance: float
) -> None:
    pace, now = Pace(), 0.0
    for seconds, passed in ends:
        now += passed
        pace.ended(A, seconds, now)
    wait = pace.slot_wait_seconds(workers=workers, now=now, chance=chance)
    assert isinstance(wait, int)
    assert 1 <= wait <= LONGEST_WAIT_SECONDS


def returns(*, newcomers: float, seed: int) -> Counter[bool]:
    """Count the clients that find a slot after their Retry-After. 100 are refused at once; two slots a second get free.

    `newcomers`: how many clients come for the first time, for each slot that becomes free.
    """
    rng, drain = random.Random(seed), 2.0
    pace = Pace()
    for number in range(-100, 0):
        pace.ended(A, 10.0, number / drain)
    events = [(0.0, number, "refused") for number in range(100)] + [(0.0, 100, "end"), (0.0, 101, "newcomer")]
    found: Counter[bool] = Counter()
    free = 0
    for number in range(102, 10_000):
        now, _, kind = heapq.heappop(events)
        match kind:
            case "end":
                free += 1
                pace.ended(A, 10.0, now)
                heapq.heappush(events, (now + rng.expovariate(drain), number, "end"))
                continue
            case "newcomer" if newcomers:
                heapq.heappush(events, (now + rng.expovariate(drain * newcomers), number, "newcomer"))
            case "back":
                found[free > 0] += 1
        if free and kind != "refused":
            free -= 1
        else:
            wait = pace.slot_wait_seconds(workers=20, now=now, chance=rng.random())
            heapq.heappush(events, (now + wait, number + 10_000, "back"))
    return found


@pytest.mark.parametrize(("newcomers", "share"), [(0.0, 0.99), (0.25, 0.97), (0.5, 0.9)])
def test_most_clients_that_wait_for_their_retry_after_find_a_slot(newcomers: float, share: float) -> None:
    """With a random wait of one or two slots' time, one client in fifteen found a slot."""
    found: Counter[bool] = Counter()
    for seed in range(10):
        found += returns(newcomers=newcomers, seed=seed)
    assert found.total() > 900
    assert found[True] / found.total() >= share, found


@pytest.mark.parametrize(
    ("position", "workers", "progress", "expected"),
    [(None, 20, 0.0, 10), (None, 20, 0.5, 5), (None, 20, 1.0, 1), (1, 20, 0.0, 10), (40, 20, 0.0, 30), (3, 0, 0.0, 40)],
)
def test_an_estimate_counts_the_conversions_ahead_and_its_own_rest(
    position: int | None, workers: int, progress: float, expected: int
) -> None:
    seconds = eta_seconds(
        position=position, seconds_per_conversion=10.0, own_seconds=10.0, workers=workers, progress=progress
    )
    assert seconds == expected


def test_long_videos_of_one_client_do_not_make_the_songs_of_another_seem_long() -> None:
    pace = Pace()
    pace.ended(B, 5.0, 0.0)
    for number in range(100):
        pace.ended(A, 1000.0, float(number))
    assert (pace.seconds_of(A), pace.seconds_of(B)) == (1000.0, 5.0)
    assert pace.seconds_of(ClientId("key:new")) == pace.seconds_per_conversion > 900.0
    shared: dict[str, Any] = {"seconds_per_conversion": pace.seconds_per_conversion, "workers": 20, "progress": 0.0}
    # The song waits for one of twenty workers, and then takes what its client's songs take.
    assert eta_seconds(position=1, own_seconds=pace.seconds_of(B), **shared) < 60
    assert eta_seconds(position=1, own_seconds=pace.seconds_of(A), **shared) > 1000


def test_the_pace_of_a_bounded_number_of_clients_is_remembered() -> None:
    pace = Pace()
    pace.ended(A, 1.0, 0.0)
    for number in range(CLIENTS):
        pace.ended(ClientId(f"addr:{number}"), 9.0, 0.0)
    assert pace.seconds_of(A) == pace.seconds_per_conversion
    assert pace.seconds_of(ClientId("addr:0")) == 9.0
