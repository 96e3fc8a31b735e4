"""Redis servers in various states: full, evicting, locked, without their scripts, a replica, out of connections."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast

import pytest
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, ResponseError

from tests.contract.harness import METADATA, POLICY, Ids, created, done, running, submitted, track_of
from tests.contract.redis_servers import MakeStore, MakeValkey, until_it_works
from tests.fake_youtube.certificate import issue
from tests.fakes import Clock
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.valkey import Valkey
from tests.stand.waiting import PATIENCE_SECONDS
from ytmp3.core.errors import FailureCode, LeaseLost, StoreDown, StoreFull, StoreUnusable
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import State, Status
from ytmp3.core.states import HEAD_START_SECONDS
from ytmp3.jobstore import Outcome, Renewal
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.redis.link import Caller, RedisLink, pack
from ytmp3.jobstore.settings import RedisTimeouts

SECRET: Final = "correct-horse-battery"


async def test_a_replica_is_down_until_it_is_promoted(make_valkey: MakeValkey, make_store: MakeStore, ids: Ids) -> None:
    server = make_valkey()
    store = make_store(server.address)
    with contextlib.closing(server.client()) as client:
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreDown):
            await submitted(store, ids.submission())
        with pytest.raises(StoreDown):
            await store.ping()
        client.replicaof("NO", "ONE")
    await store.ping()
    await submitted(store, ids.submission())


async def test_a_demoted_server_is_left_for_its_successor_at_the_same_address(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    old, new = make_valkey(), make_valkey()
    async with ChaosProxy(old.port) as proxy:
        store = make_store(proxy.address)
        await asyncio.gather(*(submitted(store, ids.submission(video)) for video in range(50)))
        with contextlib.closing(old.client()) as client:
            client.replicaof("127.0.0.1", str(new.port))
        proxy.lead_to(new.port)
        with pytest.raises(StoreDown, match="READONLY"):
            await submitted(store, ids.submission())
        await asyncio.gather(*(submitted(store, ids.submission(video)) for video in range(50)))


async def test_a_server_without_free_connections_is_down(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey({"maxclients": "3"})
    store = make_store(server.address)
    clients = [server.client() for _ in range(3)]
    for client in clients:
        client.ping()
    with pytest.raises(StoreDown):
        await submitted(store, ids.submission())
    for client in clients:
        client.close()
    await until_it_works(lambda: submitted(store, ids.submission()))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (BusyLoadingError("Redis is loading the dataset in memory", status_code="LOADING"), StoreDown),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots, but"), StoreDown),
        (ReadOnlyError("You can't write against a read only replica.", status_code="READONLY"), StoreDown),
        (ResponseError("BUSY Redis is busy running a script."), StoreDown),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'.", status_code="OOM"), StoreFull),
        (ResponseError("NOPERM User x has no permissions"), StoreUnusable),
        (ResponseError("unknown command"), StoreUnusable),
        (ConnectionResetError(), StoreDown),
    ],
)
def test_each_error_of_redis_means_one_error_of_the_store(answer: Exception, expected: type[Exception]) -> None:
    assert type(RedisLink({"host": "127.0.0.1", "port": 1}, RedisTimeouts()).as_store_error(answer)) is expected


async def test_a_full_redis_refuses_new_jobs_and_lets_every_conversion_end(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey({"maxmemory-policy": "noeviction"})
    clock = Clock()
    store = make_store(server.address, clock=clock)
    await store.open()
    expiring = await done(store, ids.submission(1))
    clock.advance(POLICY.retention_seconds)
    finishing, failing, retrying, releasing = [await running(store, ids.submission(video)) for video in range(2, 6)]
    cancelling, queued = ids.submission(6), await created(store, ids.submission(7))
    await created(store, cancelling)
    with contextlib.closing(server.client()) as client:
        client.config_set("maxmemory", "100kb")
        for refused in (9, 2):
            with pytest.raises(StoreFull):
                await store.submit(ids.submission(refused), may_create=True)
        with pytest.raises(StoreFull):
            await store.ping()
        claimed = await store.claim(queued.lease)
        assert await store.renew([Renewal(lease=claimed.lease, progress=0.5, metadata=METADATA)]) == frozenset()
        finished = await store.finish(finishing.lease, track_of(finishing.lease), METADATA)
        assert finished.state is State.DONE
        await store.fail(failing.lease, FailureCode.PRIVATE)
        await store.retry(retrying.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=0)
        await store.release([releasing.lease])
        ticket = await store.cancel(cancelling.job_id)
        assert ticket is not None
        assert ticket.status is Status.CANCELLED
        clock.advance(HEAD_START_SECONDS)
        adopted = {conversion.conversion_id for conversion in await store.adopt(10)}
        assert adopted == {retrying.conversion_id, releasing.conversion_id}
        assert expiring.track is not None
        assert expiring.track.file_name in await store.expire(100)
        client.config_set("maxmemory", "0")
    await store.ping()
    await submitted(store, ids.submission(9))


async def test_closing_also_closes_a_connection_that_is_being_opened() -> None:
    is_closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"+PONG\r\n")
        is_closed.set()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        link = RedisLink({"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}, RedisTimeouts())
        call = asyncio.create_task(link.exchange(pack([("PING",)]), 1, Caller.HANDLER))
        # Now the call waits for the connection.
        await asyncio.sleep(0)
        await link.close()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await is_closed.wait()


async def test_a_redis_that_evicts_jobs_is_refused_in_one_line(make_valkey: MakeValkey, make_store: MakeStore) -> None:
    server = make_valkey({"maxmemory-policy": "allkeys-lru"})
    store = make_store(server.address)
    with pytest.raises(StoreUnusable, match="allkeys-lru") as refusal:
        await store.open()
    assert "\n" not in str(refusal.value)
    with contextlib.closing(server.client()) as client:
        client.config_set("maxmemory-policy", "noeviction")
        await store.open()
        await store.ping()
        client.config_set("maxmemory-policy", "allkeys-lfu")
        with pytest.raises(StoreUnusable, match="allkeys-lfu"):
            await store.ping()
        client.config_set("maxmemory-policy", "volatile-lru")
        await store.ping()


async def test_a_redis_that_forbids_info_is_used_without_checking_its_policy(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey()
    with contextlib.closing(server.client()) as client:
        client.acl_setuser(
            "worker",
            enabled=True,
            passwords=[f"+{SECRET}"],
            keys=["ytmp3:*"],
            categories=["+@all"],
            commands=["-info", "-config"],
        )
    store = make_store(f"redis://worker:{SECRET}@{server.address}")
    await store.open()
    await store.ping()
    await submitted(store, ids.submission())


@pytest.mark.parametrize("form", ["{address}", "redis://:{password}@{address}", "redis://nobody:{password}@{address}"])
async def test_a_wrong_password_is_reported_in_one_line_that_does_not_hold_it(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids, form: str
) -> None:
    server = make_valkey({"requirepass": "the right one"})
    address = form.format(address=server.address, password=SECRET)
    settings = RedisSettings(address=address, password=SECRET)
    assert SECRET not in repr(settings)
    store = make_store(address, password="" if "{password}" in form else SECRET)
    for call in (store.open, store.ping, lambda: submitted(store, ids.submission())):
        with pytest.raises(StoreUnusable) as refusal:
            await cast("Callable[[], Awaitable[object]]", call)()
        text = str(refusal.value)
        assert SECRET not in text + repr(refusal.value)
        assert "\n" not in text
        assert server.address in text


async def test_a_missing_password_and_a_forbidden_script_are_refused(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey({"requirepass": SECRET})
    with pytest.raises(StoreUnusable, match="NOAUTH"):
        await make_store(server.address).open()
    right = make_store(server.address, password=SECRET)
    await right.open()
    await submitted(right, ids.submission())
    with contextlib.closing(server.client()) as client:
        client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all", "-@scripting"])
    with pytest.raises(StoreUnusable, match="NOPERM"):
        await make_store(f"redis://reader:pw@{server.address}").open()


async def test_a_store_whose_scripts_are_forbidden_later_is_not_ready_until_they_are_permitted(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey()
    with contextlib.closing(server.client()) as client:
        client.acl_setuser("worker", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
        store = make_store(f"redis://worker:pw@{server.address}")
        await store.ping()
        client.acl_setuser("worker", categories=["-@scripting"])
        for call in (store.ping, lambda: submitted(store, ids.submission())):
            with pytest.raises(StoreUnusable, match="NOPERM"):
                await cast("Callable[[], Awaitable[object]]", call)()
        client.acl_setuser("worker", categories=["+@all"])
        await store.ping()


@pytest.mark.parametrize("address", ["redis://:secret@host:port", "redis://host:6379:1", "ftp://host"])
def test_an_invalid_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(StoreUnusable) as refusal:
        RedisJobStore(RedisSettings(address=address), POLICY, InstanceId("a"))
    assert "secret" not in str(refusal.value)


async def test_scripts_that_the_server_forgot_are_sent_again(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(empty_valkey.address)
    with contextlib.closing(empty_valkey.client()) as client:
        for video in range(3):
            client.script_flush()
            conversion = await created(store, ids.submission(video))
            client.script_flush()
            conversion = await store.claim(conversion.lease)
            client.script_flush()
            assert await store.renew([Renewal(lease=conversion.lease)]) == frozenset()


async def test_after_flushall_every_job_is_unknown_and_new_ones_are_accepted(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(empty_valkey.address)
    submission = ids.submission()
    conversion = await running(store, submission)
    with contextlib.closing(empty_valkey.client()) as client:
        client.flushall()
    assert await store.renew([Renewal(lease=conversion.lease)]) == {conversion.conversion_id}
    with pytest.raises(LeaseLost):
        await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
    assert await store.get(submission.job_id) is None
    assert await store.cancel(submission.job_id) is None
    assert (await submitted(store, ids.submission())).outcome is Outcome.CREATED


async def test_a_certificate_that_is_not_trusted_is_named(make_store: MakeStore, tmp_path: Path) -> None:
    ca_file, context = issue(tmp_path)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    for options, reason in (("", "TLS: .*certificate"), (f"?ssl_ca_certs={ca_file}", "TLS: .*(Hostname|IP address)")):
        with pytest.raises(StoreDown, match=reason):
            await make_store(f"rediss://127.0.0.1:{port}{options}").open()
    server.close()
