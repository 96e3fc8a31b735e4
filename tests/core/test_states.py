"""States: the legal transitions, the attempts and crashes that they count, and when to retry."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.values import KEY, METADATA, NOW, TRACK, VIDEO_ID, conversion
from ytmp3.core import job, states
from ytmp3.core.errors import FAILURES, FailureCode, Fault
from ytmp3.core.ids import ClientId, ConversionId, InstanceId
from ytmp3.core.job import Conversion, Lease, State
from ytmp3.core.states import IllegalTransition, Transition, is_stale

A, B = InstanceId("a"), InstanceId("b")
ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


LEGAL = {
    (State.QUEUED, Transition.CLAIMED): State.RUNNING,
    (State.QUEUED, Transition.RELEASED): State.QUEUED,
    (State.QUEUED, Transition.ORPHANED): State.QUEUED,
    (State.QUEUED, Transition.CANCELLED): State.CANCELLED,
    (State.RUNNING, Transition.FINISHED): State.DONE,
    (State.RUNNING, Transition.FAILED): State.FAILED,
    (State.RUNNING, Transition.POISONED): State.FAILED,
    (State.RUNNING, Transition.RETRIED): State.QUEUED,
    (State.RUNNING, Transition.RELEASED): State.QUEUED,
    (State.RUNNING, Transition.ORPHANED): State.QUEUED,
    (State.RUNNING, Transition.CANCELLED): State.CANCELLED,
}


MOVES: dict[Transition, Callable[[Conversion], Conversion]] = {
    Transition.CLAIMED: lambda c: states.claimed(c, now=NOW, until=NOW + 30),
    Transition.FINISHED: lambda c: states.finished(c, TRACK, METADATA, now=NOW, expires_at=NOW + 99),
    Transition.FAILED: lambda c: states.failed(c, FailureCode.PRIVATE, now=NOW, expires_at=NOW + 99),
    Transition.POISONED: lambda c: states.failed(
        c, FailureCode.POISON, now=NOW, expires_at=NOW + 99, transition=Transition.POISONED
    ),
    Transition.RETRIED: lambda c: states.retried(c, FailureCode.UPSTREAM_ERROR, due_at=NOW + 5),
    Transition.RELEASED: lambda c: states.released(c, due_at=NOW),
    Transition.ORPHANED: lambda c: states.orphaned(c, due_at=NOW),
    Transition.CANCELLED: lambda c: states.cancelled(c, now=NOW, expires_at=NOW + 99),
}


@pytest.mark.parametrize(("state", "transition"), list(itertools.product(State, Transition)))
def test_the_table_holds_every_move_and_no_other(state: State, transition: Transition) -> None:
    before = conversion(state=state)
    if (state, transition) in LEGAL:
        assert states.advance(before, transition) is LEGAL[state, transition]
        assert MOVES[transition](before).state is LEGAL[state, transition]
    else:
        with pytest.raises(IllegalTransition):
            states.advance(before, transition)
        with pytest.raises(IllegalTransition):
            MOVES[transition](before)


def test_every_state_is_live_or_final_and_no_transition_leads_out_of_a_final_one() -> None:
    assert set(State) == states.LIVE | ENDED
    assert not states.LIVE & ENDED
    assert not [move for move in states.TRANSITIONS if move[0] in ENDED]


@given(st.lists(st.sampled_from(Transition), max_size=30))
def test_no_history_lets_a_token_fall_or_a_counter_shrink(transitions: list[Transition]) -> None:
    now = states.held(conversion(token=0), InstanceId("a"), NOW + 30)
    for transition in transitions:
        before = now
        try:
            now = MOVES[transition](before)
        except IllegalTransition:
            continue
        assert now.token >= before.token
        assert now.attempts >= before.attempts
        assert now.crashes >= before.crashes
        if now.state is State.QUEUED:
            assert now.token > before.token
            assert now.holder is None
        assert (now.expires_at is not None) == (now.state in ENDED)
        assert (now.track is not None) == (now.state is State.DONE)


def test_a_new_holder_gets_a_new_token() -> None:
    held = states.held(replace(conversion(token=4), holder=None), InstanceId("b"), NOW + 40)
    assert (held.holder, held.token, held.due_at, held.state) == ("b", 5, NOW + 40, State.QUEUED)
    assert held.lease == Lease(conversion_id=held.conversion_id, token=5, holder=InstanceId("b"))


def test_a_claim_resets_the_progress_and_keeps_the_time_of_the_first_claim() -> None:
    waiting = replace(conversion(token=1), progress=0.5, queue_position=7)
    first = states.claimed(waiting, now=NOW + 1, until=NOW + 31)
    assert (first.state, first.stage, first.progress, first.queue_position) == (
        State.RUNNING, job.Stage.EXTRACTING, 0.0, None,
    )  # fmt: skip
    assert (first.token, first.due_at, first.started_at, first.holder) == (2, NOW + 31, NOW + 1, "a")
    again = states.claimed(states.released(first, due_at=NOW + 2), now=NOW + 3, until=NOW + 33)
    assert again.started_at == NOW + 1
    assert again.token == 4


def test_a_first_claim_at_time_zero_is_remembered_too() -> None:
    assert states.claimed(replace(conversion(), started_at=0.0), now=NOW, until=NOW).started_at == 0.0


def test_a_finished_conversion_has_its_track_and_no_error() -> None:
    running = replace(conversion(state=State.RUNNING), error=FailureCode.UPSTREAM_ERROR, attempts=1)
    done = states.finished(running, TRACK, METADATA, now=NOW + 9, expires_at=NOW + 99)
    assert (done.track, done.metadata, done.error, done.holder) == (TRACK, METADATA, None, None)
    assert (done.stage, done.progress, done.completed_at, done.expires_at) == (
        job.Stage.DONE, 1.0, NOW + 9, NOW + 99,
    )  # fmt: skip
    assert (done.attempts, done.token) == (1, running.token)


def test_a_failure_counts_the_attempt_and_poison_does_not() -> None:
    running = replace(conversion(state=State.RUNNING), attempts=2, crashes=1)
    failed = states.failed(running, FailureCode.PRIVATE, now=NOW, expires_at=NOW + 9)
    assert (failed.error, failed.attempts, failed.crashes, failed.holder) == (FailureCode.PRIVATE, 3, 1, None)
    poisoned = states.failed(running, FailureCode.POISON, now=NOW, expires_at=NOW + 9, transition=Transition.POISONED)
    assert (poisoned.error, poisoned.attempts) == (FailureCode.POISON, 2)
    assert poisoned.completed_at == NOW


def test_a_cancellation_gives_a_new_token_and_takes_the_holder_away() -> None:
    cancelled = states.cancelled(replace(conversion(token=3), queue_position=2), now=NOW, expires_at=NOW + 9)
    assert (cancelled.token, cancelled.holder, cancelled.queue_position) == (4, None, None)
    assert (cancelled.completed_at, cancelled.expires_at) == (NOW, NOW + 9)


@pytest.mark.parametrize(
    ("transition", "attempts", "crashes"),
    [(Transition.RETRIED, 1, 0), (Transition.RELEASED, 0, 0), (Transition.ORPHANED, 0, 1)],
)
def test_a_retry_counts_an_attempt_a_crash_counts_a_crash_and_a_release_counts_nothing(
    transition: Transition, attempts: int, crashes: int
) -> None:
    running = replace(
        conversion(state=State.RUNNING, token=2), progress=0.7, stage=job.Stage.CONVERTING, metadata=METADATA
    )
    back = MOVES[transition](running)
    assert (back.attempts, back.crashes) == (attempts, crashes)
    assert (back.state, back.stage, back.progress, back.holder) == (State.QUEUED, job.Stage.QUEUED, 0.0, None)
    assert back.token == 3
    assert back.metadata == METADATA


def test_a_lease_that_runs_out_in_the_queue_counts_no_crash() -> None:
    assert states.orphaned(conversion(), due_at=NOW).crashes == 0


def test_a_conversion_is_stale_when_all_its_clients_have_waited_too_long() -> None:
    waiting = conversion()
    for now, joined_at, attempts, stale in (
        (NOW + 3600, None, 0, False),
        (NOW + 3601, None, 0, True),
        (NOW + 3601, NOW + 1, 0, False),
        (NOW + 3602, NOW + 1, 0, True),
        (NOW + 3601, None, 1, True),
        (NOW + 7200, NOW + 7199, 0, False),
        (NOW + 7201, NOW + 7199, 0, True),
    ):
        asked = replace(waiting, joined_at=joined_at, attempts=attempts)
        assert is_stale(asked, now=now, retention_seconds=3600) is stale


def test_a_stale_conversion_fails_with_the_code_of_its_last_attempt() -> None:
    assert states.code_of_stale(conversion()) is FailureCode.EXPIRED_WAITING
    refused = replace(conversion(), error=FailureCode.EXTRACTOR_BROKEN)
    assert states.code_of_stale(refused) is FailureCode.EXTRACTOR_BROKEN


@pytest.mark.parametrize(
    ("fault", "when_running", "when_paused"),
    [
        (Fault.VIDEO, True, True),
        (Fault.OURS, True, True),
        (Fault.YOUTUBE, True, False),
        (Fault.ADDRESS, True, False),
        (Fault.RELEASE, False, False),
        (Fault.NETWORK, False, False),
        (Fault.SETTINGS, False, False),
    ],
)
def test_only_what_may_be_the_matter_of_one_video_costs_an_attempt(
    fault: Fault, *, when_running: bool, when_paused: bool
) -> None:
    assert states.costs_an_attempt(fault, is_paused=False, waited_seconds=10.0) is when_running
    assert states.costs_an_attempt(fault, is_paused=True, waited_seconds=10.0) is when_paused


@pytest.mark.parametrize("fault", list(Fault))
def test_only_a_fault_of_the_release_costs_attempts_after_an_hour(fault: Fault) -> None:
    def costs(waited_seconds: float, *, is_paused: bool = False) -> bool:
        return states.costs_an_attempt(fault, is_paused=is_paused, waited_seconds=waited_seconds)

    assert (costs(3601.0) is not costs(3599.0)) is (fault is Fault.RELEASE)
    assert costs(86_400.0, is_paused=True) is costs(10.0, is_paused=True)


def test_a_retry_that_is_free_leaves_the_number_of_attempts() -> None:
    running = replace(conversion(state=State.RUNNING), attempts=2)
    free = states.retried(running, FailureCode.EXTRACTOR_BROKEN, due_at=NOW + 5, costs_attempt=False)
    assert (free.attempts, free.error, free.due_at) == (2, FailureCode.EXTRACTOR_BROKEN, NOW + 5)


def test_a_retry_waits_for_its_time_and_keeps_the_error() -> None:
    retried = states.retried(conversion(state=State.RUNNING), FailureCode.UPSTREAM_TIMEOUT, due_at=NOW + 5)
    assert (retried.due_at, retried.error) == (NOW + 5, FailureCode.UPSTREAM_TIMEOUT)


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_retryable_error_is_tried_again_up_to_the_limit(code: FailureCode) -> None:
    tries = [states.should_retry(code, attempts, 3) for attempts in range(5)]
    assert tries == [FAILURES[code].retryable] * 3 + [False] * 2
    assert not states.should_retry(code, 0, 0)


@pytest.mark.parametrize("attempts", range(9))
def test_the_delays_of_retries_are_spread_evenly(attempts: int) -> None:
    # Chi squared over 20 bins (19 degrees of freedom) stays below 36.19 with a probability of 99 %; the seed is fixed.
    ceiling = min(60.0, 2.0 * 2**attempts)
    chance = random.Random(attempts)
    delays = [states.retry_delay_seconds(FailureCode.LOST, attempts, chance.random()) for _ in range(1000)]
    assert all(0.0 <= delay < ceiling for delay in delays)
    bins = Counter(math.floor(delay / ceiling * 20) for delay in delays)
    assert sum((bins[number] - 50) ** 2 / 50 for number in range(20)) < 36.19


@given(st.sampled_from(FailureCode), st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_no_delay_is_longer_than_a_minute_unless_youtube_is_at_fault(
    code: FailureCode, attempts: int, chance: float
) -> None:
    delay = states.retry_delay_seconds(code, attempts, chance)
    if FAILURES[code].fault in {Fault.YOUTUBE, Fault.ADDRESS} and attempts >= 2:
        assert 120.0 <= delay < 240.0
    else:
        assert 0.0 <= delay < 60.0


@given(st.floats(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_free_attempts_come_at_most_every_ten_seconds_and_at_least_every_half_hour(
    waited: float, chance: float
) -> None:
    assert 10.0 < states.free_delay_seconds(waited, chance) <= 1800.0


def test_a_conversion_that_always_fails_at_no_cost_makes_less_than_a_hundred_attempts_in_a_day() -> None:
    waited, attempts = 0.0, 0
    while waited < 86_400:
        waited += states.free_delay_seconds(waited, 0.0)
        attempts += 1
    assert 20 < attempts < 100


def test_the_third_crash_is_the_last() -> None:
    assert states.CRASH_LIMIT == 3


def test_a_new_conversion_is_queued_and_held_by_its_creator() -> None:
    made = states.created(
        conversion_id=ConversionId("ab"),
        key=KEY,
        video_id=VIDEO_ID,
        client=ClientId("key:someone"),
        holder=InstanceId("a"),
        now=NOW,
        until=NOW + 30,
    )
    assert (made.state, made.stage, made.holder, made.token) == (State.QUEUED, job.Stage.QUEUED, "a", 1)
    assert (made.created_at, made.due_at, made.client) == (NOW, NOW + 30, "key:someone")
    assert (made.attempts, made.crashes, made.track, made.expires_at) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("state", "crashes", "is_poison"),
    [(State.RUNNING, 1, False), (State.RUNNING, 2, True), (State.RUNNING, 3, True), (State.QUEUED, 2, False)],
)
def test_a_conversion_that_was_running_at_too_many_crashes_is_poison(
    state: State, crashes: int, *, is_poison: bool
) -> None:
    crashed = replace(conversion(state=state), holder=A, crashes=crashes, crashed_at=A)
    assert states.is_poison(crashed, adopter=A, crash_limit=3) is is_poison


def test_a_conversion_that_has_crashed_at_one_place_only_is_tried_at_another_before_it_is_poison() -> None:
    running = replace(conversion(state=State.RUNNING), holder=A)
    once = states.orphaned(running, due_at=NOW)
    twice = states.orphaned(replace(once, state=State.RUNNING, holder=A), due_at=NOW)
    assert (once.crashed_at, twice.crashed_at, twice.crashes) == (A, A, 2)
    third = replace(twice, state=State.RUNNING, holder=A)
    assert states.is_poison(third, adopter=A, crash_limit=3)
    assert not states.is_poison(third, adopter=B, crash_limit=3)
    elsewhere = replace(states.orphaned(third, due_at=NOW), state=State.RUNNING, holder=B)
    for adopter in (A, B):
        assert states.is_poison(elsewhere, adopter=adopter, crash_limit=3)
    assert states.orphaned(elsewhere, due_at=NOW).crashed_at == "", "several places"
    both = replace(twice, state=State.RUNNING, holder=B)
    assert states.is_poison(both, adopter=A, crash_limit=3), "it has crashed at both places"
    assert states.is_poison(replace(third, crashed_at=None), adopter=B, crash_limit=3), "written by version 0.2"


@pytest.mark.parametrize(
    ("state", "now", "takes_jobs"),
    [
        (State.QUEUED, NOW + 10_000, True),
        (State.RUNNING, NOW + 10_000, True),
        (State.DONE, NOW + 3599, True),
        (State.DONE, NOW + 3600, False),
        (State.FAILED, NOW, False),
        (State.CANCELLED, NOW, False),
    ],
)
def test_a_live_conversion_takes_jobs_and_a_finished_one_for_a_retention(
    state: State, now: float, *, takes_jobs: bool
) -> None:
    completed_at = None if state in states.LIVE else NOW
    of = replace(conversion(state=state), completed_at=completed_at)
    assert states.takes_jobs(of, now=now, retention_seconds=3600) is takes_jobs


def test_a_done_record_without_its_time_takes_no_jobs() -> None:
    assert not states.takes_jobs(conversion(state=State.DONE), now=NOW, retention_seconds=3600)


def test_a_job_that_joins_never_shortens_the_retention_of_an_earlier_one() -> None:
    live = states.promised(conversion(), 7200)
    assert live.retention_seconds == 7200
    shorter = states.joined(live, now=NOW + 1, retention_seconds=60)
    assert (shorter.retention_seconds, shorter.joined_at) == (7200, NOW + 1)
    assert states.joined(live, now=NOW + 1, retention_seconds=9000).retention_seconds == 9000
    done = replace(live, state=State.DONE, completed_at=NOW, expires_at=NOW + 7200)
    assert states.joined(done, now=NOW + 1, retention_seconds=60).expires_at == NOW + 7200
    assert states.joined(done, now=NOW + 1, retention_seconds=9000).expires_at == NOW + 9001


def test_a_conversion_is_judged_by_its_own_retention_and_not_by_that_of_the_instance() -> None:
    done = replace(conversion(state=State.DONE), completed_at=NOW, retention_seconds=7200)
    assert states.takes_jobs(done, now=NOW + 7199, retention_seconds=60)
    assert not is_stale(replace(conversion(), retention_seconds=7200), now=NOW + 7199, retention_seconds=60)


def test_a_done_conversion_that_nobody_wants_expires_now_and_never_later() -> None:
    done = replace(conversion(state=State.DONE), completed_at=NOW, expires_at=NOW + 7200)
    assert states.given_up(done, now=NOW + 60).expires_at == NOW + 60
    assert states.given_up(done, now=NOW + 9000).expires_at == NOW + 7200
