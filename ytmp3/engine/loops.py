"""Named background loops: started together, repeated at an interval, continued after errors, ended together.

The lease keeper, the janitor and the watcher have one `Loops` each. A loop sleeps for the whole interval after each
iteration (a "turn"), so turns never overlap, and a slow turn makes the loop slower.
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
"""Seconds between the end of a turn and the next turn, or a function that is called after each turn to return them."""


class Loops:
    """The background tasks of one owner. Each repeats one coroutine function until `close`."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, loops: dict[str, tuple[Turn, Interval]]) -> None:
        """Start one task for each entry of `loops`, which maps the task's name to a coroutine function and an interval.

        The first turn of each begins at once.
        """
        self._tasks += [
            asyncio.create_task(self._repeat(name, turn, interval), name=name)
            for name, (turn, interval) in loops.items()
        ]

    async def close(self) -> None:
        """Cancel every loop, also in the middle of a turn, and return when all have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _repeat(self, name: str, turn: Turn, interval: Interval) -> None:
        """Call `turn` for ever, with a pause after each call.

        No error ends the loop, because nobody would notice that, for example, leases are no longer renewed. An outage
        of the store is reported as an event and not logged here: it fails all loops at once, and the watcher reports
        it.
        """
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
