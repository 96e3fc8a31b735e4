"""What updates of yt-dlp need from the engine: whether most conversions fail, and places in the hourly budgets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from ytmp3.converter import Passage
from ytmp3.core.errors import Fault
from ytmp3.core.ids import VideoId
from ytmp3.engine.upstream import Upstream

POLL_SECONDS: Final = 1.0
"""Shortest pause, in seconds, between two attempts to take a place in a budget."""


class UpstreamForUpdates:
    """Implements `converter.UpdateSurroundings`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def is_broken(self) -> bool:
        """Return whether conversions pause because the release in use does not understand YouTube."""
        return self._upstream.cause in {Fault.RELEASE, Fault.YOUTUBE}

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
