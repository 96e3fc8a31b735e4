"""Under load, primaries of a Redis Cluster are killed or frozen, and replaced by their replicas.

`make soak` repeats each fault ten times. A failover may lose what was acknowledged and not replicated yet: that is how
Redis replicates. Such jobs are counted and printed, and nothing else may be lost.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

import pytest

from tests.contract.harness import Ids, submitted
from tests.contract.redis_servers import ON_CLUSTER, MakeStore, until_it_works
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.redis_cluster import SLOTS, RedisCluster
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.errors import StoreDown
from ytmp3.core.ids import JobId
from ytmp3.jobstore.redis import RedisJobStore
from ytmp3.jobstore.settings import RedisTimeouts

pytestmark = [pytest.mark.soak, *ON_CLUSTER]

ROUNDS: Final = max(1, FUZZ_FACTOR // 2)
SUBMITTERS: Final = 6
TIMEOUTS: Final = RedisTimeouts(handler_seconds=1.0, worker_seconds=2.0)
"""Longer than those of the service, for a busy machine; a frozen node fails calls after this."""


async def all_that_exist(store: RedisJobStore, job_ids: set[JobId]) -> set[JobId]:
    """Return those of the jobs that exist, once all of them can be read."""
    found: set[JobId] = set()

    async def are_read() -> bool:
        with contextlib.suppress(StoreDown):
            some = await store.get_many(sorted(job_ids))
            found.clear()
            found.update(some.tickets)
            return not some.unread
        return False

    await until(are_read, "all jobs can be read")
    return found


@pytest.mark.parametrize(("harm", "heal"), [(Valkey.stop, Valkey.start), (Valkey.freeze, Valkey.thaw)])
async def test_a_failover_under_load_loses_only_what_was_not_replicated(
    own_cluster: RedisCluster,
    make_store: MakeStore,
    ids: Ids,
    harm: Callable[[Valkey], None],
    heal: Callable[[Valkey], None],
) -> None:
    nodes = own_cluster
    store = make_store(nodes.address, timeouts=TIMEOUTS)
    await until_it_works(store.open)
    acknowledged: list[JobId] = []
    is_over = asyncio.Event()

    async def submit() -> None:
        while not is_over.is_set():
            submission = ids.submission(random.randrange(10_000))
            with contextlib.suppress(StoreDown):
                await submitted(store, submission)
                acknowledged.append(submission.job_id)
            # The submitters must not take all of the machine from the servers.
            await asyncio.sleep(0.002)

    async def more_are_acknowledged(count: int) -> None:
        before = len(acknowledged)

        def are_there() -> bool:
            for task in tasks:
                if task.done():
                    task.result()
            return len(acknowledged) >= before + count

        await until(are_there, "jobs are acknowledged")

    tasks = [asyncio.create_task(submit(), name="submit") for _ in range(SUBMITTERS)]
    lost_in_all = 0
    for _ in range(ROUNDS):
        await more_are_acknowledged(100)
        victim = nodes.owner_of(random.randrange(SLOTS))
        successor = nodes.replica_of(victim)
        safe = set(acknowledged)
        await asyncio.to_thread(nodes.wait_until_replicated, victim)
        harm(victim)
        # The other two primaries go on.
        await more_are_acknowledged(50)
        await asyncio.to_thread(nodes.promote, successor)
        heal(victim)
        await asyncio.to_thread(nodes.wait_until_follows, victim)
        await until_it_works(store.ping)
        await more_are_acknowledged(100)
        known = set(acknowledged)
        lost = known - await all_that_exist(store, known)
        assert not lost & safe
        lost_in_all += len(lost)
        acknowledged[:] = [job_id for job_id in acknowledged if job_id not in lost]
    is_over.set()
    await asyncio.gather(*tasks)
    last = set(acknowledged[-100:])
    assert await all_that_exist(store, last) == last
    print(f"{harm.__name__}: {ROUNDS} failovers, {len(acknowledged)} jobs kept, {lost_in_all} not replicated and lost")
