"""The job model: every move there is and no other, retries, ids, estimates."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.values import KEY, METADATA, NOW, TRACK, VIDEO_ID, conversion, ticket
from ytmp3.core import estimates, ids, job, recipe, states
from ytmp3.core.errors import FAILURES, FailureCode
from ytmp3.core.ids import ConversionId, InstanceId, VideoId
from ytmp3.core.job import Conversion, Lease, State, Status
from ytmp3.core.recipe import Quality
from ytmp3.core.states import Event, IllegalTransition, is_stale

ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
LEGAL = {
    (State.QUEUED, Event.CLAIMED): State.RUNNING,
    (State.QUEUED, Event.RELEASED): State.QUEUED,
    (State.QUEUED, Event.ORPHANED): State.QUEUED,
    (State.QUEUED, Event.CANCELLED): State.CANCELLED,
    (State.RUNNING, Event.FINISHED): State.DONE,
    (State.RUNNING, Event.FAILED): State.FAILED,
    (State.RUNNING, Event.POISONED): State.FAILED,
    (State.RUNNING, Event.RETRIED): State.QUEUED,
    (State.RUNNING, Event.RELEASED): State.QUEUED,
    (State.RUNNING, Event.ORPHANED): State.QUEUED,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
}

MOVES: dict[Event, Callable[[Conversion], Conversion]] = {
    Event.CLAIMED: lambda c: states.claimed(c, now=NOW, until=NOW + 30),
    Event.FINISHED: lambda c: states.finished(c, TRACK, METADATA, now=NOW, expires_at=NOW + 99),
    Event.FAILED: lambda c: states.failed(c, FailureCode.PRIVATE, now=NOW, expires_at=NOW + 99),
    Event.POISONED: lambda c: states.failed(c, FailureCode.POISON, now=NOW, expires_at=NOW + 99, event=Event.POISONED),
    Event.RETRIED: lambda c: states.retried(c, FailureCode.UPSTREAM_ERROR, due_at=NOW + 5),
    Event.RELEASED: lambda c: states.released(c, due_at=NOW),
    Event.ORPHANED: lambda c: states.orphaned(c, due_at=NOW),
    Event.CANCELLED: lambda c: states.cancelled(c, now=NOW, expires_at=NOW + 99),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_the_table_holds_every_move_and_no_other(state: State, event: Event) -> None:
    before = conversion(state=state)
    if (state, event) in LEGAL:
        assert states.advance(before, event) is LEGAL[state, event]
        assert MOVES[event](before).state is LEGAL[state, event]
    else:
        with pytest.raises(IllegalTransition):
            states.advance(before, event)
        with pytest.raises(IllegalTransition):
            MOVES[event](before)


def test_every_state_is_either_live_or_ended_and_the_ended_absorb() -> None:
    assert set(State) == states.LIVE | ENDED
    assert not states.LIVE & ENDED
    assert not [move for move in states.TRANSITIONS if move[0] in ENDED]


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_no_history_lets_a_token_fall_or_a_counter_shrink(events: list[Event]) -> None:
    now = states.held(conversion(token=0), InstanceId("a"), NOW + 30)
    for event in events:
        before = now
        try:
            now = MOVES[event](before)
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


def test_holding_gives_a_new_token() -> None:
    held = states.held(replace(conversion(token=4), holder=None), InstanceId("b"), NOW + 40)
    assert (held.holder, held.token, held.due_at, held.state) == ("b", 5, NOW + 40, State.QUEUED)
    assert held.lease == Lease(conversion_id=held.conversion_id, token=5)


def test_a_claim_starts_from_nothing_and_the_first_one_is_remembered() -> None:
    waiting = replace(conversion(token=1), progress=0.5, queue_position=7)
    first = states.claimed(waiting, now=NOW + 1, until=NOW + 31)
    assert (first.state, first.stage, first.progress, first.queue_position) == (
        State.RUNNING, job.Stage.EXTRACTING, 0.0, None,
    )  # fmt: skip
    assert (first.token, first.due_at, first.started_at, first.holder) == (2, NOW + 31, NOW + 1, "a")
    again = states.claimed(states.released(first, due_at=NOW + 2), now=NOW + 3, until=NOW + 33)
    assert again.started_at == NOW + 1
    assert again.token == 4


def test_a_start_at_the_epoch_is_a_start() -> None:
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
    poisoned = states.failed(running, FailureCode.POISON, now=NOW, expires_at=NOW + 9, event=Event.POISONED)
    assert (poisoned.error, poisoned.attempts) == (FailureCode.POISON, 2)
    assert poisoned.completed_at == NOW


def test_a_cancelled_conversion_is_fenced() -> None:
    cancelled = states.cancelled(replace(conversion(token=3), queue_position=2), now=NOW, expires_at=NOW + 9)
    assert (cancelled.token, cancelled.holder, cancelled.queue_position) == (4, None, None)
    assert (cancelled.completed_at, cancelled.expires_at) == (NOW, NOW + 9)


@pytest.mark.parametrize(
    ("event", "attempts", "crashes"), [(Event.RETRIED, 1, 0), (Event.RELEASED, 0, 0), (Event.ORPHANED, 0, 1)]
)
def test_each_way_back_to_the_queue_has_its_own_price(event: Event, attempts: int, crashes: int) -> None:
    running = replace(
        conversion(state=State.RUNNING, token=2), progress=0.7, stage=job.Stage.CONVERTING, metadata=METADATA
    )
    back = MOVES[event](running)
    assert (back.attempts, back.crashes) == (attempts, crashes)
    assert (back.state, back.stage, back.progress, back.holder) == (State.QUEUED, job.Stage.QUEUED, 0.0, None)
    assert back.token == 3
    assert back.metadata == METADATA


def test_to_be_orphaned_while_waiting_costs_nothing() -> None:
    assert states.orphaned(conversion(), due_at=NOW).crashes == 0


def test_work_is_stale_when_everybody_has_waited_too_long_for_its_first_attempt() -> None:
    waiting = conversion()
    for now, joined_at, attempts, stale in (
        (NOW + 3600, None, 0, False),
        (NOW + 3601, None, 0, True),
        (NOW + 3601, NOW + 1, 0, False),
        (NOW + 3602, NOW + 1, 0, True),
        (NOW + 3601, None, 1, False),  # the store gives it another attempt soon, or never
    ):
        asked = replace(waiting, joined_at=joined_at, attempts=attempts)
        assert is_stale(asked, now=now, retention_seconds=3600) is stale


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
    # Goal J09: 1,000 samples, p > 0.01: chi squared over 20 bins (19 degrees of freedom) stays below 36.19.
    ceiling = min(60.0, 2.0 * 2**attempts)
    chance = random.Random(attempts)
    delays = [states.retry_delay_seconds(attempts, chance.random()) for _ in range(1000)]
    assert all(0.0 <= delay < ceiling for delay in delays)
    bins = Counter(math.floor(delay / ceiling * 20) for delay in delays)
    assert sum((bins[number] - 50) ** 2 / 50 for number in range(20)) < 36.19


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_no_delay_is_longer_than_a_minute(attempts: int, chance: float) -> None:
    assert 0.0 <= states.retry_delay_seconds(attempts, chance) < 60.0


def test_an_id_is_its_keys_shard_and_then_chance() -> None:
    chance = bytes(range(16))
    made = ids.new_job_id(KEY, chance)
    assert ids.JOB_ID.fullmatch(made)
    assert made == ids.shard_of(KEY) + chance.hex()


@pytest.mark.parametrize(
    "text", ["", "a" * 33, "a" * 35, "A" * 34, "g" * 34, "a" * 33 + "\n", "٣" * 34, "a" * 34 + "\n"]
)
def test_what_is_not_34_hex_digits_is_no_id(text: str) -> None:
    assert ids.JOB_ID.fullmatch(text) is None


def test_the_shards_are_evenly_filled() -> None:
    # 256 bins, 25,600 keys: chi squared with 255 degrees of freedom stays below 310.5 (p > 0.01).
    shards = Counter(
        ids.shard_of(recipe.conversion_key(VideoId(f"{number:011d}"), recipe.DEFAULT_RECIPE))
        for number in range(25_600)
    )
    assert len(shards) == 256
    assert sum((count - 100) ** 2 / 100 for count in shards.values()) < 310.5


def test_each_recipe_of_a_video_has_a_key_of_its_own() -> None:
    keys = {recipe.conversion_key(VIDEO_ID, recipe.Recipe(quality=quality)) for quality in Quality}
    assert len(keys) == len(Quality)
    assert recipe.conversion_key(VIDEO_ID, recipe.DEFAULT_RECIPE) == KEY


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.QUEUED, Status.PENDING),
        (State.RUNNING, Status.PROCESSING),
        (State.DONE, Status.COMPLETED),
        (State.FAILED, Status.FAILED),
        (State.CANCELLED, Status.CANCELLED),
    ],
)
def test_a_jobs_status_is_its_conversions_unless_it_was_cancelled_itself(state: State, status: Status) -> None:
    assert ticket(conversion(state=state)).status is status
    assert ticket(conversion(state=state), cancelled_at=NOW).status is Status.CANCELLED


def test_a_ticket_shows_the_canonical_link() -> None:
    assert ticket(conversion()).url == "https://www.youtube.com/watch?v=dQw4w9WgXcQ"


@pytest.mark.parametrize(
    ("position", "workers", "progress", "expected"),
    [(None, 20, 0.0, 10), (None, 20, 0.5, 5), (None, 20, 1.0, 1), (1, 20, 0.0, 10), (40, 20, 0.0, 30), (3, 0, 0.0, 40)],
)
def test_an_estimate_counts_the_turns_ahead_and_the_rest(
    position: int | None, workers: int, progress: float, expected: int
) -> None:
    assert (
        estimates.eta_seconds(position=position, seconds_per_conversion=10.0, workers=workers, progress=progress)
        == expected
    )


def test_two_holders_never_publish_under_one_name() -> None:
    one = job.track_file_name(Lease(conversion_id=ConversionId("ab"), token=2), recipe.DEFAULT_RECIPE)
    assert one == "ab-2.mp3"
    assert one != job.track_file_name(Lease(conversion_id=ConversionId("ab"), token=3), recipe.DEFAULT_RECIPE)


def test_the_crash_limit_is_the_goals() -> None:
    assert states.CRASH_LIMIT == 3
