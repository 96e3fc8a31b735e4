"""Redis is absent, frozen, silent or killed: calls fail in time, and no record is lost."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, cast

import pytest
import redis

from tests.contract.harness import Ids, created, submitted
from tests.contract.redis_servers import MakeStore, MakeValkey, until_it_works
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.ports import free_port
from tests.stand.silent_address import silent_address
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from tests.virtual_time import VirtualTimeLoop
from ytmp3.core.errors import StoreDown
from ytmp3.core.ids import JobId
from ytmp3.jobstore.redis.link import HANDLER_CONNECTIONS, WORKER_CONNECTIONS, Caller, RedisLink, deadline, pack
from ytmp3.jobstore.settings import RedisTimeouts

BOUND_SECONDS: Final = 120.0
"""Far above the timeouts of the calls that it bounds, and below those that no call of the test may wait for."""
SHORT: Final = RedisTimeouts(worker_seconds=600.0, pool_seconds=600.0)
"""The timeouts of the service for calls of handlers, and for all others more than any test waits."""
NEVER_AGAIN: Final = RedisTimeouts(worker_seconds=600.0, pool_seconds=600.0, rest_seconds=600.0)
"""The same, but after one failure no call is sent for the rest of the test."""


async def test_a_store_without_redis_fails_at_once_and_works_when_redis_is_there(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey(start=False)
    store = make_store(server.address)
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(StoreDown):
            await store.open()
        for _ in range(5):
            with pytest.raises(StoreDown):
                await submitted(store, ids.submission())
    server.start()
    await until_it_works(store.ping)
    await until_it_works(lambda: submitted(store, ids.submission()))
    await store.open()


def test_a_call_that_a_handler_waits_for_ends_within_250_ms() -> None:
    async def wait_in_vain() -> float:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        with pytest.raises(TimeoutError):
            async with deadline(RedisTimeouts().handler_seconds):
                await asyncio.Event().wait()
        return loop.time() - started_at

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert RedisTimeouts().handler_seconds <= runner.run(wait_in_vain()) <= 0.25 + 1e-6


async def test_a_shortened_timeout_says_nothing_about_the_server(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    link = RedisLink({"host": "127.0.0.1", "port": server.port}, NEVER_AGAIN)
    server.freeze()
    with pytest.raises(StoreDown):
        await link.exchange(pack([("PING",)]), 1, Caller.WORKER, within_seconds=0.01)
    assert link.is_up
    with pytest.raises(StoreDown):
        await link.exchange(pack([("PING",)]), 1, Caller.HANDLER)
    assert not link.is_up
    server.thaw()
    await link.close()


async def test_no_handler_waits_for_a_frozen_redis(make_valkey: MakeValkey, make_store: MakeStore, ids: Ids) -> None:
    server = make_valkey()
    store = make_store(server.address, timeouts=SHORT)
    submission = ids.submission()
    await until_it_works(lambda: submitted(store, submission))
    server.freeze()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: submitted(store, ids.submission()),
        lambda: store.get(submission.job_id),
        lambda: store.cancel(submission.job_id),
        store.ping,
        store.counts,
    ]
    async with asyncio.timeout(BOUND_SECONDS):
        for _ in range(3):
            errors = await asyncio.gather(*(call() for call in calls * 20), return_exceptions=True)
            assert {type(error) for error in errors} == {StoreDown}
    server.thaw()
    await until_it_works(store.ping)
    await until_it_works(lambda: store.get(submission.job_id))
    assert await store.get(submission.job_id) is not None


async def test_after_a_failure_calls_fail_without_being_sent(proxy: ChaosProxy, make_store: MakeStore) -> None:
    store = make_store(proxy.address, timeouts=NEVER_AGAIN)
    await store.open()
    proxy.is_silent = True
    with pytest.raises(StoreDown, match="no reply within"):
        await store.ping()
    before = proxy.round_trips
    for _ in range(50):
        with pytest.raises(StoreDown, match="circuit breaker open after a failure"):
            await store.ping()
    assert proxy.round_trips == before


async def test_a_host_that_drops_packets_is_reported_with_the_reason(make_store: MakeStore) -> None:
    with silent_address() as (host, port):
        timeouts = RedisTimeouts(handler_seconds=60.0, worker_seconds=60.0, connect_seconds=0.05)
        store = make_store(f"{host}:{port}", timeouts=timeouts)
        with pytest.raises(StoreDown, match="no connection in time"):
            await store.open()


async def test_an_absent_redis_is_reported_with_the_reason(make_store: MakeStore) -> None:
    address = f"127.0.0.1:{free_port()}"
    store = make_store(address, timeouts=NEVER_AGAIN)
    for text in ("connection refused", "circuit breaker open after a failure: connection refused"):
        with pytest.raises(StoreDown, match=f"^Redis at {address}: {text}$"):
            await store.ping()


async def test_calls_that_wait_for_a_connection_fail_together_when_redis_falls_silent(
    proxy: ChaosProxy, make_store: MakeStore
) -> None:
    store = make_store(proxy.address, timeouts=NEVER_AGAIN)
    await store.open()
    proxy.is_silent = True
    before = proxy.round_trips
    errors = await asyncio.gather(*(store.ping() for _ in range(1000)), return_exceptions=True)
    assert {type(error) for error in errors} == {StoreDown}
    assert proxy.round_trips - before <= HANDLER_CONNECTIONS, "the others were never sent"


async def test_workers_that_wait_for_a_silent_redis_hold_up_no_handler(
    proxy: ChaosProxy, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(proxy.address, timeouts=SHORT)
    # Through another store, which waits for a reply for as long as a busy machine takes.
    lease = (await created(make_store(proxy.address), ids.submission())).lease
    proxy.is_silent = True
    before = proxy.round_trips
    claims = [asyncio.create_task(store.claim(lease)) for _ in range(50)]
    await until(lambda: proxy.round_trips - before == WORKER_CONNECTIONS, "all connections of workers are in use")
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(StoreDown):
            await store.ping()
    assert not any(claim.done() for claim in claims)
    for claim in claims:
        claim.cancel()
    await asyncio.gather(*claims, return_exceptions=True)


async def test_a_store_works_again_after_redis_was_silent(proxy: ChaosProxy, make_store: MakeStore, ids: Ids) -> None:
    store = make_store(proxy.address, timeouts=SHORT)
    await store.open()
    proxy.is_silent = True
    submission = ids.submission()
    async with asyncio.timeout(BOUND_SECONDS):
        for _ in range(4):
            with pytest.raises(StoreDown):
                await submitted(store, submission)
    proxy.is_silent = False
    await until_it_works(lambda: submitted(store, submission))
    await until_it_works(store.counts)
    assert (await store.counts()).pending == 1, "the calls without a reply took effect once"


async def test_every_acknowledged_job_survives_a_kill_and_restart_with_an_append_only_file(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    # With `everysec`, Redis holds back writes while the disk is busy, and a kill loses them.
    server = make_valkey({"appendonly": "yes", "appendfsync": "always"})
    store = make_store(server.address)
    await store.open()
    acknowledged: list[JobId] = []

    async def submit_until_it_breaks() -> None:
        with contextlib.suppress(StoreDown):
            while True:
                submission = ids.submission(random.randrange(1000))
                await submitted(store, submission)
                acknowledged.append(submission.job_id)

    tasks = [asyncio.create_task(submit_until_it_breaks()) for _ in range(10)]
    await until(lambda: len(acknowledged) > 50, "fifty submissions are acknowledged")
    server.stop()
    await asyncio.gather(*tasks)
    server.start()
    await until_it_works(store.ping)
    tickets = [await store.get(job_id) for job_id in acknowledged]
    assert None not in tickets
    assert (await store.counts()).pending >= len(acknowledged)


def kill_all_clients(client: redis.Redis) -> None:
    cast("Callable[..., object]", client.execute_command)("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def admit_no_client(client: redis.Redis) -> None:
    client.config_set("maxclients", "1")
    kill_all_clients(client)
    time.sleep(0.05)
    client.config_set("maxclients", "1000")


def demote_and_promote(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")
    time.sleep(0.02)
    client.replicaof("NO", "ONE")


def block_with_a_script(client: redis.Redis) -> None:
    client.config_set("busy-reply-threshold", "10")
    ends_at = time.time() + 0.1
    busy = f"while true do local t = redis.call('TIME') if t[1] + t[2] / 1000000 > {ends_at} then return 1 end end"
    cast("Callable[..., object]", client.eval)(busy, 0)


@pytest.mark.parametrize(
    "harm", [kill_all_clients, admit_no_client, demote_and_promote, block_with_a_script, redis.Redis.script_flush]
)
async def test_no_acknowledged_job_and_no_connection_is_lost_whatever_is_done_to_the_server(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids, harm: Callable[[redis.Redis], object]
) -> None:
    server = make_valkey()
    store = make_store(server.address)
    await store.open()
    acknowledged: list[JobId] = []
    is_over = asyncio.Event()

    async def submit_until_it_is_over() -> None:
        while not is_over.is_set():
            submission = ids.submission(len(acknowledged) % 100)
            try:
                await submitted(store, submission)
            except StoreDown:
                await asyncio.sleep(0.01)
            else:
                acknowledged.append(submission.job_id)

    with contextlib.closing(server.client()) as client:
        tasks = [asyncio.create_task(submit_until_it_is_over()) for _ in range(40)]
        for _ in range(3):
            await asyncio.to_thread(harm, client)
            before = len(acknowledged)
            await until(lambda before=before: len(acknowledged) > before, "a submission is acknowledged")  # type: ignore[misc]
        is_over.set()
        await asyncio.gather(*tasks)
        await until_it_works(store.ping)
        assert None not in [await store.get(job_id) for job_id in acknowledged]

        def connections() -> int:
            return cast("dict[str, int]", client.info("clients"))["connected_clients"]

        await until(
            lambda: connections() <= 1 + HANDLER_CONNECTIONS + WORKER_CONNECTIONS,
            "the server has closed old connections",
        )


async def test_one_long_block_of_the_event_loop_is_not_taken_for_a_silent_redis(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    # The block is longer than the timeout; all of the timeout but one step is left after it.
    store = make_store(empty_valkey.address, timeouts=RedisTimeouts(handler_seconds=1.0))
    submission = ids.submission()
    await submitted(store, submission)
    reading = asyncio.create_task(store.get(submission.job_id))
    await asyncio.sleep(0)
    time.sleep(1.2)  # noqa: ASYNC251  the block
    assert await reading is not None


async def test_a_block_at_each_step_of_a_call_is_not_taken_for_a_silent_redis(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    # The blocks add up to more than the timeout. It has fifty steps, and the call needs some five turns of the loop.
    store = make_store(empty_valkey.address, timeouts=RedisTimeouts(handler_seconds=1.5))
    submitting = asyncio.create_task(submitted(store, ids.submission()))
    started_at = time.monotonic()
    while not submitting.done():
        time.sleep(0.4)  # noqa: ASYNC251  the block
        await asyncio.sleep(0)
    await submitting
    assert time.monotonic() - started_at > 1.5
