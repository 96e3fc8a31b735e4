"""Clocks that are set while instances are at work: no healthy conversion suffers, and orphans do not wait for an hour.

FUZZ_FACTOR=20 python -m pytest tests/contract/test_clock_steps.py     100 rounds
"""

import random
from typing import Final

import pytest

from tests.contract.harness import POLICIES, POLICY, Harness, Ids, RedisHarness, created, done, running, ticket_of
from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ConversionId
from ytmp3.core.job import Conversion, State
from ytmp3.core.states import LONGEST_DELAY_SECONDS
from ytmp3.engine.leases import RENEWALS_PER_LEASE
from ytmp3.jobstore import JobStore, Renewal

ROUNDS: Final = 5 * FUZZ_FACTOR
HOUR_SECONDS: Final = 3600.0
POLL_SECONDS: Final = 1.0
RENEWAL_SECONDS: Final = POLICY.lease_seconds / RENEWALS_PER_LEASE
BOUND_SECONDS: Final = 2 * POLICY.lease_seconds + RENEWAL_SECONDS + 2 * POLL_SECONDS
"""From the death of an instance, or the last step after it, until another one has adopted its conversions."""


class Watch:
    """Lets time pass for a living holder, which renews, and for a watcher, which adopts."""

    def __init__(self, harness: RedisHarness, watcher: JobStore) -> None:
        self.harness = harness
        self.watcher = watcher
        self.adopted: list[ConversionId] = []
        self._renewed_at = harness.monotonic()

    async def turn(self, holder: JobStore, kept: Conversion) -> None:
        """Let a second pass."""
        self.harness.clock.advance(POLL_SECONDS)
        if self.harness.monotonic() - self._renewed_at >= RENEWAL_SECONDS:
            assert await holder.renew([Renewal(lease=kept.lease)]) == frozenset(), "a living holder lost its lease"
            self._renewed_at = self.harness.monotonic()
        taken = await self.watcher.adopt(100)
        self.adopted += [conversion.conversion_id for conversion in taken]
        if taken:
            # Keep them, as a queue does.
            await self.watcher.claim(taken[0].lease)


async def test_a_clock_set_forward_three_times_takes_nothing_from_a_living_holder(redis_harness: RedisHarness) -> None:
    a, b, ids = await redis_harness.open("a"), await redis_harness.open("b"), Ids()
    submission = ids.submission()
    kept = await running(a, submission)
    watch = Watch(redis_harness, b)
    await watch.turn(a, kept)
    for _ in range(3):
        redis_harness.set_clock(HOUR_SECONDS)
        for _ in range(3):
            await watch.turn(a, kept)
    for _ in range(90):
        await watch.turn(a, kept)
    ticket = await ticket_of(b, submission.job_id)
    assert (ticket.conversion.state, ticket.conversion.crashes, watch.adopted) == (State.RUNNING, 0, [])


async def test_a_clock_set_back_leaves_the_work_of_a_dead_instance_to_others_soon(redis_harness: RedisHarness) -> None:
    a, b, ids = await redis_harness.open("a"), await redis_harness.open("b"), Ids()
    orphan = await running(a, ids.submission(1))
    retried = await running(a, ids.submission(2))
    await a.retry(retried.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=60.0)
    kept = await running(a, ids.submission(3))
    watch = Watch(redis_harness, b)
    await watch.turn(a, kept)
    redis_harness.set_clock(-HOUR_SECONDS)
    for _ in range(int(60.0 + BOUND_SECONDS)):
        await watch.turn(a, kept)
        if orphan.conversion_id in watch.adopted:
            break
    assert redis_harness.monotonic() - 1_700_000_000 <= BOUND_SECONDS
    for _ in range(int(60.0 + BOUND_SECONDS)):
        await watch.turn(a, kept)
    assert retried.conversion_id in watch.adopted
    assert kept.conversion_id not in watch.adopted


async def test_an_instance_that_starts_after_the_clock_was_set_back_adopts_too(harness: Harness) -> None:
    """Both stores. SQLite has only one instance, so at its start all earlier holders are dead."""
    a, ids = await harness.open("a"), Ids()
    orphan = await running(a, ids.submission(1))
    retried = await running(a, ids.submission(2))
    await a.retry(retried.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=60.0)
    waiting = await created(a, ids.submission(3))
    await a.close()
    harness.set_clock(-HOUR_SECONDS)
    b = await harness.open("b")
    adopted: set[ConversionId] = set()
    for _ in range(int(LONGEST_DELAY_SECONDS + BOUND_SECONDS)):
        adopted |= {conversion.conversion_id for conversion in await b.adopt(100)}
        harness.clock.advance(POLL_SECONDS)
    assert adopted == {orphan.conversion_id, retried.conversion_id, waiting.conversion_id}


async def test_another_instance_with_a_longer_lease_is_left_alone(redis_harness: RedisHarness) -> None:
    long_lease = 20 * POLICY.lease_seconds
    a = await redis_harness.open("a", type(POLICY)(lease_seconds=long_lease, retention_seconds=3600.0, crash_limit=3))
    b = await redis_harness.open("b")
    kept = await running(a, Ids().submission())
    for _ in range(int(long_lease - 1)):
        redis_harness.clock.advance(POLL_SECONDS)
        assert await b.adopt(10) == []
    assert await a.renew([Renewal(lease=kept.lease)]) == frozenset()


async def test_a_clock_set_forward_expires_no_track_early(redis_harness: RedisHarness) -> None:
    a, b, ids = await redis_harness.open("a"), await redis_harness.open("b"), Ids()
    finished = await done(a, ids.submission(1))
    assert finished.expires_at is not None
    for store in (a, b):
        # The clock before the jump: each instance polls it every second.
        assert await store.adopt(10) == []
    for _ in range(3):
        redis_harness.set_clock(HOUR_SECONDS)
        for store in (a, b):
            assert await store.expire(10) == []
            assert await store.retention_time() < finished.expires_at
    redis_harness.clock.advance(POLICY.retention_seconds - 1)
    assert await b.expire(10) == []
    redis_harness.clock.advance(2)
    assert await b.retention_time() > finished.expires_at
    assert await b.expire(10) != []


async def test_an_instance_with_a_short_retention_remembers_a_step_for_the_tracks_of_others(
    redis_harness: RedisHarness,
) -> None:
    a, b = await redis_harness.open("a", POLICIES["a"]), await redis_harness.open("b", POLICIES["b"])
    assert POLICIES["a"].retention_seconds > 2 * POLICIES["b"].retention_seconds
    await done(a, Ids().submission())
    assert await b.expire(10) == []
    redis_harness.set_clock(HOUR_SECONDS)
    assert await b.expire(10) == []
    redis_harness.clock.advance(POLICIES["a"].retention_seconds - 1)
    assert await b.expire(10) == []
    redis_harness.clock.advance(2)
    assert len(await b.expire(10)) == 1


@pytest.mark.fuzz
@pytest.mark.soak
@pytest.mark.attack
async def test_any_steps_of_the_clock_cost_no_healthy_conversion_and_leave_no_orphan(
    redis_harness: RedisHarness,
) -> None:
    nothing = redis_harness.snapshot()
    for seed in range(ROUNDS):
        nothing()
        chance = random.Random(seed)
        a, b, ids = await redis_harness.open("a"), await redis_harness.open("b"), Ids()
        submissions = [ids.submission(video) for video in range(3)]
        kept, orphan, waiting = [await running(a, submission) for submission in submissions]
        finished = ids.submission(9)
        await done(a, finished)
        await a.retry(waiting.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=chance.uniform(0.0, 60.0))
        watch = Watch(redis_harness, b)
        await watch.turn(a, kept)
        # Renewed once more, so that the instance dies at any moment of the lease.
        await a.renew([Renewal(lease=orphan.lease)])
        for _ in range(chance.randrange(1, 6)):
            redis_harness.set_clock(chance.choice([1, -1]) * chance.choice([10.0, 600.0, HOUR_SECONDS, 86_400.0]))
            for _ in range(chance.randrange(1, 25)):
                await watch.turn(a, kept)
        for _ in range(int(60.0 + BOUND_SECONDS)):
            await watch.turn(a, kept)
        conversion = (await ticket_of(b, submissions[0].job_id)).conversion
        assert (conversion.holder, conversion.crashes) == ("a", 0), f"round {seed}"
        assert {orphan.conversion_id, waiting.conversion_id} <= set(watch.adopted), f"round {seed}"
        # Less than the retention has passed, whatever the clock says.
        assert await b.expire(100) == [], f"round {seed}"
        expires_at = (await ticket_of(b, finished.job_id)).conversion.expires_at
        assert expires_at is not None
        assert await b.retention_time() < expires_at, f"round {seed}"
        await a.close()
        await b.close()
