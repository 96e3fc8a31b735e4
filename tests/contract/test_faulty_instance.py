"""One of several instances fails every conversion, or crashes at each: it costs no conversion its attempts."""

import random

import pytest

from tests.contract.harness import METADATA, POLICY, Harness, Ids, RedisHarness, created, running, ticket_of, track_of
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Conversion, State
from ytmp3.core.states import ELSEWHERE_SECONDS, HEAD_START_SECONDS
from ytmp3.jobstore import JobStore

pytestmark = pytest.mark.attack

CONVERSIONS = 60
POLL_SECONDS = 1.0
CRASHING = [f"b-----{start}" for start in range(POLICY.crash_limit)]
"""The ids of an instance that is killed and started again. All begin with its place (`ids.place_of`)."""


async def fail(store: JobStore, conversion: Conversion) -> None:
    claimed = await store.claim(conversion.lease)
    await store.retry(claimed.lease, FailureCode.OUTPUT_TRUNCATED, delay_seconds=0.0)


async def finish(store: JobStore, conversion: Conversion) -> None:
    claimed = await store.claim(conversion.lease)
    await store.finish(claimed.lease, track_of(claimed.lease), METADATA)


async def test_a_failed_conversion_is_left_to_the_other_instances_first(redis_harness: RedisHarness, ids: Ids) -> None:
    a, b = await redis_harness.open("a"), await redis_harness.open("b")
    first, second = await created(a, ids.submission(1)), await created(a, ids.submission(2))
    await fail(a, first)
    redis_harness.clock.advance(HEAD_START_SECONDS - 0.1)
    assert await a.adopt(10) == []
    (adopted,) = await b.adopt(10)
    assert (adopted.conversion_id, adopted.failed_by, adopted.attempts) == (first.conversion_id, "a", 1)
    # Where no other instance adopts it, the one that failed it does.
    await fail(a, second)
    redis_harness.clock.advance(HEAD_START_SECONDS)
    assert [each.conversion_id for each in await a.adopt(10)] == [second.conversion_id]


async def test_a_clock_that_is_set_back_does_not_prolong_that_wait(redis_harness: RedisHarness, ids: Ids) -> None:
    a = await redis_harness.open("a")
    await fail(a, await created(a, ids.submission(1)))
    redis_harness.set_clock(-3600.0)
    for _ in range(60):
        redis_harness.clock.advance(POLL_SECONDS)
        if await a.adopt(10):
            return
    raise AssertionError("the retry waits for the hour that the clock was set back")


async def test_a_store_with_one_instance_knows_no_such_wait(harness: Harness, store: JobStore, ids: Ids) -> None:
    submission = ids.submission(1)
    claimed = await running(store, submission)
    await store.retry(claimed.lease, FailureCode.OUTPUT_TRUNCATED, delay_seconds=0.0)
    assert (await ticket_of(store, submission.job_id)).conversion.failed_by == "a"
    assert len(await store.adopt(10)) == (0 if harness.shared else 1)


async def test_every_job_completes_beside_an_instance_that_fails_everything(redis_harness: RedisHarness) -> None:
    healthy, faulty, ids, chance = await redis_harness.open("a"), await redis_harness.open("b"), Ids(), random.Random(1)
    submissions = [ids.submission(video) for video in range(CONVERSIONS)]
    for submission in submissions:
        # Half of the requests reach the faulty instance.
        store, attempt = chance.choice([(healthy, finish), (faulty, fail)])
        await attempt(store, await created(store, submission))
    for _ in range(2 * CONVERSIONS):
        # The faulty instance is idle again at once, so it looks more often, and takes all that it gets.
        store, attempt, limit = chance.choice([(healthy, finish, 5), (faulty, fail, 100), (faulty, fail, 100)])
        for conversion in await store.adopt(limit):
            await attempt(store, conversion)
        redis_harness.clock.advance(POLL_SECONDS / 20)
    redis_harness.clock.advance(HEAD_START_SECONDS)
    for conversion in await healthy.adopt(100):
        await finish(healthy, conversion)
    ended = [(await ticket_of(healthy, submission.job_id)).conversion for submission in submissions]
    assert {each.state for each in ended} == {State.DONE}
    assert max(each.attempts for each in ended) == 1


async def test_what_has_crashed_one_instance_only_is_tried_by_another_before_it_is_poison(
    redis_harness: RedisHarness,
) -> None:
    healthy, ids = await redis_harness.open("a"), Ids()
    submissions = [ids.submission(video) for video in range(CONVERSIONS)]
    waiting = [await created(healthy, submission) for submission in submissions]
    await healthy.release([each.lease for each in waiting])
    for crashes, name in enumerate(CRASHING):
        # It is idle after each start, so it takes everything; then it is killed.
        crashing = await redis_harness.open(name)
        waiting = await crashing.adopt(100)
        assert [each.crashes for each in waiting] == [crashes] * CONVERSIONS
        for conversion in waiting:
            await crashing.claim(conversion.lease)
        redis_harness.clock.advance(POLICY.lease_seconds)
    crashing = await redis_harness.open("b-----again")
    assert await crashing.adopt(100) == [], "they are left to the others"
    for conversion in await healthy.adopt(CONVERSIONS - 1):
        await finish(healthy, conversion)
    ended = [(await ticket_of(healthy, submission.job_id)).conversion for submission in submissions]
    assert [each.state for each in ended].count(State.DONE) == CONVERSIONS - 1
    # Where no other instance takes it, it fails in the end.
    redis_harness.clock.advance(ELSEWHERE_SECONDS)
    assert await crashing.adopt(100) == []
    ended = [(await ticket_of(healthy, submission.job_id)).conversion for submission in submissions]
    (last,) = [each for each in ended if each.state is not State.DONE]
    assert (last.state, last.error, last.crashes) == (State.FAILED, FailureCode.POISON, POLICY.crash_limit)


async def test_what_has_crashed_two_instances_is_poison(redis_harness: RedisHarness, ids: Ids) -> None:
    first = ids.submission(1)
    for name in ("a", "b", "b"):
        store = await redis_harness.open(name)
        conversion = await created(store, first) if name == "a" else (await store.adopt(10))[0]
        await store.claim(conversion.lease)
        redis_harness.clock.advance(POLICY.lease_seconds)
    assert await store.adopt(10) == []
    assert (await ticket_of(store, first.job_id)).conversion.error is FailureCode.POISON
