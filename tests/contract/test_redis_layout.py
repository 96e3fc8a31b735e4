"""The records in Redis: their keys, their time to live, and their use by several instances."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, cast

import pytest
import redis
from msgspec.structs import replace

from tests.contract.harness import METADATA, POLICY, Ids, RedisHarness, created, done, running, submitted, track_of
from tests.contract.redis_servers import MakeStore, MakeValkey
from tests.fakes import Clock
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.ports import free_port
from tests.stand.waiting import until
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import BatchId, ClientId, shard_of
from ytmp3.core.job import Status
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.jobstore import JobStore, Outcome, Renewal
from ytmp3.jobstore.batches import NewBatch
from ytmp3.jobstore.redis import RedisSettings
from ytmp3.jobstore.redis.keys import Keys

root_of: Final = Keys().root_of


def key_slot(name: bytes) -> int:
    """Redis Cluster's slot of a key (cluster specification: CRC16-XMODEM of the hash tag)."""
    start = name.find(b"{")
    end = name.find(b"}", start + 1)
    tag = name[start + 1 : end] if start >= 0 and end > start + 1 else name
    crc = 0
    for byte in tag:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc % 16384


async def every_operation(store: JobStore, clock: Clock, ids: Ids) -> None:
    """Drive each script through each of its branches."""
    await done(store, ids.submission(1))
    await submitted(store, ids.submission(1))
    await store.fail((await running(store, ids.submission(2))).lease, FailureCode.PRIVATE)
    retrying = await running(store, ids.submission(3))
    await store.retry(retrying.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=0)
    await store.release([(await running(store, ids.submission(4))).lease])
    alone = ids.submission(5)
    await created(store, alone)
    await store.cancel(alone.job_id)
    left = await running(store, ids.submission(6))
    await store.renew([Renewal(lease=left.lease, metadata=METADATA)])
    clock.advance(POLICY.lease_seconds)
    assert len(await store.adopt(100)) == 3
    old = await done(store, ids.submission(7))
    await store.forget(old.conversion_id)
    clock.advance(POLICY.retention_seconds - POLICY.lease_seconds - 1)
    assert await store.expire(100) == []
    await created(store, ids.submission(8))


async def every_record_of_a_client(store: JobStore, ids: Ids) -> None:
    client = ClientId("key:someone")
    await submitted(store, replace(ids.submission(9, client=client), is_listed=True))
    await store.clients.reserve("ab" * 32, "11", "one", life_seconds=100.0)
    await store.clients.set_feed(client, shard_of(client) + "cd" * 32)


async def test_all_keys_of_a_script_are_in_one_slot(redis_harness: RedisHarness, ids: Ids) -> None:
    store = await redis_harness.open()
    await every_operation(store, redis_harness.clock, ids)
    await every_record_of_a_client(store, ids)
    names = cast("list[bytes]", redis_harness.client.keys("*"))
    assert key_slot(b"123456789") == 12739, "the example of the specification"
    assert len(names) > 30
    for name in names:
        shard = name.decode().partition("{")[2][:2]
        assert name.startswith(root_of(shard).encode())
        assert key_slot(name) == key_slot(root_of(shard).encode())


async def test_installations_with_their_own_prefix_share_a_database_and_nothing_else(
    redis_harness: RedisHarness, ids: Ids
) -> None:
    """Without a prefix, the keys are those of earlier versions."""
    with_prefix, client = redis_harness.with_prefix("shop-1"), redis_harness.client
    here, there = await redis_harness.open(), await with_prefix.open()
    await every_operation(here, redis_harness.clock, ids)
    old = set(cast("list[bytes]", client.keys("*")))
    assert all(name.startswith(b"ytmp3:{") for name in old)
    await every_operation(there, with_prefix.clock, Ids(first=1000))
    await every_record_of_a_client(there, ids)
    batch = NewBatch(batch_id=BatchId("b"), client=ClientId("key:x"), recipe=DEFAULT_RECIPE, marks="", items=())
    await there.batches.create(batch)
    assert await there.agrees_on_shelf("mark")
    new = set(cast("list[bytes]", client.keys("*"))) - old
    assert all(name.startswith(b"shop-1:ytmp3:{") for name in new)
    for name in new:
        assert key_slot(name) == key_slot(name.removeprefix(b"shop-1:")), "the hash tags are the same"
    assert await here.batches.unfinished() == 0
    shared = ids.submission(50)
    await created(here, shared)
    assert await there.get(shared.job_id) is None
    await created(there, ids.submission(50))
    for harness in (redis_harness, with_prefix):
        harness.clock.advance(3 * POLICY.retention_seconds)
    adopted = [{conversion.conversion_id for conversion in await store.adopt(100)} for store in (here, there)]
    assert not adopted[0] & adopted[1]
    await with_prefix.close()


async def test_a_server_in_cluster_mode_accepts_every_script(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey({"cluster-enabled": "yes", "cluster-port": str(free_port())})
    with contextlib.closing(server.client()) as client:
        execute = cast("Callable[..., bytes]", client.execute_command)
        execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(lambda: "cluster_state:ok" in str(execute("CLUSTER", "INFO")), "the cluster of one node is ready")
    clock = Clock()
    store = make_store(server.address, clock=clock)
    await store.open()
    await every_operation(store, clock, ids)
    await every_record_of_a_client(store, ids)
    clock.advance(2 * POLICY.retention_seconds)
    assert len(await store.expire(1000)) > 0


async def test_live_records_have_no_time_to_live_and_ended_ones_do(redis_harness: RedisHarness, ids: Ids) -> None:
    store = await redis_harness.open()
    await every_operation(store, redis_harness.clock, ids)
    client, seen = redis_harness.client, {True: 0, False: 0}
    for name in cast("list[bytes]", client.keys("ytmp3:*")):
        ttl = client.ttl(name)
        conversion = conversion_behind(client, name)
        if conversion is None:
            assert ttl == -1, name
            continue
        is_live = client.hget(conversion, "state") in {b"queued", b"running"}
        seen[is_live] += 1
        assert (ttl == -1) == is_live, name
        if not is_live:
            expires_at = float(cast("bytes", client.hget(conversion, "expires_at")))
            assert ttl > expires_at - redis_harness.clock.now + 3000, name
    assert min(seen.values()) > 5


def conversion_behind(client: redis.Redis, name: bytes) -> str | None:
    """Return the key of the conversion that a key belongs to; None for a shard's own keys."""
    root, _, rest = name.decode().partition("}:")
    kind, _, some_id = rest.partition(":")
    match kind:
        case "c" | "r":
            return f"{root}}}:c:{some_id}"
        case "j":
            return f"{root}}}:c:{cast('bytes', client.hget(name, 'conversion_id')).decode()}"
        case "k":
            return f"{root}}}:c:{cast('bytes', client.get(name)).decode()}"
        case _:
            return None


async def test_an_instance_adopts_what_another_released_or_no_longer_renews(
    redis_harness: RedisHarness, ids: Ids
) -> None:
    first, second = await redis_harness.open("a"), await redis_harness.open("b")
    released = await running(first, ids.submission(1))
    left = await running(first, ids.submission(2))
    with pytest.raises(LeaseLost):
        await second.claim((await created(first, ids.submission(3))).lease)
    await first.release([released.lease])
    assert [conversion.conversion_id for conversion in await second.adopt(10)] == [released.conversion_id]
    redis_harness.clock.advance(POLICY.lease_seconds)
    adopted = {conversion.conversion_id: conversion for conversion in await second.adopt(10)}
    assert adopted[left.conversion_id].crashes == 1
    assert await first.renew([Renewal(lease=left.lease)]) == {left.conversion_id}
    assert all(conversion.holder == "b" for conversion in adopted.values())


async def test_two_instances_that_adopt_at_once_never_adopt_the_same_conversion(
    redis_harness: RedisHarness, ids: Ids
) -> None:
    first, second = await redis_harness.open("a"), await redis_harness.open("b")
    for video in range(60):
        await created(first, ids.submission(video))
    redis_harness.clock.advance(POLICY.lease_seconds)
    adopted: list[str] = []
    while len(adopted) < 60:
        batches = await asyncio.gather(*(store.adopt(25) for store in (first, second) * 3))
        assert any(batches), "one of the calls adopts something as long as something is due"
        adopted += [conversion.conversion_id for batch in batches for conversion in batch]
    assert len(adopted) == len(set(adopted)) == 60


async def test_many_jobs_of_one_conversion_expire_in_several_scripts(proxy: ChaosProxy, ids: Ids) -> None:
    harness = RedisHarness(RedisSettings(address=proxy.address))
    store = await harness.open(policy=replace(POLICY, jobs_at_once=2))
    submissions = [ids.submission() for _ in range(7)]
    await done(store, submissions[0])
    for submission in submissions[1:]:
        await submitted(store, submission)
    harness.clock.advance(POLICY.retention_seconds)
    before = proxy.round_trips
    assert len(await store.expire(10)) == 1
    assert proxy.round_trips - before == 1 + 4, "one question what has expired, and four steps of two jobs"
    await harness.close()


async def test_a_conversion_with_many_jobs_ends_in_few_steps_and_gets_no_time_to_live(
    redis_harness: RedisHarness, ids: Ids
) -> None:
    store = await redis_harness.open()
    conversion = await running(store, ids.submission())
    submissions = [ids.submission() for _ in range(2000)]
    await asyncio.gather(*(submitted(store, submission) for submission in submissions))
    redis_harness.tell_servers("CONFIG", "RESETSTAT")
    await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    stats = cast("list[dict[str, dict[str, int]]]", redis_harness.tell_servers("INFO", "commandstats"))
    calls = sum(each["calls"] for of_server in stats for each in of_server.values())
    assert calls < 50, "a number of commands that does not grow with the jobs"
    late = await submitted(store, ids.submission())
    assert late.outcome is Outcome.CACHED
    for submission in (submissions[0], submissions[-1]):
        ticket = await store.get(submission.job_id)
        assert ticket is not None
        assert ticket.status is Status.COMPLETED
    assert await store.get(late.ticket.job.job_id) == late.ticket
    redis_harness.clock.advance(POLICY.retention_seconds)
    assert len(await store.expire(10)) == 1
    # Only the counts of the shard are left.
    assert redis_harness.client.keys("ytmp3:*") == [root_of(conversion.conversion_id).encode()]


async def test_a_hash_written_by_version_0_1_is_read(redis_harness: RedisHarness, ids: Ids) -> None:
    """The fields of a conversion as that version wrote them: `quality` is a field of its own."""
    store = await redis_harness.open()
    submission = ids.submission()
    root, conversion_id = root_of(submission.conversion_id), submission.conversion_id
    fields = {
        "conversion_id": conversion_id, "key": submission.key, "video_id": submission.video_id, "quality": "192k",
        "client": submission.client, "state": "queued", "stage": "queued", "progress": "0.0", "attempts": "0",
        "crashes": "0", "created_at": "1700000000.000000", "riders": "1", "jobs": "1", "token": "1", "holder": "a",
        "due_at": "1700000030.000000",
    }  # fmt: skip
    for name, value in fields.items():
        redis_harness.client.hset(f"{root}:c:{conversion_id}", name, value)
    redis_harness.client.set(f"{root}:k:{submission.key}", conversion_id)
    redis_harness.client.zadd(f"{root}:live", {conversion_id: 1700000030.0})
    joined = await submitted(store, submission)
    assert joined.outcome is Outcome.JOINED
    assert joined.ticket.conversion.recipe == submission.recipe
    assert (await store.claim(joined.ticket.conversion.lease)).recipe == submission.recipe
