"""What updates of yt-dlp need from the engine: why conversions pause, places in the hourly budgets, and turns.

A turn is a lease in the job store, so that of several instances, also with disks of their own, one tries a release at a
time. It is short and renewed, and it is changed by compare and set; that of an instance that was killed ends by itself.

The turn saves work and requests to YouTube. Correctness does not depend on it, because the folder of releases has a
lock of its own: an instance that was frozen for longer than its turn does no harm.
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.json import decode, encode

from ytmp3.converter import TrialPassage
from ytmp3.core.errors import Fault, StoreError
from ytmp3.core.ids import VideoId
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import SharedValues

VALUE_NAME: Final = "extractor-update"
"""Name of the shared value with the turn."""
TURN_SECONDS: Final = 90.0
"""Length of a turn, in seconds, unless it is renewed. A killed instance delays the next trial by no more than this."""
RENEW_SECONDS: Final = 20.0
"""Interval, in seconds, at which a turn is renewed. Three renewals in a row may fail."""
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
        return self.cause() in {Fault.RELEASE, Fault.YOUTUBE}

    def cause(self) -> Fault | None:
        """Return why conversions pause; None: they do not."""
        return self._upstream.cause

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[str]:
        """Take the turn until the block ends. Yields an empty text, or why it could not be taken.

        At the end, the turn is shortened to now instead of being removed: a value can only be replaced, and only if it
        is still that of this holder. If the store does not reply, the turn runs out by itself.
        """
        holder = secrets.token_hex(8)
        obstacle = await self._take_turn(holder)
        if obstacle:
            yield obstacle
            return
        renewing = asyncio.create_task(self._renew(holder), name="renew-update-turn")
        try:
            yield ""
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            with contextlib.suppress(StoreError):  # then it ends by itself
                await self._extend(holder, 0.0)

    async def _take_turn(self, holder: str) -> str:
        """Return an empty text if the turn was taken, and otherwise why not, for the log.

        Several processes may find the turn free at the same moment. `replace` succeeds for one of them only, because
        the others have read a value that it has changed.
        """
        try:
            value = await self._values.read(VALUE_NAME)
            if (seconds := _turn_of(value.data).until - value.now) > 0.0:
                return (
                    "a turn that another process has taken, or left behind when it ended, runs out in "
                    f"{math.ceil(seconds)} s"
                )
            mine = encode(Turn(holder=holder, until=value.now + TURN_SECONDS))
            is_taken = await self._values.replace(VALUE_NAME, value.data, mine)
        except StoreError:
            return "the job store did not reply"
        return "" if is_taken else "another process has just taken the turn"

    async def _renew(self, holder: str) -> None:
        """Renew a turn until it is lost. A round that loses its turn ends all the same, and changes its folder only."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(StoreError):
                is_ours = await self._extend(holder, TURN_SECONDS)

    async def _extend(self, holder: str, seconds: float) -> bool:
        """Let a turn end in so many seconds. Returns False if it is that of another holder. Raises StoreError."""
        value = await self._values.read(VALUE_NAME)
        if _turn_of(value.data).holder != holder:
            return False
        return await self._values.replace(
            VALUE_NAME, value.data, encode(Turn(holder=holder, until=value.now + seconds))
        )

    @contextlib.asynccontextmanager
    async def passage(self, video_id: VideoId) -> AsyncIterator[TrialPassage]:
        """Wait for a place in the budget of an identity, and keep it until the block ends.

        Failures are not reported: they say more about a release than about the identity.
        """
        identities = self._upstream.identities
        # Mostly only time makes a place free, so there is no event.
        while (grant := await identities.take(video_id)) is None:  # noqa: ASYNC110
            await asyncio.sleep(max(POLL_SECONDS, identities.wait_seconds))
        try:
            yield grant
        finally:
            grant.ended()


def _turn_of(data: bytes | None) -> Turn:
    """Return the turn; one that has ended if there is none. A value of another version counts as none."""
    with contextlib.suppress(msgspec.DecodeError):
        if data is not None:
            return decode(data, type=Turn)
    return Turn(holder="", until=0.0)
