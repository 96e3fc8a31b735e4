"""Retention is a part of the record: each job is kept for the retention of the instance that accepted it.

The instances have different JOB_EXPIRATION_HOURS. A store on a file has one instance after the other.
"""

from msgspec.structs import replace

from tests.contract.harness import (
    METADATA,
    POLICY,
    Harness,
    Ids,
    RedisHarness,
    adopt_expired,
    done,
    running,
    submitted,
    ticket_of,
    track_of,
)
from ytmp3.core.errors import FailureCode
from ytmp3.jobstore import Outcome

BRIEF = replace(POLICY, retention_seconds=36.0)
LONG = replace(POLICY, retention_seconds=10 * POLICY.retention_seconds)


async def test_an_instance_with_a_shorter_retention_does_not_shorten_that_of_another(
    harness: Harness, ids: Ids
) -> None:
    await running(await harness.open("a"), ids.submission(1))
    failing, cancelled = ids.submission(2), ids.submission(3)
    await running(await harness.open("a"), failing)
    await submitted(await harness.open("a"), cancelled)
    other = await harness.open("b", BRIEF)
    promised = harness.clock.now + POLICY.lease_seconds + 1 + POLICY.retention_seconds
    await adopt_expired(harness, other)
    for submission in (ids.submission(1), failing):
        joined = (await submitted(other, submission)).ticket.conversion
        claimed = await other.claim(joined.lease)
        if submission is failing:
            await other.fail(claimed.lease, FailureCode.PRIVATE)
        else:
            assert (await other.finish(claimed.lease, track_of(claimed.lease), METADATA)).expires_at == promised
    assert (await ticket_of(other, failing.job_id)).conversion.expires_at == promised
    ticket = await other.cancel(cancelled.job_id)
    assert ticket is not None
    assert ticket.conversion.expires_at == promised
    harness.clock.advance(POLICY.retention_seconds - 1)
    assert await other.expire(10) == []
    assert (await submitted(other, ids.submission(1))).outcome is Outcome.CACHED
    harness.clock.advance(1)
    assert len(await other.expire(10)) == 2


async def test_a_job_that_joins_a_track_never_shortens_its_time(harness: Harness, ids: Ids) -> None:
    await done(await harness.open("a"), ids.submission())
    ended_at = harness.clock.now
    harness.clock.advance(10)
    brief = await submitted(await harness.open("b", BRIEF), ids.submission())
    assert brief.ticket.conversion.expires_at == ended_at + POLICY.retention_seconds
    long = await submitted(await harness.open("c", LONG), ids.submission())
    assert long.ticket.conversion.expires_at == harness.clock.now + LONG.retention_seconds


async def test_redis_keeps_a_record_longer_than_its_longest_retention(redis_harness: RedisHarness, ids: Ids) -> None:
    brief = await redis_harness.open("b", BRIEF)
    first = ids.submission()
    conversion = await done(brief, first)
    long = await redis_harness.open("c", LONG)
    second = ids.submission()
    await submitted(long, second)
    some_ids = [conversion.conversion_id, conversion.key, first.job_id, second.job_id]
    for some_id in some_ids:
        assert redis_harness.seconds_left(some_id) > 2 * LONG.retention_seconds, some_id
