"""The encoders of one long track: one with the conversion's slot, and others only where slots and cores are idle."""

import asyncio
from contextlib import AsyncExitStack

from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.long_track import MAX_ENCODERS, EncoderPlaces
from ytmp3.converter.slots import FairSlots
from ytmp3.core.ids import ClientId

A, B = ClientId("a"), ClientId("b")


class Track:
    """A long track of client A, which holds one slot for its conversion."""

    def __init__(self, *, slots: int, cores: int) -> None:
        self.slots = FairSlots(slots, spare=slots)
        self.cores = Cores(range(cores), max_encoders=slots)
        self.places = EncoderPlaces(self.slots, self.cores, A)
        self.encoders: list[AsyncExitStack] = []

    async def start(self) -> bool:
        """Start another encoder. Returns whether there is a place for it."""
        encoder = AsyncExitStack()
        entering = asyncio.create_task(encoder.enter_async_context(self.places.one()))
        for _ in range(5):
            await asyncio.sleep(0)
        if entering.done():
            self.encoders.append(encoder)
            return True
        entering.cancel()
        await asyncio.wait([entering])
        return False

    async def fill(self) -> int:
        """Start as many encoders as there are places for. Returns their number."""
        while await self.start():
            pass
        return len(self.encoders)

    async def end_all(self) -> None:
        for encoder in self.encoders:
            await encoder.aclose()
        self.encoders.clear()


async def test_a_track_has_an_encoder_for_each_idle_core_and_slot_up_to_a_limit() -> None:
    for slots, cores, expected in ((2, 2, 2), (8, 3, 3), (3, 8, 3), (16, 16, MAX_ENCODERS), (1, 8, 1), (8, 1, 1)):
        track = Track(slots=slots, cores=cores)
        async with track.slots.slot(A):
            assert track.places.are_several == (expected > 1)
            assert await track.fill() == expected, (slots, cores)
            assert track.cores.idle == cores - expected
            await track.end_all()
            assert track.cores.idle == cores
            # The slots of the helpers are free again: only that of the conversion is held.
            assert track.slots.has_free(A) == (slots > 1)


async def test_other_work_takes_the_places_of_the_helpers() -> None:
    track = Track(slots=3, cores=4)
    async with track.slots.slot(A), AsyncExitStack() as others:
        others.enter_context(track.cores.one())
        others.enter_context(track.cores.one())
        assert await track.fill() == 2
        others.enter_context(track.cores.one())
        await track.end_all()
        assert await track.fill() == 1
        assert not track.places.are_several


async def test_no_helper_starts_while_another_conversion_waits_for_a_slot() -> None:
    track = Track(slots=2, cores=8)
    async with AsyncExitStack() as stack:
        slots = [await stack.enter_async_context(track.slots.slot(A)) for _ in range(2)]
        await stack.enter_async_context(track.slots.slot(B))
        waiting = asyncio.create_task(stack.enter_async_context(track.slots.slot(A)))
        await asyncio.sleep(0)
        assert not track.places.are_several
        assert await track.fill() == 1
        for slot in slots:
            slot.release()
        await waiting
        assert await track.fill() == 1


async def test_the_next_encoder_starts_when_one_ends() -> None:
    track = Track(slots=2, cores=2)
    async with track.slots.slot(A):
        assert await track.fill() == 2
        last = AsyncExitStack()
        waiting = asyncio.create_task(last.enter_async_context(track.places.one()))
        await asyncio.sleep(0)
        assert not waiting.done()
        await track.encoders.pop().aclose()
        await waiting
        await last.aclose()
        await track.end_all()
    assert track.slots.has_free(B)
