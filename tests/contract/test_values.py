"""Small values that instances share, changed by compare and set. Every test runs on both adapters."""

import asyncio

from tests.contract.harness import Harness
from ytmp3.jobstore import JobStore

NAME = "identities"


async def test_a_value_is_replaced_only_if_it_is_the_one_that_was_read(harness: Harness, store: JobStore) -> None:
    value = await store.values.read(NAME)
    assert (value.data, value.now) == (None, await store.now())
    assert not await store.values.replace(NAME, b"other", b"one")
    assert await store.values.replace(NAME, None, b"one")
    assert not await store.values.replace(NAME, None, b"two")
    harness.clock.advance(5.0)
    value = await store.values.read(NAME)
    assert (value.data, value.now) == (b"one", await store.now())
    assert await store.values.replace(NAME, b"one", b"two \x00\xff")
    assert (await store.values.read(NAME)).data == b"two \x00\xff"
    assert (await store.values.read("another")).data is None


async def test_changes_at_the_same_moment_are_all_counted(store: JobStore) -> None:
    async def add_one() -> None:
        while True:
            value = await store.values.read(NAME)
            new = str(int(value.data or b"0") + 1).encode()
            if await store.values.replace(NAME, value.data, new):
                return

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert (await store.values.read(NAME)).data == b"20"


async def test_a_value_outlives_the_instance_that_wrote_it(harness: Harness, store: JobStore) -> None:
    assert await store.values.replace(NAME, None, b"kept")
    again = await harness.open("b")
    assert (await again.values.read(NAME)).data == b"kept"
