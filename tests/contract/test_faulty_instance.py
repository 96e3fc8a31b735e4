"""One of several instances fails every conversion, and does not know why: it uses up no conversion's attempts."""

import random

import pytest

from tests.contract.harness import METADATA, Harness, Ids, RedisHarness, created, running, ticket_of, track_of
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Conversion, State
from ytmp3.core.states import HEAD_START_SECONDS
from ytmp3.jobstore import JobStore

pytestmark = pytest.mark.attack

CONVERSIONS = 60
POLL_SECONDS = 1.0


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
