"""Ends of an attempt: finished, failed, retried, cancelled, and every write of a holder that has lost its lease.

Every test runs on both adapters.
"""

import pytest

from tests.contract.harness import (
    METADATA,
    POLICY,
    UNKNOWN_LEASE,
    Harness,
    Ids,
    adopt_expired,
    counts,
    created,
    done,
    running,
    submitted,
    ticket_of,
    track_of,
)
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.job import Stage, State, Status
from ytmp3.jobstore import JobStore, Outcome, Renewal


async def test_finishing_a_conversion_completes_all_of_its_jobs(harness: Harness, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission() for _ in range(3)]
    conversion = await running(store, submissions[0])
    for submission in submissions[1:]:
        await submitted(store, submission)
    track = track_of(conversion.lease)
    finished = await store.finish(conversion.lease, track, METADATA)
    assert (finished.state, finished.stage, finished.progress) == (State.DONE, Stage.DONE, 1.0)
    assert (finished.track, finished.metadata, finished.error, finished.holder) == (track, METADATA, None, None)
    assert finished.completed_at == harness.clock.now
    assert finished.expires_at == harness.clock.now + POLICY.retention_seconds
    for submission in submissions:
        ticket = await ticket_of(store, submission.job_id)
        assert ticket.status is Status.COMPLETED
        assert ticket.conversion == finished
    assert await store.counts() == counts(completed=3)


async def test_finishing_again_with_the_same_track_is_harmless_and_with_another_is_refused(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    conversion = await running(store, ids.submission())
    finished = await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    harness.clock.advance(3)
    assert await store.finish(conversion.lease, track_of(conversion.lease), METADATA) == finished
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(UNKNOWN_LEASE), METADATA)


async def test_a_failure_reaches_every_job_and_may_be_repeated(harness: Harness, store: JobStore, ids: Ids) -> None:
    first, second = ids.submission(), ids.submission()
    conversion = await running(store, first)
    await submitted(store, second)
    await store.fail(conversion.lease, FailureCode.REMOVED)
    await store.fail(conversion.lease, FailureCode.REMOVED)
    for submission in (first, second):
        ticket = await ticket_of(store, submission.job_id)
        assert ticket.status is Status.FAILED
        assert (ticket.conversion.error, ticket.conversion.attempts) == (FailureCode.REMOVED, 1)
        assert ticket.conversion.expires_at == harness.clock.now + POLICY.retention_seconds
    assert await store.counts() == counts(failed=2)
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(conversion.lease), METADATA)


async def test_a_retried_conversion_waits_without_a_holder_and_costs_an_attempt(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    await store.renew([Renewal(lease=conversion.lease, stage=Stage.DOWNLOADING, progress=0.5, metadata=METADATA)])
    for _ in range(2):
        await store.retry(conversion.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=8.5)
    waiting = (await ticket_of(store, submission.job_id)).conversion
    assert (waiting.state, waiting.holder, waiting.attempts, waiting.error, waiting.crashes) == (
        State.QUEUED,
        None,
        1,
        FailureCode.UPSTREAM_ERROR,
        0,
    )
    assert (waiting.stage, waiting.progress, waiting.metadata) == (Stage.QUEUED, 0.0, METADATA)
    harness.clock.advance(8)
    assert await store.adopt(10) == []
    harness.clock.advance(0.5 + harness.head_start_seconds)
    (adopted,) = await store.adopt(10)
    assert (adopted.holder, adopted.crashes, adopted.attempts) == ("a", 0, 1)
    second = await store.claim(adopted.lease)
    assert second.started_at == conversion.started_at
    finished = await store.finish(second.lease, track_of(second.lease), METADATA)
    assert finished.error is None


async def test_a_retry_that_costs_no_attempt_leaves_their_number_and_records_the_error(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    for _ in range(2):
        await store.retry(conversion.lease, FailureCode.UPSTREAM_UNREACHABLE, delay_seconds=8.5, costs_attempt=False)
    waiting = (await ticket_of(store, submission.job_id)).conversion
    assert (waiting.state, waiting.holder, waiting.attempts, waiting.error) == (
        State.QUEUED,
        None,
        0,
        FailureCode.UPSTREAM_UNREACHABLE,
    )
    assert await store.adopt(10) == []
    harness.clock.advance(8.5 + harness.head_start_seconds)
    assert [adopted.attempts for adopted in await store.adopt(10)] == [0]


async def test_every_write_of_a_stale_holder_is_refused(harness: Harness, store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    stale = (await running(store, submission)).lease
    (adopted,) = await adopt_expired(harness, store)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await store.finish(stale, track_of(stale), METADATA)
        with pytest.raises(LeaseLost):
            await store.fail(stale, FailureCode.PRIVATE)
        with pytest.raises(LeaseLost):
            await store.retry(stale, FailureCode.UPSTREAM_ERROR, delay_seconds=0)
        assert await store.renew([Renewal(lease=stale, progress=0.9)]) == {stale.conversion_id}
        await store.release([stale])
        ticket = await ticket_of(store, submission.job_id)
        assert ticket.conversion.token >= adopted.token
        assert ticket.conversion.progress == 0.0
        if ticket.conversion.state is State.QUEUED:
            await store.claim(adopted.lease)


async def test_a_queued_conversion_can_not_be_finished(store: JobStore, ids: Ids) -> None:
    lease = (await created(store, ids.submission())).lease
    with pytest.raises(LeaseLost):
        await store.finish(lease, track_of(lease), METADATA)
    with pytest.raises(LeaseLost):
        await store.fail(lease, FailureCode.PRIVATE)
    with pytest.raises(LeaseLost):
        await store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=0)


async def test_cancelling_the_only_job_cancels_the_conversion(harness: Harness, store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    ticket = await store.cancel(submission.job_id)
    assert ticket is not None
    assert ticket.status is Status.CANCELLED
    assert ticket.conversion.state is State.CANCELLED
    assert ticket.conversion.token > conversion.token
    assert ticket.conversion.expires_at == harness.clock.now + POLICY.retention_seconds
    assert await store.renew([Renewal(lease=conversion.lease)]) == {conversion.conversion_id}
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    assert await adopt_expired(harness, store) == []
    assert await store.counts() == counts(cancelled=1)


async def test_cancelling_one_of_two_jobs_leaves_the_other_alone(store: JobStore, ids: Ids) -> None:
    first, second = ids.submission(), ids.submission(client="key:other")
    conversion = await running(store, first)
    await submitted(store, second)
    assert (await store.cancel(first.job_id)) is not None
    assert (await ticket_of(store, first.job_id)).status is Status.CANCELLED
    assert (await ticket_of(store, second.job_id)).status is Status.PROCESSING
    assert await store.counts() == counts(processing=1, cancelled=1)
    await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    assert await store.counts() == counts(completed=1, cancelled=1)
    assert (await ticket_of(store, first.job_id)).status is Status.CANCELLED


async def test_cancelling_again_changes_nothing(harness: Harness, store: JobStore, ids: Ids) -> None:
    first, second = ids.submission(), ids.submission()
    await created(store, first)
    await submitted(store, second)
    once = await store.cancel(first.job_id)
    harness.clock.advance(1)
    assert await store.cancel(first.job_id) == once
    assert (await ticket_of(store, second.job_id)).conversion.state is State.QUEUED
    assert await store.cancel(ids.submission().job_id) is None


async def test_cancelling_a_job_of_a_done_conversion_leaves_the_track_to_others(store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    await done(store, submission)
    await submitted(store, ids.submission())
    ticket = await store.cancel(submission.job_id)
    assert ticket is not None
    assert (ticket.status, ticket.conversion.state) == (Status.CANCELLED, State.DONE)
    assert (await submitted(store, ids.submission())).outcome is Outcome.CACHED
    assert await store.counts() == counts(completed=2, cancelled=1)
    assert await store.expire(10) == []


async def test_a_done_conversion_expires_when_its_last_job_is_cancelled(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    first, second = ids.submission(), ids.submission()
    finished = await done(store, first)
    await submitted(store, second)
    harness.clock.advance(1.0)
    for submission in (first, second):
        ticket = await store.cancel(submission.job_id)
    assert ticket is not None
    assert (ticket.status, ticket.conversion.expires_at) == (Status.CANCELLED, harness.clock.now)
    assert await store.cancel(second.job_id) == ticket
    new = await created(store, ids.submission())
    assert new.conversion_id != finished.conversion_id
    assert finished.track is not None
    assert await store.expire(10) == [finished.track.file_name]
    assert await store.get(first.job_id) is None
    assert await store.counts() == counts(pending=1)


async def test_a_conversion_continues_for_the_last_job_that_is_not_cancelled(store: JobStore, ids: Ids) -> None:
    first = ids.submission()
    conversion = await created(store, first)
    second = ids.submission()
    await submitted(store, second)
    await store.cancel(first.job_id)
    third = await submitted(store, ids.submission())
    assert third.ticket.conversion.conversion_id == conversion.conversion_id
    await store.cancel(second.job_id)
    assert (await ticket_of(store, third.ticket.job.job_id)).conversion.state is State.QUEUED
