"""The cost of operations of the embedded store."""

import contextlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.contract.harness import POLICY, Ids, done, submitted
from tests.contract.sqlite_stores import opened, store_at
from tests.fakes import Clock
from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.core.ids import InstanceId, JobId
from ytmp3.core.webhook import LONGEST_DELAY_SECONDS, WebhookTarget
from ytmp3.jobstore.sqlite.file import open_for_writing
from ytmp3.jobstore.sqlite.ledger import Ledger


async def test_a_store_that_is_not_open_is_down(path: Path, ids: Ids) -> None:
    store = store_at(path)
    for call in (
        store.ping,
        store.counts,
        lambda: store.get(JobId("0" * 34)),
        lambda: submitted(store, ids.submission()),
    ):
        with pytest.raises(StoreDown):
            await call()
    await store.close()


async def test_no_operation_scans_a_table(path: Path, ids: Ids) -> None:
    async with opened(path) as store:
        await done(store, ids.submission())
    queries: list[str] = []

    with contextlib.closing(open_for_writing(path)) as connection:
        ledger = Ledger(connection=connection, policy=POLICY, instance=InstanceId("a"), clock=Clock())
        connection.set_trace_callback(queries.append)
        submission = ids.submission(2)
        result = ledger.submit(submission, may_create=True)
        assert result is not None
        ledger.submit(ids.submission(2), may_create=True)
        conversion = ledger.claim(result.ticket.conversion.lease)
        ledger.fail(conversion.lease, FailureCode.PRIVATE)
        ledger.cancel(submission.job_id)
        ledger.adopt(10)
        ledger.expire(10)
        connection.set_trace_callback(None)
        plans = [
            str(step)
            for query in queries
            for (*_, step) in connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        ]
    assert len(queries) > 15
    assert [step for step in plans if "SCAN" in step or "TEMP B-TREE" in step] == []


def test_one_step_of_expiry_removes_a_bounded_number_of_jobs_and_counts_them(path: Path, ids: Ids) -> None:
    clock = Clock()
    policy = replace(POLICY, jobs_at_once=2)
    with contextlib.closing(open_for_writing(path)) as connection:
        ledger = Ledger(connection=connection, policy=policy, instance=InstanceId("a"), clock=clock)
        results = [ledger.submit(ids.submission(), may_create=True) for _ in range(5)]
        assert results[0] is not None
        for result in results[2:4]:
            assert result is not None
            ledger.cancel(result.ticket.job.job_id)
        ledger.fail(ledger.claim(results[0].ticket.conversion.lease).lease, FailureCode.PRIVATE)
        clock.advance(POLICY.retention_seconds)
        for left, step in ((3, ([], True)), (1, ([], True)), (0, ([None], False)), (0, ([], False))):
            assert ledger.expire(10) == step
            ((jobs,),) = connection.execute("SELECT count(*) FROM jobs").fetchall()
            ((counted,),) = connection.execute("SELECT sum(jobs) FROM tallies").fetchall()
            assert (jobs, counted) == (left, left)


async def test_a_webhook_waits_no_longer_than_its_schedule_after_the_system_clock_was_set_back(
    path: Path, ids: Ids
) -> None:
    clock = Clock()
    submission = replace(ids.submission(), webhooks=(WebhookTarget(endpoint="shop"),))
    async with opened(path, clock) as store:
        await done(store, submission)
    clock.advance(-365 * 86_400)
    async with opened(path, clock) as store:
        (waiting,) = await store.outbox.of(submission.job_id)
        redelivered = await store.outbox.redeliver(waiting.delivery_id)
        assert redelivered is not None
    clock.advance(-365 * 86_400)
    async with opened(path, clock) as store:
        assert await store.outbox.take(1, lease_seconds=60.0) == []
        clock.advance(LONGEST_DELAY_SECONDS)
        assert len(await store.outbox.take(1, lease_seconds=60.0)) == 1
