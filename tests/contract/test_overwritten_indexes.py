"""Keys that another program overwrites: a part of the jobs waits, the store says so, and none is lost."""

import itertools

import pytest
from msgspec.structs import replace

from tests.contract.harness import (
    METADATA,
    POLICY,
    Ids,
    RedisHarness,
    counts,
    created,
    running,
    submitted,
    ticket_of,
    track_of,
)
from ytmp3.core.errors import StoreUnusable
from ytmp3.core.ids import BatchId, ClientId
from ytmp3.core.job import Status
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.core.webhook import WebhookEvent, WebhookTarget
from ytmp3.jobstore import JobStore, Renewal
from ytmp3.jobstore.batches import NewBatch
from ytmp3.jobstore.redis.indexes import PARTS
from ytmp3.jobstore.redis.keys import Keys

TARGET = WebhookTarget(endpoint="e", events=(WebhookEvent.JOB_COMPLETED,))


async def fault_of(store: JobStore) -> str | None:
    """Check as often as it takes to ask for all types."""
    fault = None
    for _ in range(PARTS):
        fault = await store.ping()
    return fault


@pytest.mark.attack
async def test_an_overwritten_index_stops_its_shard_alone_is_named_and_is_rebuilt_without_a_loss(
    redis_harness: RedisHarness,
) -> None:
    for end in ("", ":live", ":ended", ":outbox"):
        client = redis_harness.client
        client.flushall()
        store, ids = await redis_harness.open(), Ids()
        # All of video 1 are in one shard, and those of video 2 in another.
        hooked = replace(ids.submission(1), webhooks=(TARGET,))
        await submitted(store, hooked)
        lease = (await store.claim((await ticket_of(store, hooked.job_id)).conversion.lease)).lease
        await store.finish(lease, track_of(lease), METADATA)
        await store.forget(lease.conversion_id)
        held = await running(store, ids.submission(1))
        others = [ids.submission(1, client="addr:192.0.2.7") for _ in range(2)]
        for other in others:
            await submitted(store, other)
        await store.cancel(others[0].job_id)
        elsewhere = await created(store, ids.submission(2))
        before, root = await store.counts(), Keys().root_of(held.conversion_id)
        assert (before.processing, before.completed, before.cancelled) == (2, 1, 1)

        client.set(f"{root}{end}", "of another program")
        records = client.dbsize()
        fault = await fault_of(store)
        assert fault is not None
        assert f"the key {root}{end} is a string" in fault
        with pytest.raises(StoreUnusable, match="WRONGTYPE"):
            await store.submit(ids.submission(1), may_create=True)
        with pytest.raises(StoreUnusable, match="WRONGTYPE"):
            await store.finish(held.lease, track_of(held.lease), METADATA)
        assert (await ticket_of(store, hooked.job_id)).status is Status.COMPLETED, "reading goes on"
        assert client.dbsize() == records, "no half of a change is stored"
        redis_harness.clock.advance(POLICY.lease_seconds + 1)
        assert elsewhere.conversion_id in {each.conversion_id for each in await store.adopt(10)}

        client.rename(f"{root}{end}", f"moved:{root}{end}")
        assert await fault_of(store) is None
        assert await store.counts() == before
        assert await store.renew([Renewal(lease=held.lease)]) == frozenset(), "the living holder goes on"
        finished = await store.finish(held.lease, track_of(held.lease), METADATA)
        assert finished.crashes == 0
        assert [each.subject_id for each in await store.outbox.take(10, lease_seconds=9)] == [hooked.job_id]
        redis_harness.clock.advance(2 * POLICY.retention_seconds)
        assert len([name for name in await store.expire(10) if name]) == 2
        assert await store.counts() == counts(pending=1), "only that of the other shard is left"


async def test_overwritten_indexes_of_batches_are_rebuilt(redis_harness: RedisHarness) -> None:
    store, client_id = await redis_harness.open(), ClientId("key:someone")
    new = NewBatch(batch_id=BatchId("b"), client=client_id, recipe=DEFAULT_RECIPE, marks="", items=(), webhooks=())
    await store.batches.create(new)
    client = redis_harness.client
    for end in (":live", ":of", ":ended"):
        name = f"{Keys().batches}{end}"
        client.set(name, "of another program")
        assert name in (await fault_of(store) or "")
        client.delete(name)
        assert await fault_of(store) is None
        assert await store.batches.unfinished() == 1
        assert client.hgetall(f"{Keys().batches}:of") == {client_id.encode(): b"1"}
    assert [batch.batch_id for batch in await store.batches.adopt(10)] == ["b"]


async def test_an_overwritten_record_stops_no_other(redis_harness: RedisHarness, ids: Ids) -> None:
    store = await redis_harness.open()
    first = ids.submission(1)
    shard = Keys().root_of(first.conversion_id)
    numbered = (ids.submission(video) for video in itertools.count(2))
    second = next(each for each in numbered if Keys().root_of(each.conversion_id) == shard)
    lost, other = await created(store, first), await created(store, second)
    client = redis_harness.client
    for name in (Keys().conversion_at(lost.conversion_id), shard):
        client.set(name, "of another program")
    assert await fault_of(store) is not None
    client.delete(shard)
    assert await fault_of(store) is None
    assert await store.counts() == counts(pending=1), "the counts are rebuilt without the overwritten record"
    redis_harness.clock.advance(POLICY.lease_seconds + 1)
    assert [each.conversion_id for each in await store.adopt(10)] == [other.conversion_id]
