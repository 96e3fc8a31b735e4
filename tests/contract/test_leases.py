"""Leases: claim and renew them, give them back, adopt them when they run out. Every test runs on both adapters."""

import pytest
from msgspec.structs import replace

from tests.contract.harness import (
    METADATA,
    POLICY,
    UNKNOWN_LEASE,
    Harness,
    Ids,
    adopt_expired,
    counts,
    created,
    running,
    ticket_of,
    track_of,
)
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import Stage, State, Status
from ytmp3.jobstore import JobStore, Renewal


async def test_a_claim_starts_the_conversion_under_a_new_token(harness: Harness, store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission())
    harness.clock.advance(5)
    claimed = await store.claim(queued.lease)
    assert (claimed.state, claimed.stage, claimed.token, claimed.holder) == (
        State.RUNNING,
        Stage.EXTRACTING,
        queued.token + 1,
        "a",
    )
    assert claimed.started_at == harness.clock.now
    assert claimed.due_at == harness.clock.now + POLICY.lease_seconds


async def test_a_claim_repeated_after_a_lost_reply_gets_the_same_conversion(store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission())
    assert await store.claim(queued.lease) == await store.claim(queued.lease)


async def test_a_stale_claim_is_refused(harness: Harness, store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission())
    (adopted,) = await adopt_expired(harness, store)
    with pytest.raises(LeaseLost):
        await store.claim(queued.lease)
    await store.claim(adopted.lease)
    with pytest.raises(LeaseLost):
        await store.claim(queued.lease)
    with pytest.raises(LeaseLost):
        await store.claim(replace(UNKNOWN_LEASE, conversion_id=ids.submission().conversion_id))


async def test_a_renewal_extends_the_lease_and_records_the_progress(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    harness.clock.advance(10)
    renewal = Renewal(
        lease=conversion.lease, stage=Stage.CONVERTING, progress=0.625, queue_position=None, metadata=METADATA
    )
    assert await store.renew([renewal]) == frozenset()
    recorded = (await ticket_of(store, submission.job_id)).conversion
    assert (recorded.stage, recorded.progress, recorded.metadata) == (Stage.CONVERTING, 0.625, METADATA)
    assert recorded.due_at == harness.clock.now + POLICY.lease_seconds
    harness.clock.advance(POLICY.lease_seconds - 1)
    assert await store.adopt(10) == []
    assert await store.renew([Renewal(lease=conversion.lease)]) == frozenset()
    silent = (await ticket_of(store, submission.job_id)).conversion
    assert (silent.stage, silent.progress, silent.metadata) == (Stage.CONVERTING, 0.625, METADATA)


async def test_a_batch_of_renewals_names_exactly_those_that_are_lost(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    submissions = [ids.submission(video) for video in range(40)]
    conversions = [await created(store, submission) for submission in submissions]
    for submission in submissions[:5]:
        await store.cancel(submission.job_id)
    ended = await store.claim(conversions[5].lease)
    await store.fail(ended.lease, FailureCode.DRM)
    unknown = replace(UNKNOWN_LEASE, conversion_id=ids.submission(99).conversion_id)
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


async def test_a_released_conversion_can_be_adopted_at_once_and_costs_nothing(store: JobStore, ids: Ids) -> None:
    queued = await created(store, ids.submission(1))
    claimed = await running(store, ids.submission(2))
    await store.release([queued.lease, claimed.lease, UNKNOWN_LEASE])
    await store.release([queued.lease, claimed.lease])
    adopted = await store.adopt(10)
    assert {conversion.conversion_id for conversion in adopted} == {queued.conversion_id, claimed.conversion_id}
    assert all((conversion.crashes, conversion.attempts) == (0, 0) for conversion in adopted)
    assert await store.counts() == counts(pending=2)
    await store.release([])


async def test_adoption_takes_only_conversions_whose_lease_ran_out(harness: Harness, store: JobStore, ids: Ids) -> None:
    kept = await running(store, ids.submission(1))
    left = await running(store, ids.submission(2))
    harness.clock.advance(POLICY.lease_seconds - 1)
    await store.renew([Renewal(lease=kept.lease)])
    harness.clock.advance(2)
    (adopted,) = await store.adopt(10)
    assert adopted.conversion_id == left.conversion_id
    assert (adopted.state, adopted.holder, adopted.crashes) == (State.QUEUED, "a", 1)
    assert adopted.token > left.token
    assert adopted.due_at == harness.clock.now + POLICY.lease_seconds
    assert await store.adopt(10) == []


async def test_a_lease_that_runs_out_in_the_queue_counts_no_crash(harness: Harness, store: JobStore, ids: Ids) -> None:
    await created(store, ids.submission())
    for _ in range(POLICY.crash_limit + 1):
        (adopted,) = await adopt_expired(harness, store)
        assert adopted.crashes == 0


async def test_adoption_is_bounded_and_takes_the_oldest_first(harness: Harness, store: JobStore, ids: Ids) -> None:
    conversions = []
    for video in range(30):
        conversions.append(await created(store, ids.submission(video)))
        harness.clock.advance(0.5)
    harness.clock.advance(POLICY.lease_seconds)
    order = [conversion.conversion_id for conversion in conversions]
    assert [conversion.conversion_id for conversion in await store.adopt(10)] == order[:10]
    assert [conversion.conversion_id for conversion in await store.adopt(100)] == order[10:]


async def test_a_conversion_that_was_running_at_three_crashes_fails_as_poison(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    submission = ids.submission()
    conversion = await running(store, submission)
    for crashes in range(1, POLICY.crash_limit):
        (adopted,) = await adopt_expired(harness, store)
        assert adopted.crashes == crashes
        conversion = await store.claim(adopted.lease)
    harness.clock.advance(harness.elsewhere_seconds)
    assert await adopt_expired(harness, store) == []
    ticket = await ticket_of(store, submission.job_id)
    assert ticket.status is Status.FAILED
    assert (ticket.conversion.error, ticket.conversion.crashes, ticket.conversion.attempts) == (
        FailureCode.POISON,
        POLICY.crash_limit,
        0,
    )
    assert ticket.conversion.expires_at == harness.clock.now + POLICY.retention_seconds
    assert await store.renew([Renewal(lease=conversion.lease)]) == {conversion.conversion_id}
    assert await store.counts() == counts(failed=1)


async def test_a_token_in_the_hands_of_another_instance_gives_no_right(store: JobStore, ids: Ids) -> None:
    """After the store went back in time it gives tokens out once more, so two instances may have the same one."""
    queued, claimed = await created(store, ids.submission(1)), await running(store, ids.submission(2))
    foreign = replace(claimed.lease, holder=InstanceId("b"))
    assert await store.renew([Renewal(lease=foreign, progress=0.9)]) == {claimed.conversion_id}
    await store.release([foreign])
    with pytest.raises(LeaseLost):
        await store.claim(replace(queued.lease, holder=InstanceId("b")))
    with pytest.raises(LeaseLost):
        await store.finish(foreign, track_of(foreign), METADATA)
    with pytest.raises(LeaseLost):
        await store.fail(foreign, FailureCode.PRIVATE)
    with pytest.raises(LeaseLost):
        await store.retry(foreign, FailureCode.UPSTREAM_ERROR, delay_seconds=0.0)
    finished = await store.finish(claimed.lease, track_of(claimed.lease), METADATA)
    assert finished.track is not None
    assert finished.track.file_name != track_of(foreign).file_name
    assert await store.known_files([track_of(foreign).file_name]) == frozenset()
