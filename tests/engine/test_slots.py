"""The slots of extractions and encoders, on virtual time."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import pytest

from tests.virtual_time import seconds, settled
from ytmp3.converter.slots import WAIT_FOR_SECOND, FairSlots
from ytmp3.core.ids import ClientId

A, B, C = ClientId("a"), ClientId("b"), ClientId("c")
SONG_SECONDS: Final = 240.0
MIX_SECONDS: Final = 1200.0


class Work:
    """Work in slots: `order` has the names of those that got one."""

    def __init__(self, count: int, spare: int = 0) -> None:
        self.slots = FairSlots(count, spare=spare, clock=seconds)
        self.order: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, client: ClientId, audio_seconds: float = 0.0) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, client, audio_seconds))
        await settled()

    async def _run(self, name: str, client: ClientId, audio_seconds: float) -> None:
        async with self.slots.slot(client, audio_seconds):
            self.order.append(name)
            await self.ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await settled()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settled()


async def test_a_freed_slot_goes_to_the_client_that_holds_the_fewest() -> None:
    work = Work(2)
    for number in range(5):
        await work.begin(f"a{number}", A)
    await work.begin("b0", B)
    assert work.order == ["a0", "a1"]
    await work.end("a0", "a1")
    assert work.order == ["a0", "a1", "b0", "a2"]


async def test_a_client_that_arrives_gets_a_spare_slot_while_another_has_all() -> None:
    work = Work(2, spare=2)
    for number in range(4):
        await work.begin(f"a{number}", A)
    assert work.slots.has_free(B)
    assert not work.slots.has_free(A)
    await work.begin("b0", B)
    await work.begin("b1", B)
    assert work.order == ["a0", "a1", "b0"]
    await work.end("a0")
    assert work.order == ["a0", "a1", "b0"]  # two are in use, one of each client
    await work.end("b0")
    assert work.order == ["a0", "a1", "b0", "b1"]


async def test_a_song_goes_before_a_mix_that_came_a_little_earlier() -> None:
    work = Work(1)
    await work.begin("first", C)
    await work.begin("mix", A, MIX_SECONDS)
    await work.begin("song", B, SONG_SECONDS)
    await work.end("first", "song")
    assert work.order == ["first", "song", "mix"]


async def test_a_mix_goes_before_a_song_that_came_much_later() -> None:
    work = Work(1)
    await work.begin("first", C)
    await work.begin("mix", A, MIX_SECONDS)
    await asyncio.sleep(WAIT_FOR_SECOND * (MIX_SECONDS - SONG_SECONDS) + 1.0)
    await work.begin("song", B, SONG_SECONDS)
    await work.end("first")
    assert work.order == ["first", "mix"]


async def test_a_cancelled_wait_takes_no_slot_and_blocks_nobody() -> None:
    work = Work(1)
    await work.begin("a0", A)
    await work.begin("a1", A)
    await work.begin("b0", B)
    await work.cancel("b0")
    await work.end("a0")
    assert work.order == ["a0", "a1"]
    await work.cancel("a1")
    assert work.slots.has_free(C)


async def test_a_wait_that_is_cancelled_as_it_gets_its_slot_gives_it_back() -> None:
    work = Work(1)
    async with work.slots.slot(A) as slot:
        await work.begin("b0", B)
        slot.release()
        await work.cancel("b0")
    assert work.order == []
    assert work.slots.has_free(C)


async def test_others_get_what_a_cancelled_wait_leaves_to_them() -> None:
    work = Work(4, spare=4)
    for number in range(4):
        await work.begin(f"a{number}", A)
    await work.begin("b0", B)
    await work.begin("c0", C)
    for number in range(1, 3):
        await work.begin(f"b{number}", B)
    assert work.order == ["a0", "a1", "a2", "a3", "b0", "c0"]
    await work.end("c0")
    assert work.order[-1] == "b1"


async def test_a_slot_that_is_released_early_is_released_once() -> None:
    slots = FairSlots(1, spare=0)
    async with AsyncExitStack() as stack:
        slot = await stack.enter_async_context(slots.slot(A))
        assert not slots.has_free(B)
        slot.release()
        await stack.enter_async_context(slots.slot(B))
        slot.release()
        assert not slots.has_free(A)
    assert slots.has_free(A)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_all_slots_are_used_while_work_waits_and_all_work_ends(count: int) -> None:
    work = Work(count, spare=count)
    for number in range(30):
        await work.begin(str(number), (A, B, C)[number % 7 % 3], float(number * 100))
    for number in range(30):
        running = len(work.order) - number
        assert min(count, 30 - number) <= running <= 2 * count
        await work.end(work.order[number])
    assert len(work.order) == 30
