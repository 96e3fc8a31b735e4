"""Shared by the tests of the Redis adapter: the types of their fixtures, and waiting until a store recovers."""

from collections.abc import Awaitable, Callable

from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.errors import StoreDown
from ytmp3.jobstore.redis import RedisJobStore

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
