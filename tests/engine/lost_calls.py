"""Loses each call to the store of a request with an idempotency key, one after the other, and repeats the request."""

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.engine.rig import Rig, engine
from tests.fakes import Fault
from ytmp3.core.errors import StoreUnavailable


async def lose_each_call(
    folder: Path, fault: Fault, request: Callable[[Rig], Awaitable[object]], check: Callable[[Rig], Awaitable[None]]
) -> None:
    """Make a request of which one call to the store fails, and `check` its repetition; a new engine for each call."""
    for number in itertools.count(1):
        async with engine(folder / f"{number}", instance=f"{number}") as now:
            now.store.faults[len(now.store.calls) + number] = fault
            try:
                await request(now)
            except StoreUnavailable:
                await check(now)
            else:
                assert number == 3, "a first request makes two calls: reserve, and submit or create"
                return
