"""Background loops: they repeat, continue after errors, and end with their owner."""

import asyncio

import pytest

from tests.virtual_time import seconds
from ytmp3.core.errors import StoreDown
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.loops import Loops


async def test_the_first_turn_is_at_once_and_the_next_after_the_interval() -> None:
    turns: list[float] = []

    async def turn() -> None:
        turns.append(seconds())

    loops = Loops(Events())
    loops.start({"loop": (turn, 10.0)})
    await asyncio.sleep(35)
    await loops.close()
    assert turns == [0, 10, 20, 30]
    await asyncio.sleep(100)
    assert len(turns) == 4


async def test_an_interval_that_is_a_function_is_called_after_each_turn() -> None:
    turns: list[float] = []

    async def turn() -> None:
        turns.append(seconds())

    loops = Loops(Events())
    loops.start({"loop": (turn, lambda: 2.0 ** len(turns))})
    await asyncio.sleep(20)
    await loops.close()
    assert turns == [0, 2, 6, 14]


@pytest.mark.parametrize("error", [StoreDown("no answer"), OSError(5, "I/O error"), ZeroDivisionError()])
async def test_a_loop_continues_after_any_error(error: Exception) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        raise error

    seen: list[events.Event] = []
    loops = Loops(Events(seen.append))
    loops.start({"loop": (turn, 1.0)})
    await asyncio.sleep(9.5)
    await loops.close()
    assert turns == 10
    assert len(seen) == (10 if isinstance(error, StoreDown) else 0)


async def test_a_loop_does_not_wait_for_another_loop() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1

    async def stuck() -> None:
        await asyncio.Event().wait()

    loops = Loops(Events())
    loops.start({"stuck": (stuck, 1.0), "loop": (turn, 1.0)})
    await asyncio.sleep(9.5)
    await loops.close()
    assert turns == 10
