"""What every JobStore promises, held against both adapters."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.contract.stands import METADATA, POLICY, Ids, Stand, created, done, running, submitted, track_of
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import ConversionId, JobId
from ytmp3.core.job import Conversion, Lease, Metadata, Stage, State, Status, Ticket
from ytmp3.jobstore import Counts, JobStore, Outcome, Renewal


def counts(*, pending: int = 0, processing: int = 0, completed: int = 0, failed: int = 0, cancelled: int = 0) -> Counts:
    return Counts(pending=pending, processing=processing, completed=completed, failed=failed, cancelled=cancelled)


async def ticket_of(store: JobStore, job_id: JobId) -> Ticket:
    ticket = await store.get(job_id)
    assert ticket is not None
    return ticket


async def orphan(stand: Stand, store: JobStore) -> list[Conversion]:
    """Let every lease run out, and adopt."""
    stand.clock.advance(POLICY.lease_seconds + 1)
    return await store.adopt(100)


# now


async def test_times_in_records_are_by_the_clock_that_now_returns(stand: Stand, store: JobStore, ids: Ids) -> None:
    assert await store.now() == stand.clock.now
    stand.clock.advance(7.5)
    conversion = await created(store, ids.submission())
    assert await store.now() == conversion.created_at == stand.clock.now


# submit


async def test_a_first_submission_creates_a_queued_conversion_held_by_the_instance(
    stand: Stand, store: JobStore, ids: Ids
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
    assert conversion.created_at == stand.clock.now
    assert conversion.due_at == stand.clock.now + POLICY.lease_seconds
    assert await store.get(submission.job_id) == result.ticket


async def test_a_second_submission_of_the_same_key_joins(stand: Stand, store: JobStore, ids: Ids) -> None:
    first = await created(store, ids.submission())
    result = await submitted(store, ids.submission(client="key:other"))
    assert result.outcome is Outcome.JOINED
    assert result.ticket.job.deduplicated
    assert result.ticket.job.client == "key:other"
    assert first.joined_at is None
    assert result.ticket.conversion == replace(first, joined_at=stand.clock.now)
    await store.claim(first.lease)
    stand.clock.advance(5.0)
    again = await submitted(store, ids.submission())
    assert again.outcome is Outcome.JOINED
    assert again.ticket.conversion.joined_at == stand.clock.now
    assert again.ticket.status is Status.PROCESSING


async def test_a_done_conversion_serves_and_lives_on_for_a_full_retention(
    stand: Stand, store: JobStore, ids: Ids
) -> None:
    finished = await done(store, ids.submission())
    stand.clock.advance(POLICY.retention_seconds - 1)
    result = await submitted(store, ids.submission())
    assert result.outcome is Outcome.CACHED
    assert result.ticket.status is Status.COMPLETED
    assert result.ticket.conversion.track == finished.track
    assert result.ticket.conversion.expires_at == stand.clock.now + POLICY.retention_seconds


async def test_a_done_conversion_serves_no_longer_than_the_retention(stand: Stand, store: JobStore, ids: Ids) -> None:
    old = await done(store, ids.submission())
    stand.clock.advance(POLICY.retention_seconds - 1)
    rider = ids.submission()
    await submitted(store, rider)
    stand.clock.advance(1)
    assert await store.submit(ids.submission(), may_create=False) is None
    new = await created(store, ids.submission())
    assert new.conversion_id != old.conversion_id
    assert (await ticket_of(store, rider.job_id)).conversion.conversion_id == old.conversion_id
    assert await store.expire(10) == []
    stand.clock.advance(POLICY.retention_seconds)
    assert old.track is not None
    assert await store.expire(10) == [old.track.file_name]
    assert (await submitted(store, ids.submission())).ticket.conversion.conversion_id == new.conversion_id


@pytest.mark.parametrize("end", ["fail", "cancel", "forget", "poison"])
async def test_what_ended_otherwise_never_serves(stand: Stand, store: JobStore, ids: Ids, end: str) -> None:
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
                (orphaned,) = await orphan(stand, store)
                await store.claim(orphaned.lease)
            assert await orphan(stand, store) == []
    assert await store.submit(ids.submission(), may_create=False) is None
    assert (await created(store, ids.submission())).conversion_id != old.conversion_id


async def test_a_refused_submission_leaves_no_trace(store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    assert await store.submit(submission, may_create=False) is None
    assert await store.get(submission.job_id) is None
    assert await store.counts() == counts()
    assert await store.adopt(10) == []


async def test_a_full_queue_refuses_no_job_that_attaches(store: JobStore, ids: Ids) -> None:
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


async def test_fifty_at_once_make_one_conversion(store: JobStore, ids: Ids) -> None:
    results = await asyncio.gather(*(submitted(store, ids.submission()) for _ in range(50)))
    assert len({result.ticket.conversion.conversion_id for result in results}) == 1
    assert [result.outcome for result in results].count(Outcome.CREATED) == 1
    assert await store.counts() == counts(pending=50)


async def test_an_unknown_job_is_none(store: JobStore, ids: Ids) -> None:
    assert await store.get(ids.submission().job_id) is None


# claim, renew


async def test_a_claim_starts_the_conversion_under_a_new_token(stand: Stand, store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission())
    stand.clock.advance(5)
    claimed = await store.claim(queued.lease)
    assert (claimed.state, claimed.stage, claimed.token, claimed.holder) == (
        State.RUNNING,
        Stage.EXTRACTING,
        queued.token + 1,
        "a",
    )
    assert claimed.started_at == stand.clock.now
    assert claimed.due_at == stand.clock.now + POLICY.lease_seconds


async def test_a_claim_repeated_after_a_lost_reply_gets_the_same_conversion(store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission())
    assert await store.claim(queued.lease) == await store.claim(queued.lease)


async def test_a_stale_claim_is_refused(stand: Stand, store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission())
    (adopted,) = await orphan(stand, store)
    with pytest.raises(LeaseLost):
        await store.claim(queued.lease)
    await store.claim(adopted.lease)
    with pytest.raises(LeaseLost):
        await store.claim(queued.lease)
    with pytest.raises(LeaseLost):
        await store.claim(Lease(conversion_id=ids.submission().conversion_id, token=1))


async def test_a_renewal_extends_the_lease_and_records_the_news(stand: Stand, store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    stand.clock.advance(10)
    news = Renewal(
        lease=conversion.lease, stage=Stage.CONVERTING, progress=0.625, queue_position=None, metadata=METADATA
    )
    assert await store.renew([news]) == frozenset()
    recorded = (await ticket_of(store, submission.job_id)).conversion
    assert (recorded.stage, recorded.progress, recorded.metadata) == (Stage.CONVERTING, 0.625, METADATA)
    assert recorded.due_at == stand.clock.now + POLICY.lease_seconds
    stand.clock.advance(POLICY.lease_seconds - 1)
    assert await store.adopt(10) == []
    assert await store.renew([Renewal(lease=conversion.lease)]) == frozenset()
    silent = (await ticket_of(store, submission.job_id)).conversion
    assert (silent.stage, silent.progress, silent.metadata) == (Stage.CONVERTING, 0.625, METADATA)


async def test_a_batch_of_renewals_names_exactly_those_that_are_lost(stand: Stand, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(video) for video in range(40)]
    conversions = [await created(store, submission) for submission in submissions]
    for submission in submissions[:5]:
        await store.cancel(submission.job_id)
    ended = await store.claim(conversions[5].lease)
    await store.fail(ended.lease, FailureCode.DRM)
    unknown = Lease(conversion_id=ids.submission(99).conversion_id, token=1)
    renewals = [
        *(Renewal(lease=conversion.lease, queue_position=place) for place, conversion in enumerate(conversions[:5])),
        Renewal(lease=ended.lease),
        Renewal(lease=unknown),
        *(Renewal(lease=conversion.lease, queue_position=place) for place, conversion in enumerate(conversions[6:])),
    ]
    lost = {conversion.conversion_id for conversion in conversions[:6]} | {unknown.conversion_id}
    assert await store.renew(renewals) == lost
    assert (await ticket_of(store, submissions[7].job_id)).conversion.queue_position == 1
    assert await store.renew([]) == frozenset()


# the ends


async def test_finishing_makes_every_job_on_it_complete(stand: Stand, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission() for _ in range(3)]
    conversion = await running(store, submissions[0])
    for submission in submissions[1:]:
        await submitted(store, submission)
    track = track_of(conversion.lease)
    finished = await store.finish(conversion.lease, track, METADATA)
    assert (finished.state, finished.stage, finished.progress) == (State.DONE, Stage.DONE, 1.0)
    assert (finished.track, finished.metadata, finished.error, finished.holder) == (track, METADATA, None, None)
    assert finished.completed_at == stand.clock.now
    assert finished.expires_at == stand.clock.now + POLICY.retention_seconds
    for submission in submissions:
        ticket = await ticket_of(store, submission.job_id)
        assert ticket.status is Status.COMPLETED
        assert ticket.conversion == finished
    assert await store.counts() == counts(completed=3)


async def test_finishing_again_with_the_same_track_is_harmless_and_with_another_is_refused(
    stand: Stand, store: JobStore, ids: Ids
) -> None:
    conversion = await running(store, ids.submission())
    finished = await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    stand.clock.advance(3)
    assert await store.finish(conversion.lease, track_of(conversion.lease), METADATA) == finished
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(Lease(conversion_id=ConversionId("0" * 34), token=9)), METADATA)


async def test_a_failure_reaches_every_job_and_may_be_repeated(stand: Stand, store: JobStore, ids: Ids) -> None:
    first, second = ids.submission(), ids.submission()
    conversion = await running(store, first)
    await submitted(store, second)
    await store.fail(conversion.lease, FailureCode.REMOVED)
    await store.fail(conversion.lease, FailureCode.REMOVED)
    for submission in (first, second):
        ticket = await ticket_of(store, submission.job_id)
        assert ticket.status is Status.FAILED
        assert (ticket.conversion.error, ticket.conversion.attempts) == (FailureCode.REMOVED, 1)
        assert ticket.conversion.expires_at == stand.clock.now + POLICY.retention_seconds
    assert await store.counts() == counts(failed=2)
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(conversion.lease), METADATA)


async def test_a_retry_waits_in_nobodys_hands_and_costs_an_attempt(stand: Stand, store: JobStore, ids: Ids) -> None:
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
    stand.clock.advance(8)
    assert await store.adopt(10) == []
    stand.clock.advance(0.5)
    (adopted,) = await store.adopt(10)
    assert (adopted.holder, adopted.crashes, adopted.attempts) == ("a", 0, 1)
    second = await store.claim(adopted.lease)
    assert second.started_at == conversion.started_at
    finished = await store.finish(second.lease, track_of(second.lease), METADATA)
    assert finished.error is None


async def test_every_write_of_a_stale_holder_is_refused(stand: Stand, store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    stale = (await running(store, submission)).lease
    (adopted,) = await orphan(stand, store)
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


# release, adopt


async def test_what_is_released_can_be_adopted_at_once_and_costs_nothing(store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission(1))
    claimed = await running(store, ids.submission(2))
    await store.release([queued.lease, claimed.lease, Lease(conversion_id=ConversionId("0" * 34), token=1)])
    await store.release([queued.lease, claimed.lease])
    adopted = await store.adopt(10)
    assert {conversion.conversion_id for conversion in adopted} == {queued.conversion_id, claimed.conversion_id}
    assert all((conversion.crashes, conversion.attempts) == (0, 0) for conversion in adopted)
    assert await store.counts() == counts(pending=2)
    await store.release([])


async def test_adoption_takes_what_nobody_renews_and_nothing_else(stand: Stand, store: JobStore, ids: Ids) -> None:
    kept = await running(store, ids.submission(1))
    left = await running(store, ids.submission(2))
    stand.clock.advance(POLICY.lease_seconds - 1)
    await store.renew([Renewal(lease=kept.lease)])
    stand.clock.advance(2)
    (adopted,) = await store.adopt(10)
    assert adopted.conversion_id == left.conversion_id
    assert (adopted.state, adopted.holder, adopted.crashes) == (State.QUEUED, "a", 1)
    assert adopted.token > left.token
    assert adopted.due_at == stand.clock.now + POLICY.lease_seconds
    assert await store.adopt(10) == []


async def test_a_lost_wait_in_the_queue_is_no_crash(stand: Stand, store: JobStore, ids: Ids) -> None:
    await created(store, ids.submission())
    for _ in range(POLICY.crash_limit + 1):
        (adopted,) = await orphan(stand, store)
        assert adopted.crashes == 0


async def test_adoption_is_bounded_and_oldest_first(stand: Stand, store: JobStore, ids: Ids) -> None:
    conversions = []
    for video in range(30):
        conversions.append(await created(store, ids.submission(video)))
        stand.clock.advance(0.5)
    stand.clock.advance(POLICY.lease_seconds)
    order = [conversion.conversion_id for conversion in conversions]
    assert [conversion.conversion_id for conversion in await store.adopt(10)] == order[:10]
    assert [conversion.conversion_id for conversion in await store.adopt(100)] == order[10:]


async def test_a_conversion_that_runs_at_three_crashes_is_poison(stand: Stand, store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    for crashes in range(1, POLICY.crash_limit):
        (adopted,) = await orphan(stand, store)
        assert adopted.crashes == crashes
        conversion = await store.claim(adopted.lease)
    assert await orphan(stand, store) == []
    ticket = await ticket_of(store, submission.job_id)
    assert ticket.status is Status.FAILED
    assert (ticket.conversion.error, ticket.conversion.crashes, ticket.conversion.attempts) == (
        FailureCode.POISON,
        POLICY.crash_limit,
        0,
    )
    assert ticket.conversion.expires_at == stand.clock.now + POLICY.retention_seconds
    assert await store.renew([Renewal(lease=conversion.lease)]) == {conversion.conversion_id}
    assert await store.counts() == counts(failed=1)


# cancel


async def test_cancelling_the_only_job_stops_the_work(stand: Stand, store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    ticket = await store.cancel(submission.job_id)
    assert ticket is not None
    assert ticket.status is Status.CANCELLED
    assert ticket.conversion.state is State.CANCELLED
    assert ticket.conversion.token > conversion.token
    assert ticket.conversion.expires_at == stand.clock.now + POLICY.retention_seconds
    assert await store.renew([Renewal(lease=conversion.lease)]) == {conversion.conversion_id}
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    assert await orphan(stand, store) == []
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


async def test_cancelling_again_changes_nothing(stand: Stand, store: JobStore, ids: Ids) -> None:
    first, second = ids.submission(), ids.submission()
    await created(store, first)
    await submitted(store, second)
    once = await store.cancel(first.job_id)
    stand.clock.advance(1)
    assert await store.cancel(first.job_id) == once
    assert (await ticket_of(store, second.job_id)).conversion.state is State.QUEUED
    assert await store.cancel(ids.submission().job_id) is None


async def test_cancelling_a_job_of_a_done_conversion_leaves_the_track_to_others(store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    await done(store, submission)
    ticket = await store.cancel(submission.job_id)
    assert ticket is not None
    assert (ticket.status, ticket.conversion.state) == (Status.CANCELLED, State.DONE)
    assert (await submitted(store, ids.submission())).outcome is Outcome.CACHED
    assert await store.counts() == counts(completed=1, cancelled=1)


async def test_a_new_job_rides_on_after_all_others_cancelled_but_one(store: JobStore, ids: Ids) -> None:
    first = ids.submission()
    conversion = await created(store, first)
    second = ids.submission()
    await submitted(store, second)
    await store.cancel(first.job_id)
    third = await submitted(store, ids.submission())
    assert third.ticket.conversion.conversion_id == conversion.conversion_id
    await store.cancel(second.job_id)
    assert (await ticket_of(store, third.ticket.job.job_id)).conversion.state is State.QUEUED


# forget, expire, known files, counts


async def test_only_done_conversions_are_forgotten(store: JobStore, ids: Ids) -> None:
    conversion = await created(store, ids.submission())
    await store.forget(conversion.conversion_id)
    await store.forget(ids.submission().conversion_id)
    assert (await submitted(store, ids.submission())).outcome is Outcome.JOINED


async def test_forgetting_an_old_conversion_leaves_its_successor(store: JobStore, ids: Ids) -> None:
    old = await done(store, ids.submission())
    await store.forget(old.conversion_id)
    await created(store, ids.submission())
    await store.forget(old.conversion_id)
    assert (await submitted(store, ids.submission())).outcome is Outcome.JOINED


async def test_expiry_removes_record_jobs_and_key_together(stand: Stand, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(1), ids.submission(1), ids.submission(1)]
    finished = await done(store, submissions[0])
    await submitted(store, submissions[1])
    await submitted(store, submissions[2])
    await store.cancel(submissions[1].job_id)
    failing, cancelled, live = ids.submission(2), ids.submission(3), ids.submission(4)
    await store.fail((await running(store, failing)).lease, FailureCode.PRIVATE)
    await created(store, cancelled)
    await store.cancel(cancelled.job_id)
    assert await store.expire(100) == []
    stand.clock.advance(POLICY.retention_seconds)
    await created(store, live)
    assert finished.track is not None
    removed = await store.expire(100)
    assert sorted(removed, key=str) == sorted([None, None, finished.track.file_name], key=str)
    for submission in (*submissions, failing, cancelled):
        assert await store.get(submission.job_id) is None
    assert await store.counts() == counts(pending=1)
    assert (await submitted(store, ids.submission(1))).outcome is Outcome.CREATED
    assert await store.expire(100) == []


async def test_expiry_is_bounded(stand: Stand, store: JobStore, ids: Ids) -> None:
    for video in range(12):
        await done(store, ids.submission(video))
    stand.clock.advance(POLICY.retention_seconds)
    names: list[str | None] = []
    while len(names) < 12:
        batch = await store.expire(5)
        assert 1 <= len(batch) <= 5
        names += batch
    assert len(set(names)) == 12
    assert await store.counts() == counts()


async def test_jobs_of_one_conversion_may_expire_in_many_steps(stand: Stand, ids: Ids) -> None:
    store = await stand.open(policy=replace(POLICY, jobs_at_once=2))
    names = set()
    for video, jobs in ((1, 8), (2, 3), (3, 1)):
        submissions = [ids.submission(video) for _ in range(jobs)]
        conversion = await done(store, submissions[0])
        for submission in submissions[1:]:
            await submitted(store, submission)
            await store.get(submission.job_id)
        for submission in submissions[::3]:
            await store.cancel(submission.job_id)
        assert conversion.track is not None
        names.add(conversion.track.file_name)
    live = await created(store, ids.submission(4))
    stand.clock.advance(POLICY.retention_seconds)
    await store.renew([Renewal(lease=live.lease)])
    assert {name for _ in range(3) for name in await store.expire(1)} == names
    assert await store.expire(1) == []
    assert await store.counts() == counts(pending=1)
    assert stand.indexes().expires_at == {}


async def test_known_files_are_those_of_done_conversions(store: JobStore, ids: Ids) -> None:
    finished = await done(store, ids.submission(1))
    live = await running(store, ids.submission(2))
    assert finished.track is not None
    name = finished.track.file_name
    stranger = track_of(Lease(conversion_id=finished.conversion_id, token=77)).file_name
    asked = [name, stranger, track_of(live.lease).file_name, "notes.txt", "", "ü.mp3", "\udcff.mp3"]
    assert await store.known_files(asked) == {name}
    assert await store.known_files([]) == frozenset()


async def test_counts_follow_every_job(store: JobStore, ids: Ids) -> None:
    assert await store.counts() == counts()
    await created(store, ids.submission(1))
    await running(store, ids.submission(2))
    await submitted(store, ids.submission(2))
    await done(store, ids.submission(3))
    await store.fail((await running(store, ids.submission(4))).lease, FailureCode.LIVE)
    await store.cancel((await submitted(store, ids.submission(5))).ticket.job.job_id)
    assert await store.counts() == counts(pending=1, processing=2, completed=1, failed=1, cancelled=1)


# the store itself


async def test_records_survive_a_restart(stand: Stand, store: JobStore, ids: Ids) -> None:
    submissions = [ids.submission(video) for video in range(4)]
    await created(store, submissions[0])
    await running(store, submissions[1])
    await done(store, submissions[2])
    await store.cancel((await submitted(store, submissions[3])).ticket.job.job_id)
    before = [await ticket_of(store, submission.job_id) for submission in submissions]
    tallied = await store.counts()
    await store.close()
    again = await stand.open("b")
    after = [await ticket_of(again, submission.job_id) for submission in submissions]
    assert [ticket.status for ticket in after] == [ticket.status for ticket in before]
    assert after[2:] == before[2:]
    assert await again.counts() == tallied
    stand.clock.advance(POLICY.lease_seconds + 1)
    adopted = await again.adopt(10)
    assert [conversion.crashes for conversion in adopted] == [0, 1]
    assert {conversion.holder for conversion in adopted} == {"b"}


async def test_a_usable_store_answers_a_ping(store: JobStore) -> None:
    await store.ping()


async def test_text_of_any_kind_survives(store: JobStore, ids: Ids) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    metadata = Metadata(
        title='"quotes" \\ \n \x00 \u202e émoji 🎵 null',
        uploader="",
        duration_seconds=0.1 + 0.2,
        thumbnail_url="https://i.ytimg.com/vi/x/hq.jpg?a=1&b=2",
    )
    await store.renew([Renewal(lease=conversion.lease, metadata=metadata, progress=1 / 3)])
    recorded = (await ticket_of(store, submission.job_id)).conversion
    assert (recorded.metadata, recorded.progress) == (metadata, 1 / 3)
