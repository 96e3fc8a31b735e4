"""The outbox: each end of a job with webhooks owes messages, which are taken under a lease, settled, and sent again.

Every test but the last runs on both adapters.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tests.contract.harness import (
    METADATA,
    POLICY,
    Harness,
    Ids,
    adopt_expired,
    created,
    done,
    running,
    submitted,
    ticket_of,
    track_of,
)
from tests.contract.sqlite_stores import opened
from ytmp3.core.batch import Batch, Item, first_marks
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ClientId, VideoId, new_batch_id
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.core.webhook import (
    MAX_TARGETS,
    Delivery,
    DeliveryId,
    DeliveryState,
    Reason,
    Settlement,
    WebhookEvent,
    WebhookTarget,
    batch_subject,
    settled,
)
from ytmp3.jobstore import JobStore, Submission
from ytmp3.jobstore.batches import NewBatch
from ytmp3.jobstore.outbox import JOBS_AT_ONCE

LEASE_SECONDS: Final = 60.0
SHOP: Final = WebhookTarget(endpoint="shop")
OTHER: Final = WebhookTarget(endpoint="other", url="https://example.org/hook?a=1&b=ü")
FAILURES: Final = WebhookTarget(endpoint="failures", events=(WebhookEvent.JOB_FAILED,))


def hooked(ids: Ids, video: int = 1, *targets: WebhookTarget) -> Submission:
    return replace(ids.submission(video), webhooks=targets or (SHOP,))


async def take(store: JobStore, limit: int = 100) -> list[Delivery]:
    return await store.outbox.take(limit, lease_seconds=LEASE_SECONDS)


def result(
    delivery: Delivery, state: DeliveryState = DeliveryState.DELIVERED, delay_seconds: float = 0.0
) -> Settlement:
    is_delivered = state is DeliveryState.DELIVERED
    return Settlement(
        delivery_id=delivery.delivery_id,
        token=delivery.token,
        state=state,
        delay_seconds=delay_seconds,
        status=204 if is_delivered else 500,
        reason=None if is_delivered else Reason.STATUS,
    )


async def test_a_job_keeps_its_targets(store: JobStore, ids: Ids) -> None:
    submission = hooked(ids, 1, SHOP, OTHER, FAILURES)
    await created(store, submission)
    assert (await ticket_of(store, submission.job_id)).job.webhooks == (SHOP, OTHER, FAILURES)
    without = ids.submission(2)
    await created(store, without)
    assert (await ticket_of(store, without.job_id)).job.webhooks == ()


async def test_a_finished_conversion_owes_a_message_to_each_target_of_each_job(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    first, second, without = hooked(ids, 1, SHOP, OTHER, FAILURES), hooked(ids), ids.submission()
    conversion = await running(store, first)
    await submitted(store, second)
    await submitted(store, without)
    assert await store.outbox.of(first.job_id) == []
    assert await take(store) == []
    await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    now = harness.clock.now
    harness.clock.advance(2)
    taken = sorted(await take(store), key=lambda delivery: (delivery.subject_id, delivery.delivery_id))
    assert [(delivery.subject_id, delivery.endpoint, delivery.url, delivery.event) for delivery in taken] == [
        (first.job_id, "shop", None, WebhookEvent.JOB_COMPLETED),
        (first.job_id, "other", OTHER.url, WebhookEvent.JOB_COMPLETED),
        (second.job_id, "shop", None, WebhookEvent.JOB_COMPLETED),
    ]
    assert {delivery.due_at for delivery in taken} == {now + 2 + LEASE_SECONDS}
    assert {(delivery.state, delivery.attempts, delivery.token) for delivery in taken} == {
        (DeliveryState.PENDING, 0, 1)
    }
    assert await store.outbox.of(first.job_id) == taken[:2]
    assert await store.outbox.of(without.job_id) == []
    assert await take(store) == []


async def test_a_failure_and_a_poisoned_conversion_are_reported(harness: Harness, store: JobStore, ids: Ids) -> None:
    refused, poisoned = hooked(ids, 1, SHOP, FAILURES), hooked(ids, 2)
    conversion = await running(store, refused)
    await store.fail(conversion.lease, FailureCode.PRIVATE)
    lease = (await created(store, poisoned)).lease
    for _ in range(POLICY.crash_limit):
        await store.claim(lease)
        harness.clock.advance(harness.elsewhere_seconds)
        for adopted in await adopt_expired(harness, store):
            lease = adopted.lease
    assert (await ticket_of(store, poisoned.job_id)).conversion.error is FailureCode.POISON
    taken = await take(store)
    assert {(delivery.delivery_id, delivery.event) for delivery in taken} == {
        (f"{refused.job_id}-0", WebhookEvent.JOB_FAILED),
        (f"{refused.job_id}-1", WebhookEvent.JOB_FAILED),
        (f"{poisoned.job_id}-0", WebhookEvent.JOB_FAILED),
    }


async def test_a_job_whose_track_exists_is_reported_at_once_and_only_once(store: JobStore, ids: Ids) -> None:
    await done(store, ids.submission())
    cached = hooked(ids)
    for _ in range(2):
        await submitted(store, cached)
    assert [delivery.subject_id for delivery in await take(store)] == [cached.job_id]
    assert await take(store) == []


async def test_the_deliveries_of_a_job_can_be_read_before_any_is_taken(store: JobStore, ids: Ids) -> None:
    submission, other = hooked(ids), hooked(ids)
    conversion = await running(store, submission)
    await submitted(store, other)
    await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    (delivery,) = await store.outbox.of(submission.job_id)
    assert (delivery.state, delivery.token) == (DeliveryState.PENDING, 0)
    assert {taken.subject_id for taken in await take(store)} == {submission.job_id, other.job_id}


async def test_a_cancelled_job_is_not_reported(store: JobStore, ids: Ids) -> None:
    cancelled, remaining, alone = hooked(ids), hooked(ids), hooked(ids, 2)
    conversion = await running(store, cancelled)
    await submitted(store, remaining)
    await store.cancel(cancelled.job_id)
    await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    await created(store, alone)
    await store.cancel(alone.job_id)
    assert await store.outbox.of(cancelled.job_id) == []
    assert [delivery.subject_id for delivery in await take(store)] == [remaining.job_id]
    assert await store.outbox.of(alone.job_id) == []


async def test_a_delivery_that_is_not_settled_is_taken_again_with_the_same_id(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    await done(store, hooked(ids))
    (first,) = await take(store)
    harness.clock.advance(LEASE_SECONDS - 1)
    assert await take(store) == []
    harness.clock.advance(1)
    (second,) = await take(store)
    assert (second.delivery_id, second.token) == (first.delivery_id, first.token + 1)
    await store.outbox.settle([result(first, DeliveryState.FAILED)])
    assert await store.outbox.of(first.subject_id) == [second], "the first holder has lost its lease"
    await store.outbox.settle([result(second)])
    (stored,) = await store.outbox.of(first.subject_id)
    assert stored == settled(second, result(second), now=harness.clock.now)
    harness.clock.advance(10 * LEASE_SECONDS)
    assert await take(store) == []


async def test_a_result_is_stored_once_however_often_the_call_is_repeated(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    await done(store, hooked(ids))
    (delivery,) = await take(store)
    retry = result(delivery, DeliveryState.PENDING, 5.0)
    for _ in range(3):
        await store.outbox.settle([retry])
        harness.clock.advance(1)
    (waiting,) = await store.outbox.of(delivery.subject_id)
    assert (waiting.attempts, waiting.status, waiting.reason) == (1, 500, Reason.STATUS)
    assert waiting == settled(delivery, retry, now=harness.clock.now - 3)
    assert await take(store) == []
    harness.clock.advance(2)
    (again,) = await take(store)
    await store.outbox.settle([result(again)])
    (delivered,) = await store.outbox.of(delivery.subject_id)
    assert (delivered.state, delivered.attempts, delivered.status, delivered.reason) == (
        DeliveryState.DELIVERED,
        2,
        204,
        None,
    )


async def test_a_postponed_delivery_counts_no_attempt_and_keeps_its_last_result(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    await done(store, hooked(ids))
    (delivery,) = await take(store)
    await store.outbox.settle([result(delivery, DeliveryState.PENDING, 0.0)])
    (delivery,) = await take(store)
    postponement = replace(result(delivery, DeliveryState.PENDING, 30.0), is_attempt=False, status=None)
    await store.outbox.settle([postponement])
    (waiting,) = await store.outbox.of(delivery.subject_id)
    assert (waiting.attempts, waiting.status, waiting.reason) == (1, 500, Reason.STATUS)
    assert waiting == settled(delivery, postponement, now=harness.clock.now)


async def test_a_delivery_can_be_sent_again_in_any_state(harness: Harness, store: JobStore, ids: Ids) -> None:
    await done(store, hooked(ids))
    (delivery,) = await take(store)
    during = await store.outbox.redeliver(delivery.delivery_id)
    assert during is not None
    (again,) = await take(store)
    assert again.token > during.token > delivery.token
    await store.outbox.settle([result(again, DeliveryState.FAILED)])
    harness.clock.advance(7)
    redelivered = await store.outbox.redeliver(delivery.delivery_id)
    assert redelivered is not None
    assert (redelivered.state, redelivered.attempts, redelivered.due_at) == (
        DeliveryState.PENDING,
        0,
        harness.clock.now,
    )
    assert [taken.delivery_id for taken in await take(store)] == [delivery.delivery_id]
    assert await store.outbox.redeliver(DeliveryId(f"{delivery.subject_id}-7")) is None


async def test_what_is_due_longest_is_taken_first_up_to_the_limit(harness: Harness, store: JobStore, ids: Ids) -> None:
    submissions = []
    for _ in range(3):
        submissions.append(hooked(ids, 1))
        if len(submissions) == 1:
            await done(store, submissions[-1])
        else:
            await submitted(store, submissions[-1])
        await store.outbox.of(submissions[-1].job_id)
        harness.clock.advance(1)
    assert [delivery.subject_id for delivery in await take(store, 2)] == [
        submission.job_id for submission in submissions[:2]
    ]
    assert [delivery.subject_id for delivery in await take(store, 2)] == [submissions[2].job_id]


async def test_many_jobs_of_one_conversion_are_reported_in_steps(store: JobStore, ids: Ids) -> None:
    submissions = [hooked(ids) for _ in range(JOBS_AT_ONCE + 5)]
    conversion = await running(store, submissions[0])
    for submission in submissions[1:]:
        await submitted(store, submission)
    await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    steps = [await take(store, 1000), await take(store, 1000), await take(store, 1000)]
    assert [len(step) for step in steps] == [JOBS_AT_ONCE, 5, 0]
    reported = {delivery.subject_id for step in steps for delivery in step}
    assert reported == {submission.job_id for submission in submissions}


async def test_deliveries_are_removed_with_their_jobs(harness: Harness, store: JobStore, ids: Ids) -> None:
    many = (SHOP,) * MAX_TARGETS
    reported, unreported = hooked(ids, 1, *many), hooked(ids, 2)
    await done(store, reported)
    assert len(await take(store)) == MAX_TARGETS
    await done(store, unreported)
    harness.clock.advance(POLICY.retention_seconds + 1)
    assert len(await store.expire(10)) == 2
    for submission in (reported, unreported):
        assert await store.outbox.of(submission.job_id) == []
        assert await store.outbox.redeliver(DeliveryId(f"{submission.job_id}-0")) is None
    harness.clock.advance(10 * LEASE_SECONDS)
    assert await take(store) == []


async def test_deliveries_survive_a_restart(harness: Harness, store: JobStore, ids: Ids) -> None:
    reported, unreported = hooked(ids, 1), hooked(ids, 2)
    await done(store, reported)
    (taken,) = await take(store)
    await done(store, unreported)
    store = await harness.open("b")
    assert [delivery.subject_id for delivery in await take(store)] == [unreported.job_id]
    harness.clock.advance(LEASE_SECONDS)
    again = await take(store)
    assert {delivery.delivery_id for delivery in again} == {taken.delivery_id, f"{unreported.job_id}-0"}


async def ended_batch(store: JobStore, number: int, *, cancel: bool = False) -> str:
    """End a batch with two targets. Returns its id as a subject."""
    items = (Item(video_id=VideoId("video000001")),)
    batch_id = new_batch_id(number.to_bytes(17, "big"))
    new = NewBatch(
        batch_id=batch_id,
        client=ClientId("key:alice"),
        recipe=DEFAULT_RECIPE,
        marks=first_marks(items),
        items=items,
        webhooks=(SHOP, OTHER, FAILURES),
    )
    assert isinstance(await store.batches.create(new), Batch)
    (batch,) = await store.batches.adopt(10)
    assert batch.webhooks == (SHOP, OTHER, FAILURES)
    if cancel:
        await store.batches.cancel(batch_id)
    for _ in range(2):
        ended = await store.batches.save(batch.lease, "c", is_ended=True)
    assert ended.webhooks == new.webhooks
    return batch_subject(batch_id)


async def test_an_ended_batch_is_reported_once_and_a_cancelled_one_is_not(
    harness: Harness, store: JobStore, ids: Ids
) -> None:
    subject_id = await ended_batch(store, 1)
    assert await store.outbox.of(await ended_batch(store, 2, cancel=True)) == []
    await done(store, hooked(ids))
    taken = await take(store)
    assert {(delivery.delivery_id, delivery.url, delivery.event) for delivery in taken} >= {
        (f"{subject_id}-0", None, WebhookEvent.BATCH_COMPLETED),
        (f"{subject_id}-1", OTHER.url, WebhookEvent.BATCH_COMPLETED),
    }
    assert len(taken) == 3
    await store.outbox.settle([result(delivery) for delivery in taken])
    assert [delivery.state for delivery in await store.outbox.of(subject_id)] == [DeliveryState.DELIVERED] * 2
    again = await store.outbox.redeliver(DeliveryId(f"{subject_id}-1"))
    assert again is not None
    assert [delivery.delivery_id for delivery in await take(store)] == [f"{subject_id}-1"]
    harness.clock.advance(POLICY.retention_seconds + 1)
    assert await store.batches.expire(10) == 2
    assert await store.outbox.of(subject_id) == []


async def test_a_file_keeps_no_note_of_ends_that_are_reported(tmp_path: Path, ids: Ids) -> None:
    """Also not of those whose deliveries a request has made: a sender that found them each time would become slow."""
    submissions = [hooked(ids, number) for number in range(3 * JOBS_AT_ONCE)]
    async with opened(tmp_path / "jobs.sqlite3") as store:
        for submission in submissions:
            await done(store, submission)
        for submission in submissions[: 2 * JOBS_AT_ONCE]:
            await store.outbox.of(submission.job_id)
        taken = [delivery.subject_id for _ in range(4) for delivery in await take(store, 1000)]
        assert sorted(taken) == sorted(submission.job_id for submission in submissions)
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as connection:
        assert connection.execute("SELECT count(*) FROM announced").fetchone() == (0,)
