"""Submitting: a first job creates a conversion, later ones join it. Every test runs on both adapters."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.contract.harness import (
    METADATA,
    POLICY,
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
from ytmp3.core import states
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import State, Status
from ytmp3.core.tag_edits import TagEdits
from ytmp3.jobstore import JobStore, Outcome


async def test_times_in_records_are_by_the_clock_that_now_returns(harness: Harness, store: JobStore, ids: Ids) -> None:
    assert await store.now() == harness.clock.now
    harness.clock.advance(7.5)
    conversion = await created(store, ids.submission())
    assert await store.now() == conversion.created_at == harness.clock.now


async def test_a_first_submission_creates_a_queued_conversion_held_by_the_instance(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    submission = ids.submission()
    result = await submitted(store, submission)
    conversion = result.ticket.conversion
    assert result.outcome is Outcome.CREATED
    assert result.ticket.status is Status.PENDING
    assert not result.ticket.job.deduplicated
    assert conversion.conversion_id == submission.conversion_id
    assert (conversion.key, conversion.video_id, conversion.recipe, conversion.client) == (
        submission.key,
        submission.video_id,
        submission.recipe,
        submission.client,
    )
    assert (conversion.state, conversion.holder, conversion.token) == (State.QUEUED, "a", 1)
    assert conversion.created_at == harness.clock.now
    assert conversion.due_at == harness.clock.now + POLICY.lease_seconds
    expected = states.created(
        conversion_id=submission.conversion_id,
        key=submission.key,
        video_id=submission.video_id,
        client=submission.client,
        holder=InstanceId("a"),
        now=harness.clock.now,
        until=harness.clock.now + POLICY.lease_seconds,
    )
    assert conversion == states.promised(expected, POLICY.retention_seconds)
    assert await store.get(submission.job_id) == result.ticket


async def test_a_second_submission_of_the_same_key_joins(harness: Harness, store: JobStore, ids: Ids) -> None:
    first = await created(store, ids.submission())
    result = await submitted(store, ids.submission(client="key:other"))
    assert result.outcome is Outcome.JOINED
    assert result.ticket.job.deduplicated
    assert result.ticket.job.client == "key:other"
    assert first.joined_at is None
    assert result.ticket.conversion == replace(first, joined_at=harness.clock.now)
    await store.claim(first.lease)
    harness.clock.advance(5.0)
    again = await submitted(store, ids.submission())
    assert again.outcome is Outcome.JOINED
    assert again.ticket.conversion.joined_at == harness.clock.now
    assert again.ticket.status is Status.PROCESSING


async def test_a_job_that_joins_a_done_conversion_keeps_it_for_a_full_retention(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    finished = await done(store, ids.submission())
    harness.clock.advance(POLICY.retention_seconds - 1)
    result = await submitted(store, ids.submission())
    assert result.outcome is Outcome.CACHED
    assert result.ticket.status is Status.COMPLETED
    assert result.ticket.conversion.track == finished.track
    assert result.ticket.conversion.expires_at == harness.clock.now + POLICY.retention_seconds


async def test_a_done_conversion_takes_no_jobs_after_its_retention(harness: Harness, store: JobStore, ids: Ids) -> None:
    old = await done(store, ids.submission())
    harness.clock.advance(POLICY.retention_seconds - 1)
    joined = ids.submission()
    await submitted(store, joined)
    harness.clock.advance(1)
    assert await store.submit(ids.submission(), may_create=False) is None
    new = await created(store, ids.submission())
    assert new.conversion_id != old.conversion_id
    assert (await ticket_of(store, joined.job_id)).conversion.conversion_id == old.conversion_id
    assert await store.expire(10) == []
    harness.clock.advance(POLICY.retention_seconds)
    assert old.track is not None
    assert await store.expire(10) == [old.track.file_name]
    assert (await submitted(store, ids.submission())).ticket.conversion.conversion_id == new.conversion_id


@pytest.mark.parametrize("end", ["fail", "cancel", "forget", "poison"])
async def test_a_conversion_that_failed_or_was_cancelled_or_forgotten_takes_no_jobs(
    harness: Harness, store: JobStore, ids: Ids, end: str
) -> None:
    submission = ids.submission()
    old = await running(store, submission)
    match end:
        case "fail":
            await store.fail(old.lease, FailureCode.PRIVATE)
        case "cancel":
            await store.cancel(submission.job_id)
        case "forget":
            await store.finish(old.lease, track_of(old.lease), METADATA)
            await store.forget(old.conversion_id)
        case _:
            for _ in range(POLICY.crash_limit - 1):
                (orphaned,) = await adopt_expired(harness, store)
                await store.claim(orphaned.lease)
            harness.clock.advance(harness.elsewhere_seconds)
            assert await adopt_expired(harness, store) == []
    assert await store.submit(ids.submission(), may_create=False) is None
    assert (await created(store, ids.submission())).conversion_id != old.conversion_id


async def test_a_submission_that_may_not_create_leaves_no_trace(store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    assert await store.submit(submission, may_create=False) is None
    assert await store.get(submission.job_id) is None
    assert await store.counts() == counts()
    assert await store.adopt(10) == []


async def test_a_job_that_joins_a_conversion_needs_no_permission_to_create_one(store: JobStore, ids: Ids) -> None:
    await created(store, ids.submission())
    joined = await store.submit(ids.submission(), may_create=False)
    assert joined is not None
    assert joined.outcome is Outcome.JOINED


@pytest.mark.parametrize("first", [Outcome.CREATED, Outcome.JOINED, Outcome.CACHED])
async def test_submitting_the_same_job_again_changes_nothing(store: JobStore, ids: Ids, first: Outcome) -> None:
    if first is Outcome.JOINED:
        await created(store, ids.submission())
    if first is Outcome.CACHED:
        await done(store, ids.submission())
    submission = ids.submission()
    result = await submitted(store, submission)
    before = await store.counts()
    assert result.outcome is first
    assert await store.submit(submission, may_create=False) == result
    assert await store.counts() == before


async def test_fifty_submissions_at_once_make_one_conversion(store: JobStore, ids: Ids) -> None:
    results = await asyncio.gather(*(submitted(store, ids.submission()) for _ in range(50)))
    assert len({result.ticket.conversion.conversion_id for result in results}) == 1
    assert [result.outcome for result in results].count(Outcome.CREATED) == 1
    assert await store.counts() == counts(pending=50)


async def test_an_unknown_job_is_none(store: JobStore, ids: Ids) -> None:
    assert await store.get(ids.submission().job_id) is None


async def test_a_job_that_may_not_join_leaves_no_trace_on_a_live_conversion(store: JobStore, ids: Ids) -> None:
    first = await created(store, ids.submission())
    submission = ids.submission()
    assert await store.submit(submission, may_create=True, may_join=False) is None
    assert await store.get(submission.job_id) is None
    assert await store.counts() == counts(pending=1)
    await store.claim(first.lease)
    assert await store.submit(submission, may_create=False, may_join=False) is None


async def test_a_job_that_may_not_join_may_share_a_finished_track(store: JobStore, ids: Ids) -> None:
    await done(store, ids.submission())
    result = await store.submit(ids.submission(), may_create=False, may_join=False)
    assert result is not None
    assert result.outcome is Outcome.CACHED


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.DONE])
async def test_a_conversion_with_the_most_jobs_takes_no_more_and_the_next_job_creates_another(
    harness: Harness, ids: Ids, state: State
) -> None:
    store = await harness.open(policy=replace(POLICY, jobs_of_conversion=3))
    submissions = [ids.submission() for _ in range(3)]
    first = await created(store, submissions[0])
    if state is not State.QUEUED:
        first = await store.claim(first.lease)
    if state is State.DONE:
        first = await store.finish(first.lease, track_of(first.lease), METADATA)
    for submission in submissions[1:]:
        assert (await submitted(store, submission)).ticket.conversion.conversion_id == first.conversion_id
    # A cancelled job is still kept, so it counts, too.
    await store.cancel(submissions[2].job_id)
    assert await store.submit(ids.submission(), may_create=False) is None
    second = await created(store, ids.submission())
    assert second.conversion_id != first.conversion_id
    assert (await submitted(store, ids.submission())).ticket.conversion.conversion_id == second.conversion_id
    # The first one goes on, and its end changes nothing for the second.
    if state is State.QUEUED:
        first = await store.claim(first.lease)
    if state is not State.DONE:
        await store.finish(first.lease, track_of(first.lease), METADATA)
    assert (await ticket_of(store, submissions[1].job_id)).status is Status.COMPLETED
    assert (await submitted(store, ids.submission())).ticket.conversion.conversion_id == second.conversion_id


async def test_a_job_keeps_the_tags_that_its_client_has_chosen(store: JobStore, ids: Ids) -> None:
    for edits in (None, TagEdits(title="Tür '\\"), TagEdits(artist="a", album="b", cover=False)):
        submission = replace(ids.submission(), edits=edits)
        await submitted(store, submission)
        assert (await ticket_of(store, submission.job_id)).job.edits == edits
        assert (await store.get_many([submission.job_id])).tickets[submission.job_id].job.edits == edits
