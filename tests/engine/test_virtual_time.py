"""The event loop on which the tests of the engine run."""

import asyncio
import threading
import time

from tests.virtual_time import real_time, seconds, settled


async def test_an_hour_passes_at_once() -> None:
    began_at = time.monotonic()
    await asyncio.sleep(3600)
    assert seconds() == 3600.0
    assert time.monotonic() - began_at < 60


async def test_timers_fire_in_their_order() -> None:
    fired: list[float] = []

    async def fire(delay: float) -> None:
        await asyncio.sleep(delay)
        fired.append(delay)

    await asyncio.gather(*map(fire, (3.0, 1.0, 2.0, 0.0)))
    assert fired == [0.0, 1.0, 2.0, 3.0]


async def many_turns() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)


async def test_the_clock_stands_still_while_a_thread_works() -> None:
    may_end = threading.Event()
    call = asyncio.create_task(asyncio.to_thread(may_end.wait))
    timer = asyncio.create_task(asyncio.sleep(1e-9))
    await many_turns()
    assert not timer.done()
    may_end.set()
    await call
    assert seconds() == 0.0
    await timer


async def test_a_call_that_nobody_waits_for_any_more_holds_the_clock_too() -> None:
    has_begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_end.wait()
        has_ended.set()

    call = asyncio.create_task(asyncio.to_thread(work))
    await asyncio.sleep(0)
    has_begun.wait()
    call.cancel()
    timer = asyncio.create_task(asyncio.sleep(10))
    await many_turns()
    assert not timer.done()
    may_end.set()
    await timer
    assert has_ended.is_set()


async def test_the_clock_stands_still_in_real_time() -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(answer.set_result, "done"))
    with real_time():
        async with asyncio.timeout(1e-9):
            await many_turns()
            thread.start()
            assert await answer == "done"


async def test_settled_returns_when_all_work_has_ended() -> None:
    steps: list[int] = []

    async def work() -> None:
        for step in range(100):
            await asyncio.sleep(0)
            await asyncio.to_thread(steps.append, step)

    task = asyncio.create_task(work())
    await settled()
    assert task.done()
    assert steps == list(range(100))
