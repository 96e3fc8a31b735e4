"""Shared by the tests of the Redis adapter: their marks, the types of their fixtures, and the wait for a recovery."""

from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.errors import StoreDown
from ytmp3.jobstore.redis import RedisJobStore

ON_CLUSTER: Final = [pytest.mark.redis_cluster, pytest.mark.xdist_group("redis-cluster")]
"""The marks of tests on a Redis Cluster. All of them run in one process, so that only one cluster is started."""

MakeValkey = Callable[..., Valkey]
MakeStore = Callable[..., RedisJobStore]


async def until_it_works(call: Callable[[], Awaitable[object]], what: str = "the store answers again") -> None:
    """Repeat a call until it no longer raises StoreDown."""

    async def works() -> bool:
        try:
            await call()
        except StoreDown:
            return False
        return True

    await until(works, what)
