"""The store on a Redis Cluster: slots move, primaries die and are replaced, and the others are not affected.

`make redis-cluster-test`, a part of `make soak`, runs the whole contract suite and more programs on the same cluster.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from tests.contract.cluster_nodes import client_listed_at, slot_of, submissions_by_primary
from tests.contract.conftest import cluster_harness
from tests.contract.harness import METADATA, PATIENT, POLICY, Ids, running, submitted, track_of
from tests.contract.redis_servers import ON_CLUSTER, MakeStore, MakeValkey, until_it_works
from tests.contract.test_model import PROGRAM_SETTINGS, SOAK_PROGRAMS
from tests.contract.time_machine import TimeMachine
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.errors import FailureCode, StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.core.ids import InstanceId, JobId, shard_of
from ytmp3.jobstore import Renewal, Submission
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.slots import slots_of
from ytmp3.jobstore.settings import RedisTimeouts, addresses_of

pytestmark = ON_CLUSTER

QUICK: Final = RedisTimeouts(handler_seconds=0.3, worker_seconds=0.3)
"""For calls that must fail: they may fail late, but not after the minute of PATIENT. On a busy machine, other calls may
fail as well. So these are repeated (`until_it_works`), or made with PATIENT."""


def records_of(slot: int, *nodes: Valkey) -> dict[tuple[int, bytes], object]:
    """Return every key of a slot on some nodes, with its content."""
    found: dict[tuple[int, bytes], object] = {}
    for node in nodes:
        with contextlib.closing(node.client()) as client:
            execute = cast("Callable[..., object]", client.execute_command)
            for key in cast("list[bytes]", execute("CLUSTER", "GETKEYSINSLOT", slot, 1000)):
                # Both go over the same connection, because each returns it before the next takes one.
                execute("ASKING")
                found[node.port, key] = execute("DUMP", key)
    return found


def test_programs_on_a_cluster_behave_as_the_model(redis_cluster: RedisCluster) -> None:
    """A few, for `make test`: `test_model` runs more of them in `make soak`."""

    class Machine(TimeMachine):
        def __init__(self) -> None:
            redis_cluster.empty()
            super().__init__(lambda: cluster_harness(redis_cluster))

    programs = max(2, PROGRAM_SETTINGS.max_examples // 10)
    steps = PROGRAM_SETTINGS.stateful_step_count if SOAK_PROGRAMS else 25
    run_state_machine_as_test(
        Machine, settings=settings(PROGRAM_SETTINGS, max_examples=programs, stateful_step_count=steps)
    )


@pytest.mark.parametrize("way", ["at once", "key by key"])
async def test_while_a_slot_moves_no_call_fails_and_no_record_is_lost(
    empty_cluster: RedisCluster, make_store: MakeStore, ids: Ids, way: str
) -> None:
    nodes, store = empty_cluster, make_store(empty_cluster.address)
    slot = slot_of(ids.submission(1))
    source = nodes.owner_of(slot)
    target = next(node for node in nodes.nodes[:3] if node is not source)
    acknowledged: list[JobId] = []
    is_over = asyncio.Event()

    async def work() -> None:
        """Take one conversion of the slot after another from its creation to its end; any error fails the test."""
        while not is_over.is_set():
            submission = ids.submission(1)
            ticket = (await submitted(store, submission)).ticket
            acknowledged.append(submission.job_id)
            assert await store.get(submission.job_id) is not None
            if not ticket.job.deduplicated:
                lease = (await store.claim(ticket.conversion.lease)).lease
                assert await store.renew([Renewal(lease=lease, progress=0.5)]) == frozenset()
                await store.fail(lease, FailureCode.PRIVATE)

    def move(source: Valkey, target: Valkey) -> None:
        if way == "at once":
            nodes.move_at_once(slot, source, target)
            return
        nodes.begin_to_move(slot, source, target)
        while nodes.move_keys(slot, source, target, most=7):
            pass
        nodes.end_move(slot, source, target)

    tasks = [asyncio.create_task(work()) for _ in range(6)]
    for first, second in ((source, target), (target, source)):
        before = len(acknowledged)
        await until(lambda before=before: len(acknowledged) > before + 20, "jobs are acknowledged")  # type: ignore[misc]
        await asyncio.to_thread(move, first, second)
    is_over.set()
    await asyncio.gather(*tasks)
    assert nodes.owner_of(slot) is source
    assert set((await store.get_many(acknowledged)).tickets) == set(acknowledged)
    counts = await store.counts()
    assert counts.pending + counts.processing + counts.failed == len(acknowledged), "each job is counted once"


async def test_a_call_on_a_slot_that_is_half_moved_changes_nothing_and_fails_in_time(
    empty_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    nodes = empty_cluster
    patient, store = make_store(nodes.address), make_store(nodes.address, timeouts=QUICK)
    submission = ids.submission(1)
    conversion = await running(patient, submission)
    other = ids.submission(2)
    slot, source = slot_of(submission), nodes.owner_of(slot_of(submission))
    assert slot_of(other) != slot
    target = next(node for node in nodes.nodes[:3] if node is not source)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: submitted(store, ids.submission(1)),
        lambda: store.cancel(submission.job_id),
        lambda: store.renew([Renewal(lease=conversion.lease, progress=0.5)]),
        lambda: store.finish(conversion.lease, track_of(conversion.lease), METADATA),
        lambda: store.fail(conversion.lease, FailureCode.PRIVATE),
        lambda: store.retry(conversion.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=0),
        lambda: store.release([conversion.lease]),
    ]
    nodes.begin_to_move(slot, source, target)
    while True:
        before = records_of(slot, source, target)
        for call in calls:
            with pytest.raises(StoreDown):
                await call()
        assert records_of(slot, source, target) == before
        found = await submitted(patient, other)
        assert found.ticket.job.job_id == other.job_id, "other slots are not affected"
        if not nodes.move_keys(slot, source, target, most=2):
            break
    nodes.end_move(slot, source, target)
    await patient.finish(conversion.lease, track_of(conversion.lease), METADATA)
    nodes.move_at_once(slot, target, source)


async def test_the_check_takes_no_slot_that_is_half_moved_for_a_fault(
    empty_cluster: RedisCluster, make_store: MakeStore
) -> None:
    nodes, store = empty_cluster, make_store(empty_cluster.address)
    root = Keys().roots[0]
    (slot,) = slots_of([root]).values()
    source = nodes.owner_of(slot)
    target = next(node for node in nodes.nodes[:3] if node is not source)
    # The script of the check finds this key, and misses others.
    nodes.command(source, "HSET", root, "queued", "0")
    nodes.begin_to_move(slot, source, target)
    try:
        assert await store.ping() is None
        assert await store.adopt(10) == []
    finally:
        for node in (source, target):
            nodes.command(node, "CLUSTER", "SETSLOT", str(slot), "STABLE")


async def test_a_full_node_fails_no_job_of_another_node(
    empty_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    nodes, store = empty_cluster, make_store(empty_cluster.address)
    full, elsewhere, _ = by_node = submissions_by_primary(nodes, ids)
    listed = [replace(each, client=client_listed_at(nodes, full), is_listed=True) for each in by_node[elsewhere][:3]]
    nodes.command(full, "CONFIG", "SET", "maxmemory", "1")
    try:
        for submission in listed:
            await submitted(store, submission)
        for faults in (await asyncio.gather(store.ping(), store.ping()), [await store.ping()]):
            assert all(fault is not None and "out of memory" in fault for fault in faults)
        with pytest.raises(StoreFull):
            await submitted(store, by_node[full][0])
    finally:
        nodes.command(full, "CONFIG", "SET", "maxmemory", "0")
    assert await store.ping() is None
    found = await store.clients.jobs_of(listed[0].client, before=None, limit=10)
    assert set(found.tickets) == {submission.job_id for submission in listed}


async def test_a_list_that_cannot_be_used_is_a_fault_of_the_records(
    empty_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    nodes, store = empty_cluster, make_store(empty_cluster.address)
    full, elsewhere, _ = by_node = submissions_by_primary(nodes, ids)
    client = client_listed_at(nodes, full)
    nodes.command(full, "CONFIG", "SET", "maxmemory", "1")
    try:
        await submitted(store, replace(by_node[elsewhere][0], client=client, is_listed=True))
    finally:
        nodes.command(full, "CONFIG", "SET", "maxmemory", "0")
    listed = f"{Keys().root_of(shard_of(client))}:o:{client}"
    nodes.command(full, "SET", listed, "of another program")
    for _ in range(2):
        assert "WRONGTYPE" in (await store.ping() or "")
    nodes.command(full, "DEL", listed)
    assert await store.ping() is None
    assert len((await store.clients.jobs_of(client, before=None, limit=10)).tickets) == 1


async def test_a_dead_primary_fails_its_share_of_the_jobs_until_its_replica_is_promoted(
    own_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    nodes = own_cluster
    store = make_store(nodes.address, timeouts=QUICK)
    await until_it_works(store.open)
    by_node = submissions_by_primary(nodes, ids)
    for first, *_ in by_node.values():
        await until_it_works(lambda first=first: submitted(store, first))  # type: ignore[misc]
    victims = list(by_node)[:2]
    for victim, harm in zip(victims, (Valkey.stop, Valkey.freeze), strict=True):
        nodes.wait_until_replicated(victim)
        elsewhere = next(node for node in by_node if node is not victim)
        listed = replace(by_node[elsewhere][4], client=client_listed_at(nodes, victim), is_listed=True)
        harm(victim)
        # The first call that fails is the one that notices; the breaker of this node then fails the others at once.
        for submission in by_node[victim][:3]:
            with pytest.raises(StoreDown):
                await submitted(store, submission)
        for node, (_, *others) in by_node.items():
            if node is not victim:
                for submission in others[:3]:
                    await until_it_works(lambda submission=submission: submitted(store, submission))  # type: ignore[misc]
        # The list of its client is at the victim, and the job is not.
        await until_it_works(lambda listed=listed: submitted(store, listed))  # type: ignore[misc]
        await until_fault(store, victim.address)
        # These ask all nodes. On a slow machine, the leases of this test may have run out.
        await until_it_works(lambda: store.adopt(10))
        await until_it_works(lambda: store.expire(10))
        await until_it_works(store.now)
        nodes.promote(nodes.replica_of(victim))
        for submission in by_node[victim][:3]:
            await until_it_works(lambda submission=submission: submitted(store, submission))  # type: ignore[misc]

        async def is_there(first: Submission = by_node[victim][0]) -> bool:
            with contextlib.suppress(StoreDown):
                return await store.get(first.job_id) is not None
            return False

        async def is_listed(listed: Submission = listed) -> bool:
            with contextlib.suppress(StoreDown):
                found = await store.clients.jobs_of(listed.client, before=None, limit=10)
                return list(found.tickets) == [listed.job_id]
            return False

        await until(is_there, "what the replica had is there")
        await until_no_fault(store)
        await until(is_listed, "the job is in the list of its client")


async def until_fault(store: RedisJobStore, address: str) -> None:
    """Wait until the check names the fault of a node. On a busy machine, it may name another node before."""

    async def has_fault() -> bool:
        with contextlib.suppress(StoreDown):
            return address in (await store.ping() or "")
        return False

    await until(has_fault, f"the check names {address}")


async def until_no_fault(store: RedisJobStore) -> None:
    async def has_none() -> bool:
        with contextlib.suppress(StoreDown):
            return await store.ping() is None
        return False

    await until(has_none, "the check names no fault")


async def test_addresses_that_are_not_a_cluster_are_named(make_valkey: MakeValkey, make_store: MakeStore) -> None:
    server = make_valkey()
    for address in (f"cluster://{server.address}", f"{server.address},{server.address}"):
        with pytest.raises(StoreUnusable, match=r"not a node of a Redis Cluster.*REDIS_ADDR"):
            await make_store(address).open()
    assert addresses_of("u:p@a:1, b:2?x=1") == (True, ("redis://u:p@a:1?x=1", "redis://u:p@b:2?x=1"))
    for address, db in (("a:1,b:2", 1), ("cluster://a:1/2", 0)):
        with pytest.raises(StoreUnusable, match="REDIS_DB: expected 0"):
            RedisJobStore(RedisSettings(address=address, db=db), POLICY, InstanceId("a"), timeouts=PATIENT)


async def test_a_cluster_that_is_down_fails_calls_at_once_and_works_when_it_is_there(
    tmp_path: Path, make_store: MakeStore, ids: Ids
) -> None:
    nodes = RedisCluster(tmp_path / "cluster", has_replicas=False)
    # One address is enough to find the others.
    store = make_store(f"cluster://{nodes.nodes[1].address}", timeouts=QUICK)
    for call in (
        store.open,
        store.ping,
        store.counts,
        lambda: store.adopt(1),
        lambda: submitted(store, ids.submission()),
    ):
        with pytest.raises(StoreError, match="connection refused"):
            await cast("Callable[[], Awaitable[object]]", call)()
    try:
        await asyncio.to_thread(nodes.start)
        await until_it_works(store.open)
        for submissions in submissions_by_primary(nodes, ids).values():
            await until_it_works(lambda some=submissions: submitted(store, some[0]))  # type: ignore[misc]
    finally:
        nodes.stop()
