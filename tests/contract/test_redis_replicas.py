"""Replicas of a Redis Cluster answer for the status of jobs, but never with less than the same instance has written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.harness import Ids, submitted
from tests.contract.redis_servers import ON_CLUSTER, MakeStore, until_it_works
from tests.contract.test_hints import Hinted
from tests.contract.test_redis_cluster_login import RIGHTS
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import SCRIPT_COMMANDS, Valkey
from tests.stand.waiting import until
from ytmp3.core.ids import JobId
from ytmp3.core.job import Status
from ytmp3.jobstore.redis import RedisJobStore, replicas
from ytmp3.jobstore.redis.replicas import MAX_AGE_SECONDS, OwnWrites

MORE_RIGHTS = ("+readonly", "+readwrite", "+role", "+evalsha_ro", "+eval_ro")
"""What docs/operating.md names besides the rights of a user without replicas."""

pytestmark = ON_CLUSTER


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster of one primary with one replica, which the test may harm."""
    with RedisCluster(tmp_path / "cluster", primaries=1).running() as nodes:
        yield nodes


def scripts_run_at(node: Valkey) -> int:
    """Return how often a node has run a script."""
    calls = node.calls()
    return sum(calls[name] for name in SCRIPT_COMMANDS)


def replica_connections(node: Valkey) -> int:
    """Return the number of connections on which a node replies although it is a replica (READONLY)."""
    with contextlib.closing(node.client()) as client:
        return sum("r" in each["flags"] for each in client.client_list())


async def status_of(store: RedisJobStore, job_id: JobId) -> Status:
    ticket = await store.get(job_id, may_lag=True)
    assert ticket is not None, "a job is never unknown after it was acknowledged"
    return ticket.status


async def test_replicas_relieve_the_primary_and_show_nothing_older_than_own_writes(
    own_cluster: RedisCluster, make_store: MakeStore, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "MAP_SECONDS", 0.0)
    primary, replica = own_cluster.nodes
    for node in own_cluster.nodes:
        own_cluster.command(node, "ACL", "SETUSER", "worker", "on", ">secret", *RIGHTS, *MORE_RIGHTS)
    reader = make_store(own_cluster.address.replace("://", "://worker:secret@"), reads_replicas=True)
    writer = make_store(own_cluster.address)
    submissions = [ids.submission(video) for video in range(40)]
    for submission in submissions:
        await submitted(writer, submission)
        assert await status_of(reader, submission.job_id) is Status.PENDING

    async def reads_from_replica() -> bool:
        before = scripts_run_at(replica)
        await status_of(reader, submissions[0].job_id)
        return scripts_run_at(replica) > before

    await until(reads_from_replica, "the replica is used")
    before = scripts_run_at(primary)
    for submission in submissions:
        await status_of(reader, submission.job_id)
    assert scripts_run_at(primary) == before, "the primary is not asked at all"
    assert replica_connections(replica) == 0, "on no connection, a replica would reply to decisions"

    # The replica gets no more writes.
    own_cluster.command(primary, "ACL", "SETUSER", "default", "-psync", "-sync")
    own_cluster.command(primary, "CLIENT", "KILL", "TYPE", "replica")
    own, new, other = submissions[0].job_id, ids.submission(99), submissions[1].job_id
    await reader.cancel(own)
    assert await status_of(reader, own) is Status.CANCELLED
    await submitted(reader, new)
    assert await status_of(reader, new.job_id) is Status.PENDING
    await writer.cancel(other)

    async def shows_the_other_write() -> bool:
        return await status_of(reader, other) is Status.CANCELLED

    await until(shows_the_other_write, "a replica that is behind is not used any more")
    assert await status_of(reader, own) is Status.CANCELLED

    own_cluster.command(primary, "ACL", "SETUSER", "default", "+psync", "+sync")
    await until(reads_from_replica, "the replica is used again after it has caught up")
    own_cluster.promote(replica)
    own_cluster.wait_until_follows(primary)
    replica = primary
    await until(reads_from_replica, "after the failover, the old primary is used as a replica")
    replica.stop()
    assert await status_of(reader, submissions[2].job_id) is Status.PENDING


def test_writes_are_remembered_as_long_as_a_replica_may_be_behind() -> None:
    now = 100.0
    writes = OwnWrites(lambda: now)
    writes.note("a", "b")
    assert not writes.are_before(100.0, ["a"])
    assert writes.are_before(100.5, ["a", "b", "c"])
    now += MAX_AGE_SECONDS
    writes.note("b")
    assert not writes.are_before(100.0, ["a"])
    now += 0.5
    writes.note()
    assert writes.are_before(99.0, ["a"]), "forgotten, because no replica that is behind it is used"
    assert not writes.are_before(now - 0.5, ["b"])


async def test_hints_go_on_after_the_node_that_sent_them_has_left(
    own_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    old, new = own_cluster.nodes
    store = make_store(own_cluster.address)
    hinted = Hinted(store)
    ticket = (await submitted(store, ids.submission())).ticket
    store.hints.watch(ticket.conversion.conversion_id)
    await hinted.next()
    own_cluster.wait_until_replicated(old)
    own_cluster.promote(new)
    own_cluster.wait_until_follows(old)
    own_cluster.command(new, "CLUSTER", "FORGET", own_cluster.id_of(old))
    own_cluster.command(old, "CLUSTER", "RESET")
    await until_it_works(lambda: store.cancel(ticket.job.job_id))
    assert await hinted.next() == (ticket.conversion.conversion_id, True), "it subscribes at another node"
