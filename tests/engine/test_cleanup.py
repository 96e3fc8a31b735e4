"""A cleanup runs to its end, whatever happens to the coroutine that waits for it."""

import asyncio

import pytest

from ytmp3.converter.cleanup import to_its_end


async def test_cancellations_are_raised_after_the_cleanup() -> None:
    may_end, steps = asyncio.Event(), list[str]()

    async def clean_up() -> None:
        await may_end.wait()
        steps.append("cleaned up")

    async def work() -> None:
        try:
            raise OSError
        finally:
            await to_its_end(clean_up())

    working = asyncio.create_task(work())
    await asyncio.sleep(0)  # a task that is cancelled before its first step has nothing to clean up
    for _ in range(3):
        working.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not working.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert steps == ["cleaned up"]


async def test_an_error_of_the_cleanup_is_raised() -> None:
    async def clean_up() -> None:
        raise OSError("the disk is broken")

    with pytest.raises(OSError, match="the disk is broken"):
        await to_its_end(clean_up())
