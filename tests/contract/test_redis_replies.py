"""Replies of Redis: lost, malformed, cancelled, counted."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar, cast

import pytest
from msgspec.structs import replace

from tests.contract.harness import METADATA, PATIENT, UNKNOWN_LEASE, Ids, created, submitted, track_of
from tests.contract.redis_servers import MakeStore
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.valkey import Valkey
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.core.errors import FailureCode, StoreDown, StoreUnusable
from ytmp3.core.job import State, Status
from ytmp3.jobstore import Outcome, Renewal, Submission
from ytmp3.jobstore.settings import RedisTimeouts

T = TypeVar("T")
BRIEF: Final = RedisTimeouts(handler_seconds=0.1, worker_seconds=0.1)


async def test_ten_thousand_cancelled_calls_leave_no_reply_to_another_caller(
    empty_valkey: Valkey, make_store: MakeStore, ids: Ids
) -> None:
    store = make_store(empty_valkey.address)
    submissions = [ids.submission(video) for video in range(50)]
    for submission in submissions:
        await submitted(store, submission)
    chance = random.Random(1)
    cancelled = answered = 0

    async def read(submission: Submission) -> None:
        nonlocal answered
        ticket = await store.get(submission.job_id)
        assert ticket is not None
        assert ticket.job.job_id == submission.job_id
        answered += 1

    async def read_and_cancel(submission: Submission, turns: int) -> None:
        nonlocal cancelled
        task = asyncio.create_task(read(submission))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            cancelled += 1
        with contextlib.suppress(asyncio.CancelledError):
            await task

    while cancelled < 10_000:
        batch = [(chance.choice(submissions), chance.randrange(1, 12)) for _ in range(40)]
        await asyncio.gather(*(read_and_cancel(*each) for each in batch), read(chance.choice(submissions)))
    await asyncio.gather(*(read(submission) for submission in submissions))
    assert answered > len(submissions)
    with contextlib.closing(empty_valkey.client()) as client:

        def connections() -> int:
            return cast("dict[str, int]", client.info("clients"))["connected_clients"]

        await until(lambda: connections() <= 40, "the server has closed old connections")


async def lose_and_repeat(proxy: ChaosProxy, call: Callable[[], Awaitable[T]]) -> T:
    """Lose the reply of the call and of the adapter's own repetition; then call again, as the caller would."""
    proxy.lose_replies(2)
    with pytest.raises(StoreDown):
        await call()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(StoreDown):
                return await call()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lost", [1, 2])
async def test_an_operation_whose_reply_is_lost_takes_effect_once(
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


async def test_each_operation_costs_one_round_trip(proxy: ChaosProxy, make_store: MakeStore, ids: Ids) -> None:
    store = make_store(proxy.address)
    await store.open()

    async def trips(call: Awaitable[object]) -> int:
        before = proxy.round_trips
        await call
        return proxy.round_trips - before

    submission = ids.submission()
    assert await trips(submitted(store, submission)) == 1
    ticket = await store.get(submission.job_id)
    assert ticket is not None
    lease = ticket.conversion.lease
    assert await trips(store.get(submission.job_id)) == 1
    assert await trips(store.claim(lease)) == 1
    running_lease = replace(lease, token=lease.token + 1)
    others = [(await created(store, ids.submission(video))).lease for video in range(2, 30)]
    assert await trips(store.renew([Renewal(lease=each) for each in (running_lease, *others)])) == 1
    assert await trips(store.finish(running_lease, track_of(running_lease), METADATA)) == 1
    assert await trips(store.adopt(10)) == 2, "an idle poll, with a look at the far end of the leases"
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
async def test_a_malformed_reply_is_an_error_of_the_store(
    make_store: MakeStore, ids: Ids, answer: bytes, expected: type[Exception]
) -> None:
    lease = replace(UNKNOWN_LEASE, conversion_id=ids.submission().conversion_id)
    async with impostor(answer) as address:
        # An incomplete reply is waited for until the timeout.
        is_complete = expected is StoreUnusable
        store = make_store(address, timeouts=PATIENT if is_complete else BRIEF)
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
