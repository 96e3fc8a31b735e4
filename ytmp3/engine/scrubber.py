"""The scrubber: continuously reads all tracks, slowly, and discards those whose content has changed.

A failing disk, or another program that writes to the volume, can change a finished track. The shelf detects most
changes when a client downloads the track (`storage.integrity`). The scrubber finds the other ones
before that.

Each instance reads all tracks, because instances do not share which tracks they have read.
"""

import logging
from collections import deque
from typing import Final

from ytmp3.core.job import Track, conversion_id_of
from ytmp3.jobstore import JobStore
from ytmp3.storage import Shelf

log = logging.getLogger(__name__)

SCRUB_SECONDS: Final = 60.0
"""Interval of the steps, in seconds."""
SCRUB_BYTES: Final = 256 * 2**20
"""Bytes that one step reads, exceeded by at most one track. With an interval of a minute, this is 4.5 MB/s, or 390 GB a
day, and takes 0.3 s of CPU time per minute."""
LOOKED_UP: Final = 50
"""Tracks that are looked up in one call to the store."""


class Scrubber:
    """Checks some tracks in each step."""

    def __init__(self, store: JobStore, shelf: Shelf) -> None:
        self._store = store
        self._shelf = shelf
        self._left: deque[str] = deque()
        """The files that are still to be checked in the current round."""

    async def scrub(self) -> int:
        """Check some tracks. After the last track, start again with the first. Returns the number of damaged ones.

        A damaged track is removed, and its conversion is forgotten: the next submission of its link converts it again.
        """
        if not self._left:
            self._left.extend(sorted(await self._shelf.names(older_than_seconds=0.0)))
        damaged, bytes_left = 0, SCRUB_BYTES
        while self._left and bytes_left > 0:
            names = [self._left.popleft() for _ in range(min(LOOKED_UP, len(self._left)))]
            tracks = await self._store.tracks(names)
            for number, name in enumerate(names):
                if bytes_left <= 0:
                    self._left.extendleft(reversed(names[number:]))
                    break
                track = tracks.get(name)
                if track is not None:
                    bytes_left -= track.size_bytes
                    damaged += await self._discard_if_damaged(track)
        return damaged

    async def _discard_if_damaged(self, track: Track) -> bool:
        """Read a track, and remove it if its content has changed. The next job for it makes it again."""
        if not await self._shelf.is_damaged(track):
            return False
        conversion_id = conversion_id_of(track.file_name)
        if conversion_id is not None:
            # In this order, a crash in between leaves a file that no new job uses, and that is checked again.
            await self._store.forget(conversion_id)
        await self._shelf.delete(track.file_name)
        log.warning("damaged track removed", extra={"file": track.file_name})
        return True
