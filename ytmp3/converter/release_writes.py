"""What a server writes to the state of the releases: larger shares, and releases that it has given up.

A command or an update may hold the lock of the state for minutes. A larger share may then come later. A release that
was given up must be written in any case, even if another one was chosen meanwhile: otherwise an update would try it
again, and a later return would end at it.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, ParamSpec

from ytmp3.converter.releases.store import BusyError, DamagedError, ReleaseStore
from ytmp3.core.release_state import State
from ytmp3.threads import Threads

RETRY_SECONDS: Final = 60.0
"""Pause, in seconds, before a state that could not be written is written again."""
BUSY_SECONDS: Final = 3.0
"""The same if a command, or an update, holds the lock."""

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class ReleaseWrites:
    """The writes of one server. `files` has the threads that use the store."""

    def __init__(self, files: Threads) -> None:
        self._files = files
        self._retry_at = 0.0
        self._given_up: list[tuple[int, str, str, str]] = []
        """Arguments of `ReleaseStore.give_up` that are not written yet."""

    def give_up(self, serial: int, failed: str, version: str, note: str) -> None:
        """Take note of a release that was given up. See `ReleaseStore.give_up`."""
        self._given_up.append((serial, failed, version, note))
        self._retry_at = 0.0

    async def write_given_up(self, store: ReleaseStore) -> bool:
        """Write the first release that was given up. Returns False if there is none, or if it could not be written."""
        if not self._given_up or not await self._write(store.give_up, *self._given_up[0]):
            return False
        del self._given_up[0]
        return True

    async def advance(self, store: ReleaseStore, serial: int, share: int) -> None:
        """Write a larger share; later, by another call, if it cannot be written now."""
        await self._write(store.advance, serial, share)

    async def use_built_in(self, store: ReleaseStore, old: State, built_in: str) -> State:
        """Choose the built-in release, of this version. Returns the state: the old one if it could not be written."""
        try:
            state = await self._files.run(store.use_built_in, old.serial)
        except (BusyError, DamagedError, OSError) as error:
            logger.error("extractor state not written", extra={"error": str(error)})
            return old
        logger.info("extractor release superseded", extra={"release": old.active, "built_in": built_in})
        return state

    async def _write(self, change: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Change the state. Returns False if it could not be changed, or if it is too soon to try it again."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            await self._files.run(change, *args, **kwargs)
        except BusyError as error:
            self._retry_at = time.monotonic() + BUSY_SECONDS
            logger.info("extractor state not written", extra={"error": str(error)})
            return False
        except (DamagedError, OSError) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            # This server keeps to its decision; others decide by themselves.
            logger.error("extractor state not written", extra={"error": str(error)})
            return False
        return True
