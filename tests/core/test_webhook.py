"""The rules of deliveries: which messages are owed, which results are stored, and when the next attempt is made."""

import pytest
from msgspec.structs import replace

from ytmp3.core.ids import BatchId
from ytmp3.core.webhook import (
    JITTER,
    MAX_RETRY_AFTER_SECONDS,
    RETRY_SECONDS,
    Delivery,
    DeliveryState,
    Reason,
    Settlement,
    WebhookEvent,
    WebhookTarget,
    accepts,
    batch_subject,
    deliveries_of,
    delivery_id,
    redelivered,
    retry_delay_seconds,
    settled,
    taken,
)

DELIVERY = Delivery(
    delivery_id=delivery_id("job", 0),
    subject_id="job",
    event=WebhookEvent.JOB_COMPLETED,
    endpoint="shop",
    created_at=100.0,
    due_at=100.0,
)
FAILURE = Settlement(
    delivery_id=DELIVERY.delivery_id,
    token=1,
    state=DeliveryState.PENDING,
    delay_seconds=5.0,
    status=500,
    reason=Reason.STATUS,
)


def test_each_target_that_wants_the_event_gets_one_message_numbered_by_its_place() -> None:
    targets = (
        WebhookTarget(endpoint="a"),
        WebhookTarget(endpoint="b", events=(WebhookEvent.JOB_FAILED,)),
        WebhookTarget(endpoint="c", url="https://example.org"),
    )
    made = deliveries_of("job", WebhookEvent.JOB_COMPLETED, targets, now=7.0)
    assert [(delivery.delivery_id, delivery.endpoint, delivery.url) for delivery in made] == [
        ("job-0", "a", None),
        ("job-2", "c", "https://example.org"),
    ]
    assert {(delivery.created_at, delivery.due_at, delivery.state) for delivery in made} == {
        (7.0, 7.0, DeliveryState.PENDING)
    }


def test_a_batch_and_a_job_with_the_same_id_are_different_subjects() -> None:
    job_id = "0" * 34
    assert batch_subject(BatchId(job_id)) != job_id
    assert delivery_id(batch_subject(BatchId(job_id)), 0) == f"batch-{job_id}-0"


def test_only_the_present_holder_may_store_a_result_and_only_once() -> None:
    first = taken(DELIVERY, until=160.0)
    assert (first.token, first.due_at) == (1, 160.0)
    assert accepts(first, FAILURE)
    assert not accepts(taken(first, until=220.0), FAILURE)
    assert not accepts(settled(first, FAILURE, now=101.0), FAILURE)
    assert not accepts(replace(first, state=DeliveryState.DELIVERED), FAILURE)


def test_an_attempt_is_counted_and_a_postponement_is_not() -> None:
    failed = settled(taken(DELIVERY, until=160.0), FAILURE, now=101.0)
    assert (failed.attempts, failed.attempted_at, failed.status, failed.reason, failed.due_at) == (
        1,
        101.0,
        500,
        Reason.STATUS,
        106.0,
    )
    postponement = replace(FAILURE, is_attempt=False, status=None, delay_seconds=30.0)
    waiting = settled(failed, postponement, now=110.0)
    assert (waiting.attempts, waiting.attempted_at, waiting.status, waiting.due_at) == (1, 101.0, 500, 140.0)


def test_a_redelivery_has_the_whole_schedule_before_it() -> None:
    given_up = settled(taken(DELIVERY, until=160.0), replace(FAILURE, state=DeliveryState.FAILED), now=101.0)
    again = redelivered(given_up, now=500.0)
    assert (again.delivery_id, again.state, again.attempts, again.due_at) == (
        DELIVERY.delivery_id,
        DeliveryState.PENDING,
        0,
        500.0,
    )
    assert again.token > given_up.token


def test_the_waits_grow_with_jitter_and_fit_into_the_default_retention() -> None:
    shortest = [retry_delay_seconds(attempts, 0.0) for attempts in range(1, len(RETRY_SECONDS) + 1)]
    assert shortest == list(RETRY_SECONDS) == sorted(RETRY_SECONDS)
    assert retry_delay_seconds(1, 0.5) == RETRY_SECONDS[0] * (1 + JITTER / 2)
    assert retry_delay_seconds(len(RETRY_SECONDS) + 1, 0.0) is None
    assert sum(RETRY_SECONDS) * (1 + JITTER) < 24 * 3600


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 5.0), (0.0, 5.0), (60.0, 60.0), (1e9, MAX_RETRY_AFTER_SECONDS), (float("inf"), MAX_RETRY_AFTER_SECONDS)],
)
def test_an_endpoint_may_ask_for_a_longer_wait_within_bounds(asked: float | None, expected: float) -> None:
    assert retry_delay_seconds(1, 0.0, retry_after_seconds=asked) == expected


def test_the_id_of_a_batch_as_a_subject_is_never_that_of_a_job() -> None:
    batch_id = BatchId("0" * 34)
    assert batch_subject(batch_id) != batch_id
    assert batch_subject(batch_id).endswith(batch_id)
