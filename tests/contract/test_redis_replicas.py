"""Replicas of a Redis Cluster answer for the status of jobs, but never with less than the same instance has written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.contract.harness import Ids, submitted
from tests.contract.redis_servers import MakeStore
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.ids import JobId
from ytmp3.core.job import Status
from ytmp3.jobstore.redis import RedisJobStore
from ytmp3.jobstore.redis.replicas import MAX_AGE_SECONDS, OwnWrites

pytestmark = pytest.mark.xdist_group("redis-cluster")


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster of one primary with one replica, which the test may harm."""
    nodes = RedisCluster(tmp_path / "cluster", primaries=1)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


def scripts_run_at(node: Valkey) -> int:
    """Return how often a node has run a script."""
    with contextlib.closing(node.client()) as client:
        stats = cast("dict[str, dict[str, int]]", client.info("commandstats"))
    verbs = ("evalsha", "eval", "evalsha_ro", "eval_ro")
    return sum(stats.get(f"cmdstat_{verb}", {"calls": 0})["calls"] for verb in verbs)


async def status_of(store: RedisJobStore, job_id: JobId) -> Status:
    ticket = await store.get(job_id, may_lag=True)
    assert ticket is not None, "a job is never unknown after it was acknowledged"
    return ticket.status


async def test_replicas_relieve_the_primary_and_show_nothing_older_than_own_writes(
    own_cluster: RedisCluster, make_store: MakeStore, ids: Ids
) -> None:
    primary, replica = own_cluster.nodes
    reader = make_store(own_cluster.address, reads_replicas=True)
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
