"""More calls at one moment than there are connections to Redis."""

import asyncio
import time

from tests.contract.harness import Ids, submitted
from tests.contract.redis_servers import MakeStore
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.waiting import until
from ytmp3.core.errors import StoreDown
from ytmp3.jobstore.redis.link import HANDLER_CONNECTIONS
from ytmp3.jobstore.settings import RedisTimeouts

CALLS = 500


async def test_the_wait_for_a_connection_does_not_count_against_the_timeout_of_a_call(
    proxy: ChaosProxy, make_store: MakeStore, ids: Ids
) -> None:
    handler_seconds = 1.5
    store = make_store(proxy.address, timeouts=RedisTimeouts(handler_seconds=handler_seconds, pool_seconds=600.0))
    await store.open()
    # A single call takes a fifteenth of its timeout; the last one waits for twenty others before it is sent.
    proxy.delay_seconds = 0.1
    started_at = time.monotonic()
    await asyncio.gather(*(submitted(store, ids.submission(video)) for video in range(CALLS)))
    assert time.monotonic() - started_at > handler_seconds
    assert (await store.counts()).pending == CALLS


async def test_calls_that_find_no_connection_in_time_are_refused_and_never_sent(
    proxy: ChaosProxy, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(
        proxy.address, timeouts=RedisTimeouts(handler_seconds=600.0, worker_seconds=600.0, pool_seconds=0.1)
    )
    await store.open()
    proxy.hold_replies()
    calls = [asyncio.create_task(submitted(store, ids.submission(video))) for video in range(CALLS)]
    await until(lambda: sum(call.done() for call in calls) == CALLS - HANDLER_CONNECTIONS, "the others are refused")
    before = proxy.round_trips
    adoption = asyncio.create_task(store.adopt(1))
    await until(lambda: proxy.round_trips == before + 1, "a call of a worker has a connection of its own")
    proxy.release_replies()
    assert await adoption == []
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert {(type(error), "overloaded" in str(error)) for error in errors} == {(StoreDown, True)}
    assert len(errors) == CALLS - HANDLER_CONNECTIONS
    assert (await store.counts()).pending == HANDLER_CONNECTIONS
