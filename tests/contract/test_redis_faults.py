"""Redis absent, frozen, killed, full, evicting, locked, forgetful; and the wire to it on a bad day."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar, cast

import pytest
import redis
from msgspec.structs import replace
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, ResponseError

from tests.contract.stands import METADATA, POLICY, Ids, RedisStand, created, done, running, submitted, track_of
from tests.fakes import Clock
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.ports import free_port
from tests.stand.valkey import Valkey
from ytmp3.core.errors import FailureCode, LeaseLost, StoreDown, StoreFull, StoreUnusable
from ytmp3.core.ids import InstanceId, JobId
from ytmp3.core.job import Lease, State, Status
from ytmp3.jobstore import JobStore, Outcome, Renewal, Submission
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.redis import link as redis_link
from ytmp3.jobstore.redis.link import RedisLink
from ytmp3.jobstore.redis.records import root_of
from ytmp3.jobstore.settings import RedisTimeouts

HANDLER_BUDGET_SECONDS: Final = 0.3
BUSY_MACHINE_SECONDS: Final = 0.5
"""What a single call may take while other tests use the same cores: its own waits add up to 250 ms."""
CROWD_OF_WORKERS: Final = 50
"""More than the link has connections."""
SECRET: Final = "correct-horse-battery"

MakeValkey = Callable[..., Valkey]
MakeStore = Callable[..., RedisJobStore]
T = TypeVar("T")


@pytest.fixture
def make_valkey(tmp_path: Path) -> Iterator[MakeValkey]:
    """Servers of a test's own, to be mistreated."""
    servers: list[Valkey] = []

    def make(settings: Mapping[str, str] | None = None, *, start: bool = True) -> Valkey:
        folder = tmp_path / f"valkey-{len(servers)}"
        folder.mkdir()
        server = Valkey(folder, settings=settings)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
async def make_store() -> AsyncIterator[MakeStore]:
    """Stores on the server's clock, not yet opened."""
    stores: list[RedisJobStore] = []

    def make(
        address: str, *, password: str = "", clock: Clock | None = None, timeouts: RedisTimeouts | None = None
    ) -> RedisJobStore:
        settings = RedisSettings(address=address, password=password)
        store = RedisJobStore(settings, POLICY, InstanceId("a"), clock=clock, timeouts=timeouts)
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
async def redis_stand(empty_valkey: Valkey) -> AsyncIterator[RedisStand]:
    stand = RedisStand(RedisSettings(address=empty_valkey.address))
    yield stand
    await stand.close()


@pytest.fixture
async def proxy(empty_valkey: Valkey) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy(empty_valkey.port) as running_proxy:
        yield running_proxy


async def seconds_to_fail(call: Callable[[], Awaitable[object]]) -> float:
    started = time.monotonic()
    with pytest.raises(StoreDown):
        await call()
    return time.monotonic() - started


async def until_it_works(call: Callable[[], Awaitable[object]], *, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(StoreDown):
                await call()
                return
            await asyncio.sleep(0.02)


# down, frozen, killed


async def test_a_store_without_redis_fails_fast_and_works_once_redis_is_there(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey(start=False)
    store = make_store(server.address)
    assert await seconds_to_fail(store.open) < BUSY_MACHINE_SECONDS
    for _ in range(5):
        assert await seconds_to_fail(lambda: submitted(store, ids.submission())) < BUSY_MACHINE_SECONDS
        await asyncio.sleep(0.05)
    server.start()
    await until_it_works(store.ping)
    await until_it_works(lambda: submitted(store, ids.submission()))
    await store.open()


async def test_no_handler_waits_over_300_ms_on_a_frozen_redis(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey()
    store = make_store(server.address)
    submission = ids.submission()
    await submitted(store, submission)
    server.freeze()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: submitted(store, ids.submission()),
        lambda: store.get(submission.job_id),
        lambda: store.cancel(submission.job_id),
        store.ping,
        store.counts,
    ]
    waits = await asyncio.gather(*(seconds_to_fail(call) for call in calls * 20))
    assert sorted(waits)[len(waits) // 2] < HANDLER_BUDGET_SECONDS
    assert max(waits) < BUSY_MACHINE_SECONDS
    waits = []
    for _ in range(10):
        waits += [await seconds_to_fail(call) for call in calls]
        await asyncio.sleep(0.02)
    assert max(waits) < BUSY_MACHINE_SECONDS
    assert sorted(waits)[len(waits) // 2] < 0.01, "after a failure the others fail at once"
    server.thaw()
    await until_it_works(store.ping, seconds=1.0)
    ticket = await store.get(submission.job_id)
    assert ticket is not None


async def test_a_thousand_calls_that_wait_fail_together_on_a_frozen_redis(
    make_valkey: MakeValkey, make_store: MakeStore
) -> None:
    server = make_valkey()
    store = make_store(server.address)
    await store.ping()
    server.freeze()
    waits = await asyncio.gather(*(seconds_to_fail(store.ping) for _ in range(1000)))
    # One after the other, 24 at a time, they would take ten seconds; a busy machine takes a while for a thousand tasks.
    assert max(waits) < 4 * HANDLER_BUDGET_SECONDS


async def test_workers_trying_a_frozen_redis_hold_up_no_handler(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey()
    store = make_store(server.address)
    lease = (await created(store, ids.submission())).lease
    server.freeze()
    workers = [asyncio.create_task(seconds_to_fail(lambda: store.claim(lease))) for _ in range(CROWD_OF_WORKERS)]
    await asyncio.sleep(0.01)
    for _ in range(5):
        assert await seconds_to_fail(store.ping) < BUSY_MACHINE_SECONDS
        await asyncio.sleep(0.1)
    await asyncio.gather(*workers)


async def test_a_crowd_is_not_a_dead_redis(proxy: ChaosProxy, make_store: MakeStore, ids: Ids) -> None:
    store = make_store(proxy.address)
    await store.open()
    proxy.delay_seconds = 0.02
    started = time.monotonic()
    await asyncio.gather(*(submitted(store, ids.submission(video)) for video in range(500)))
    assert time.monotonic() - started > HANDLER_BUDGET_SECONDS, "the last waited longer than one does for Redis"
    assert (await store.counts()).pending == 500


async def test_what_is_over_the_crowd_is_refused_and_breaks_nothing(
    proxy: ChaosProxy, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(proxy.address, timeouts=RedisTimeouts(handler_seconds=60.0, pool_seconds=0.1))
    await store.open()
    proxy.delay_seconds = 0.03
    crowd = [asyncio.create_task(submitted(store, ids.submission(video))) for video in range(500)]
    await asyncio.wait(crowd, return_when=asyncio.FIRST_EXCEPTION)
    assert await store.adopt(1) == [], "others have their turn"
    errors = [error for error in await asyncio.gather(*crowd, return_exceptions=True) if isinstance(error, Exception)]
    assert errors
    assert {(type(error), "overloaded" in str(error)) for error in errors} == {(StoreDown, True)}
    assert (await store.counts()).pending == 500 - len(errors) > 0, "nothing of a refused call was sent"


async def test_everything_acknowledged_survives_a_kill_and_restart_with_an_append_only_file(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey({"appendonly": "yes", "appendfsync": "everysec"})
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
    await asyncio.sleep(0.3)
    server.stop()
    await asyncio.gather(*tasks)
    server.start()
    await until_it_works(store.ping)
    assert len(acknowledged) > 50
    tickets = [await store.get(job_id) for job_id in acknowledged]
    assert None not in tickets
    assert (await store.counts()).pending >= len(acknowledged)


async def test_a_replica_is_down_and_a_promoted_one_works(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
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


async def test_a_demoted_server_is_left_for_its_successor_behind_the_same_name(
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
def test_what_redis_answers_has_one_meaning(answer: Exception, expected: type[Exception]) -> None:
    assert type(RedisLink(RedisSettings(address="127.0.0.1:1"), RedisTimeouts()).translated(answer)) is expected


# full, evicting, locked, forgetful


async def test_a_full_redis_takes_nothing_new_and_lets_everything_end(
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
        adopted = {conversion.conversion_id for conversion in await store.adopt(10)}
        assert adopted == {retrying.conversion_id, releasing.conversion_id}
        assert expiring.track is not None
        assert expiring.track.file_name in await store.expire(100)
        client.config_set("maxmemory", "0")
    await store.ping()
    await submitted(store, ids.submission(9))


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


async def test_a_redis_that_forbids_info_is_taken_on_trust(
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
async def test_a_wrong_password_is_one_clear_line_without_it(
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
def test_an_address_that_is_none_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(StoreUnusable) as refusal:
        RedisJobStore(RedisSettings(address=address), POLICY, InstanceId("a"))
    assert "secret" not in str(refusal.value)


async def test_a_server_that_forgot_the_scripts_is_told_again(
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


async def test_after_flushall_nothing_is_known_and_nothing_breaks(
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


# the wire


async def test_ten_thousand_cancelled_calls_cross_no_replies(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(empty_valkey.address)
    submissions = [ids.submission(video) for video in range(50)]
    for submission in submissions:
        await submitted(store, submission)
    chance = random.Random(1)
    cancelled = answered = 0

    async def look(submission: Submission) -> None:
        nonlocal answered
        # A machine that is busy with other tests may be late; it may not be wrong.
        with contextlib.suppress(StoreDown):
            ticket = await store.get(submission.job_id)
            assert ticket is not None
            assert ticket.job.job_id == submission.job_id
            answered += 1

    async def give_up(submission: Submission, turns: int) -> None:
        nonlocal cancelled
        task = asyncio.create_task(look(submission))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            cancelled += 1
        with contextlib.suppress(asyncio.CancelledError):
            await task

    while cancelled < 10_000:
        batch = [(chance.choice(submissions), chance.randrange(1, 12)) for _ in range(40)]
        await asyncio.gather(*(give_up(*each) for each in batch), look(chance.choice(submissions)))
    await asyncio.gather(*(look(submission) for submission in submissions))
    assert answered > 100
    with contextlib.closing(empty_valkey.client()) as client:
        clients = cast("dict[str, int]", client.info("clients"))["connected_clients"]
    assert clients <= 40, "connections leak"


async def lose_and_repeat(proxy: ChaosProxy, call: Callable[[], Awaitable[T]]) -> T:
    """Lose the reply of the call and of the adapter's own repetition; then call again, as the caller would."""
    proxy.lose_replies(2)
    with pytest.raises(StoreDown):
        await call()
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(StoreDown):
                return await call()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_lost_reply_is_no_error_and_has_no_double_effect(
    proxy: ChaosProxy, make_store: MakeStore, ids: Ids, lost: int
) -> None:
    store = make_store(proxy.address)
    await store.open()

    async def call(operation: Callable[[], Awaitable[T]]) -> T:
        if lost == 2:
            return await lose_and_repeat(proxy, operation)
        proxy.lose_replies(1)
        return await operation()

    for video in range(0, 4 * (40 if lost == 1 else 2), 4):
        first = ids.submission(video)
        result = await call(lambda submission=first: submitted(store, submission))  # type: ignore[misc]
        assert result.outcome is Outcome.CREATED
        queued = result.ticket.conversion
        assert queued.token == 1
        second = ids.submission(video)
        joined = await call(lambda submission=second: submitted(store, submission))  # type: ignore[misc]
        assert joined.outcome is Outcome.JOINED
        conversion = await call(lambda lease=queued.lease: store.claim(lease))  # type: ignore[misc]
        assert (conversion.state, conversion.token) == (State.RUNNING, 2)
        lease = conversion.lease
        renewal = Renewal(lease=lease, progress=0.5)
        assert await call(lambda renewal=renewal: store.renew([renewal])) == frozenset()  # type: ignore[misc]
        match video % 12:
            case 0:
                done_now = await call(lambda lease=lease: store.finish(lease, track_of(lease), METADATA))  # type: ignore[misc]
                assert done_now.state is State.DONE
            case 4:
                await call(lambda lease=lease: store.fail(lease, FailureCode.PRIVATE))  # type: ignore[misc]
            case _:
                await call(lambda lease=lease: store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=60))  # type: ignore[misc]
        ticket = await call(lambda job_id=first.job_id: store.cancel(job_id))  # type: ignore[misc]
        assert ticket is not None
        assert ticket.status is Status.CANCELLED
        other = await store.get(joined.ticket.job.job_id)
        assert other is not None
        assert other.conversion.attempts == (0 if video % 12 == 0 else 1)
    counts = await store.counts()
    rounds = 40 if lost == 1 else 2
    assert counts.cancelled == rounds
    assert counts.pending + counts.completed + counts.failed == rounds
    assert counts.processing == 0


async def test_a_black_hole_costs_a_handler_300_ms_at_most(proxy: ChaosProxy, make_store: MakeStore, ids: Ids) -> None:
    store = make_store(proxy.address)
    await store.open()
    proxy.is_silent = True
    submission = ids.submission()
    for _ in range(4):
        assert await seconds_to_fail(lambda: submitted(store, submission)) < BUSY_MACHINE_SECONDS
        await asyncio.sleep(0.06)
    proxy.is_silent = False
    await until_it_works(lambda: submitted(store, submission), seconds=1.0)
    assert (await store.counts()).pending == 1


async def test_each_operation_costs_one_round_trip(proxy: ChaosProxy, make_store: MakeStore, ids: Ids) -> None:
    store = make_store(proxy.address)
    await store.open()

    async def trips(call: Awaitable[object]) -> int:
        before = proxy.requests
        await call
        return proxy.requests - before

    submission = ids.submission()
    assert await trips(submitted(store, submission)) == 1
    ticket = await store.get(submission.job_id)
    assert ticket is not None
    lease = ticket.conversion.lease
    assert await trips(store.get(submission.job_id)) == 1
    assert await trips(store.claim(lease)) == 1
    running_lease = type(lease)(conversion_id=lease.conversion_id, token=lease.token + 1)
    others = [(await created(store, ids.submission(video))).lease for video in range(2, 30)]
    assert await trips(store.renew([Renewal(lease=each) for each in (running_lease, *others)])) == 1
    assert await trips(store.finish(running_lease, track_of(running_lease), METADATA)) == 1
    assert await trips(store.adopt(10)) == 1, "an idle poll"
    assert await trips(store.expire(10)) == 1, "an idle sweep"
    assert await trips(store.counts()) == 1
    assert await trips(store.ping()) == 1
    assert await trips(store.release(others)) == 1
    assert await trips(store.adopt(100)) == 3


@contextlib.asynccontextmanager
async def impostor(answer: bytes) -> AsyncIterator[str]:
    """Listen where Redis should, and give each request the same answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b":1\r\n", StoreUnusable),
        (b"+OK\r\n", StoreUnusable),
        (b"*2\r\n:1\r\n:2\r\n", StoreUnusable),
        (b"*2\r\n*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", StoreUnusable),
        (b"*2\r\n*2\r\n$1\r\n\xff\r\n$1\r\nb\r\n*0\r\n", StoreUnusable),
        (b"-WEIRD answer\r\n", StoreUnusable),
        (b"*2\r\n*2\r\n$6\r\njob", StoreDown),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", StoreDown),
    ],
)
async def test_an_answer_that_makes_no_sense_is_an_error_of_the_store(
    make_store: MakeStore, ids: Ids, answer: bytes, expected: type[Exception]
) -> None:
    lease = Lease(conversion_id=ids.submission().conversion_id, token=1)
    async with impostor(answer) as address:
        store = make_store(address)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: submitted(store, ids.submission()),
            lambda: store.get(ids.submission().job_id),
            lambda: store.claim(lease),
            lambda: store.renew([Renewal(lease=lease)]),
            lambda: store.finish(lease, track_of(lease), METADATA),
        ]
        for call in calls:
            with pytest.raises(expected):
                await call()


def kill_all_clients(client: redis.Redis) -> None:
    cast("Callable[..., object]", client.execute_command)("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def admit_nobody(client: redis.Redis) -> None:
    client.config_set("maxclients", "1")
    kill_all_clients(client)
    time.sleep(0.05)
    client.config_set("maxclients", "1000")


def demote_and_promote(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")
    time.sleep(0.02)
    client.replicaof("NO", "ONE")


def occupy_with_a_script(client: redis.Redis) -> None:
    client.config_set("busy-reply-threshold", "10")
    ends_at = time.time() + 0.1
    busy = f"while true do local t = redis.call('TIME') if t[1] + t[2] / 1000000 > {ends_at} then return 1 end end"
    cast("Callable[..., object]", client.eval)(busy, 0)


@pytest.mark.parametrize(
    "hurt", [kill_all_clients, admit_nobody, demote_and_promote, occupy_with_a_script, redis.Redis.script_flush]
)
async def test_whatever_is_done_to_the_server_nothing_acknowledged_is_lost_and_no_connection_is_left_over(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids, hurt: Callable[[redis.Redis], object]
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
            await asyncio.to_thread(hurt, client)
            await asyncio.sleep(0.03)
        is_over.set()
        await asyncio.gather(*tasks)
        await until_it_works(store.ping, seconds=2.0)
        assert acknowledged
        assert None not in [await store.get(job_id) for job_id in acknowledged]
        clients = cast("dict[str, int]", client.info("clients"))["connected_clients"]
        assert clients <= 1 + redis_link.HANDLER_CONNECTIONS + redis_link.WORKER_CONNECTIONS


# the layout


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


async def test_all_keys_of_a_script_are_in_one_slot(empty_valkey: Valkey, redis_stand: RedisStand, ids: Ids) -> None:
    with contextlib.closing(empty_valkey.client()) as client:
        await every_operation(await redis_stand.open(), redis_stand.clock, ids)
        names = cast("list[bytes]", client.keys("*"))
        assert key_slot(b"123456789") == 12739, "the specification's own example"
    assert len(names) > 30
    for name in names:
        shard = name.decode().partition("{")[2][:2]
        assert name.startswith(root_of(shard).encode())
        assert key_slot(name) == key_slot(root_of(shard).encode())


async def test_a_server_in_cluster_mode_finds_no_key_of_another_slot(
    make_valkey: MakeValkey, make_store: MakeStore, ids: Ids
) -> None:
    server = make_valkey({"cluster-enabled": "yes", "cluster-port": str(free_port())})
    with contextlib.closing(server.client()) as client:
        execute = cast("Callable[..., bytes]", client.execute_command)
        execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        async with asyncio.timeout(10):
            while b"cluster_state:ok" not in bytes(str(execute("CLUSTER", "INFO")), "ascii"):
                await asyncio.sleep(0.05)
    clock = Clock()
    store = make_store(server.address, clock=clock)
    await store.open()
    await every_operation(store, clock, ids)
    clock.advance(2 * POLICY.retention_seconds)
    assert len(await store.expire(1000)) > 0


async def test_live_records_carry_no_time_to_live_and_ended_ones_do(
    empty_valkey: Valkey, redis_stand: RedisStand, ids: Ids
) -> None:
    store = await redis_stand.open()
    await every_operation(store, redis_stand.clock, ids)
    with contextlib.closing(empty_valkey.client()) as client:
        seen = {True: 0, False: 0}
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
                assert ttl > expires_at - redis_stand.clock.now + 3000, name
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


# several instances


async def test_an_instance_takes_over_what_another_released_or_left(redis_stand: RedisStand, ids: Ids) -> None:
    first, second = await redis_stand.open("a"), await redis_stand.open("b")
    released = await running(first, ids.submission(1))
    left = await running(first, ids.submission(2))
    with pytest.raises(LeaseLost):
        await second.claim((await created(first, ids.submission(3))).lease)
    await first.release([released.lease])
    assert [conversion.conversion_id for conversion in await second.adopt(10)] == [released.conversion_id]
    redis_stand.clock.advance(POLICY.lease_seconds)
    adopted = {conversion.conversion_id: conversion for conversion in await second.adopt(10)}
    assert adopted[left.conversion_id].crashes == 1
    assert await first.renew([Renewal(lease=left.lease)]) == {left.conversion_id}
    assert all(conversion.holder == "b" for conversion in adopted.values())


async def test_two_instances_adopting_at_once_share_nothing(redis_stand: RedisStand, ids: Ids) -> None:
    first, second = await redis_stand.open("a"), await redis_stand.open("b")
    for video in range(60):
        await created(first, ids.submission(video))
    redis_stand.clock.advance(POLICY.lease_seconds)
    adopted: list[str] = []
    while len(adopted) < 60:
        batches = await asyncio.gather(*(store.adopt(25) for store in (first, second) * 3))
        assert any(batches), "adopters at once leave nothing behind that is due"
        adopted += [conversion.conversion_id for batch in batches for conversion in batch]
    assert len(adopted) == len(set(adopted)) == 60


async def test_a_stall_of_this_process_is_not_taken_for_one_of_redis(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(empty_valkey.address)
    submission = ids.submission()
    await submitted(store, submission)
    looking = asyncio.create_task(store.get(submission.job_id))
    await asyncio.sleep(0)
    time.sleep(HANDLER_BUDGET_SECONDS + 0.1)  # noqa: ASYNC251 - the stall
    ticket = await looking
    assert ticket is not None


async def test_a_process_that_stalls_at_each_step_of_a_call_does_not_take_it_for_silence(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    submitting = asyncio.create_task(submitted(make_store(empty_valkey.address), ids.submission()))
    while not submitting.done():
        time.sleep(0.1)  # noqa: ASYNC251 - the stall
        await asyncio.sleep(0)
    await submitting


async def test_a_crowd_expires_in_steps_between_which_others_are_answered(proxy: ChaosProxy, ids: Ids) -> None:
    stand = RedisStand(RedisSettings(address=proxy.address))
    store = await stand.open(policy=replace(POLICY, jobs_at_once=2))
    crowd = [ids.submission() for _ in range(7)]
    await done(store, crowd[0])
    for submission in crowd[1:]:
        await submitted(store, submission)
    stand.clock.advance(POLICY.retention_seconds)
    before = proxy.requests
    assert len(await store.expire(10)) == 1
    assert proxy.requests - before == 1 + 4, "one look, and two jobs in each step"
    await stand.close()


async def test_a_crowds_conversion_ends_at_once_and_is_removed_by_the_sweep_alone(
    empty_valkey: Valkey, redis_stand: RedisStand, ids: Ids
) -> None:
    store = await redis_stand.open()
    conversion = await running(store, ids.submission())
    crowd = [ids.submission() for _ in range(2000)]
    await asyncio.gather(*(submitted(store, submission) for submission in crowd))
    with contextlib.closing(empty_valkey.client()) as client:
        client.config_resetstat()
        await store.finish(conversion.lease, track_of(conversion.lease), METADATA)
        calls = sum(each["calls"] for each in cast("dict[str, dict[str, int]]", client.info("commandstats")).values())
        assert calls < 50, "no step for each job"
        late = await submitted(store, ids.submission())
        assert late.outcome is Outcome.CACHED
        for submission in (crowd[0], crowd[-1]):
            ticket = await store.get(submission.job_id)
            assert ticket is not None
            assert ticket.status is Status.COMPLETED
        assert await store.get(late.ticket.job.job_id) == late.ticket
        redis_stand.clock.advance(POLICY.retention_seconds)
        assert len(await store.expire(10)) == 1
        assert client.keys("ytmp3:*") == [root_of(conversion.conversion_id).encode()], "the shard's tallies"


async def test_a_hash_written_by_version_0_1_is_read(empty_valkey: Valkey, redis_stand: RedisStand, ids: Ids) -> None:
    """The fields of a conversion as that version wrote them: `quality` is a field of its own."""
    store = await redis_stand.open()
    submission = ids.submission()
    root, conversion_id = root_of(submission.conversion_id), submission.conversion_id
    fields = {
        "conversion_id": conversion_id, "key": submission.key, "video_id": submission.video_id, "quality": "192k",
        "client": submission.client, "state": "queued", "stage": "queued", "progress": "0.0", "attempts": "0",
        "crashes": "0", "created_at": "1700000000.000000", "riders": "1", "jobs": "1", "token": "1", "holder": "a",
        "due_at": "1700000030.000000",
    }  # fmt: skip
    with contextlib.closing(empty_valkey.client()) as client:
        for name, value in fields.items():
            client.hset(f"{root}:c:{conversion_id}", name, value)
        client.set(f"{root}:k:{submission.key}", conversion_id)
        client.zadd(f"{root}:live", {conversion_id: 1700000030.0})
    joined = await submitted(store, submission)
    assert joined.outcome is Outcome.JOINED
    assert joined.ticket.conversion.recipe == submission.recipe
    assert (await store.claim(joined.ticket.conversion.lease)).recipe == submission.recipe
