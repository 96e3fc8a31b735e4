"""What updates of yt-dlp need from the engine: whether most conversions fail, places in the hourly budgets, and turns.

A turn is a lease in the job store, so that of several instances, also with disks of their own, one tries a release at a
time. It is taken and given back by compare and set; that of an instance that was killed ends by itself.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.json import decode, encode

from ytmp3.converter import Passage
from ytmp3.core.errors import Fault, StoreError
from ytmp3.core.ids import VideoId
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import SharedValues

VALUE_NAME: Final = "extractor-update"
"""Name of the shared value with the turn."""
TURN_SECONDS: Final = 1800.0
"""Longest turn, in seconds: longer than a release takes to be fetched and tried within all time limits."""
POLL_SECONDS: Final = 1.0
"""Shortest pause, in seconds, between two attempts to take a place in a budget."""


class Turn(Struct, frozen=True, kw_only=True):
    """The shared value."""

    holder: str
    """A random text, which no other turn has."""
    until: float
    """The end, by the store's clock."""


class UpstreamForUpdates:
    """Implements `converter.UpdateSurroundings`."""

    def __init__(self, upstream: Upstream, values: SharedValues) -> None:
        self._upstream = upstream
        self._values = values

    def is_broken(self) -> bool:
        """Return whether conversions pause because the release in use does not understand YouTube."""
        return self._upstream.cause in {Fault.RELEASE, Fault.YOUTUBE}

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Take the turn until the block ends. Yields False if another instance has it, or the store does not reply."""
        mine = await self._take_turn()
        try:
            yield mine is not None
        finally:
            if mine is not None:
                with contextlib.suppress(StoreError):  # then it ends by itself
                    await self._values.replace(VALUE_NAME, mine, encode(Turn(holder="", until=0.0)))

    async def _take_turn(self) -> bytes | None:
        try:
            value = await self._values.read(VALUE_NAME)
            if _end_of(value.data) > value.now:
                return None
            mine = encode(Turn(holder=secrets.token_hex(8), until=value.now + TURN_SECONDS))
            return mine if await self._values.replace(VALUE_NAME, value.data, mine) else None
        except StoreError:
            return None

    @contextlib.asynccontextmanager
    async def passage(self, video_id: VideoId) -> AsyncIterator[Passage]:
        """Wait for a place in the budget of an identity, and use it until the block ends.

        The result of the extraction is not reported: it says more about a release than about the identity.
        """
        identities = self._upstream.identities
        # Mostly only time makes a place free, so there is no event.
        while (grant := await identities.take(video_id)) is None:  # noqa: ASYNC110
            await asyncio.sleep(max(POLL_SECONDS, identities.wait_seconds))
        grant.begin()
        try:
            yield grant
        finally:
            grant.ended()


def _end_of(data: bytes | None) -> float:
    """Return when a turn ends, by the store's clock; 0 if there is none. One of another version counts as none."""
    try:
        return 0.0 if data is None else decode(data, type=Turn).until
    except msgspec.DecodeError:
        return 0.0
