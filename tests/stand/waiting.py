"""Waits for an effect of another process, with a timeout that even a busy machine does not reach."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE_SECONDS: Final = 120.0
"""How long a test waits for what should take a moment. Only a test that fails waits so long, so the bound is generous:
two busy loops on two cores make a conversion take several times as long as on an idle machine.
"""
POLL_SECONDS: Final = 0.05


async def until(
    is_so: Callable[[], bool | Awaitable[bool]],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Return once `is_so` returns true; it may be a coroutine function.

    Raises:
        AssertionError: it was not so within `seconds`; the text names `what` was waited for.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = is_so()
                if await answer if inspect.isawaitable(answer) else answer:
                    return
                await asyncio.sleep(poll_seconds)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None
