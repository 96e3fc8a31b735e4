"""Named background loops: started together, repeated at an interval, kept alive through errors, ended together.

The keeper of leases, the janitor and the watcher own one `Loops` each. A loop sleeps after its turn, for the whole
interval: a turn that takes long makes the loop slower, and never makes two turns overlap.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ytmp3.core.errors import StoreError
from ytmp3.engine import events
from ytmp3.engine.events import Events

log = logging.getLogger(__name__)

Turn: TypeAlias = Callable[[], Awaitable[object]]
Interval: TypeAlias = float | Callable[[], float]
"""Seconds between the end of a turn and the next one; a function is asked after each turn."""


class Loops:
    """Tasks of one owner, each of which repeats one coroutine for ever."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, loops: dict[str, tuple[Turn, Interval]]) -> None:
        """Start every loop of `loops`, which maps the name of the task to a coroutine function and its interval.

        The first turn begins at once.
        """
        self._tasks += [
            asyncio.create_task(self._repeat(name, turn, interval), name=name)
            for name, (turn, interval) in loops.items()
        ]

    async def close(self) -> None:
        """End every loop, in the middle of its turn if need be, and return when all have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _repeat(self, name: str, turn: Turn, interval: Interval) -> None:
        while True:
            try:
                await turn()
            except StoreError as error:
                self._events.emit(events.StoreFailed(operation=name, error=error))
            except OSError as error:
                log.warning("background loop failed", extra={"loop": name, "error": str(error)})
            except Exception:
                # The outermost frame of a loop: a bug in one turn must not end it.
                log.exception("background loop failed", extra={"loop": name})
            await asyncio.sleep(interval if isinstance(interval, float) else interval())
