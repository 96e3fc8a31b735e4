"""Reads the playlist of a batch, and retries after temporary errors. The feeder runs one task for each playlist."""

import asyncio
import logging
from typing import Final

from ytmp3.converter import Converter
from ytmp3.core.batch import Batch, first_marks, is_ended, items_of_playlist
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.playlist import Listing
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore.batches import Filling
from ytmp3.storage.scratch import Scratch

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
"""Pause before the first retry, in seconds. It doubles with each further one."""


class Listings:
    """Reads playlists through the converter."""

    def __init__(self, settings: EngineSettings, *, converter: Converter, scratch: Scratch) -> None:
        self._converter = converter
        self._scratch = scratch
        self._max_items = settings.batch_max_items
        self._max_retries = settings.max_retries

    async def read(self, batch: Batch) -> Filling:
        """Return the items of a batch, or the error with which it ends."""
        for attempt in range(self._max_retries + 1):
            try:
                return _filling(await self._list(batch))
            except ConversionError as error:
                log.warning(
                    "playlist not read", extra={"batch_id": batch.batch_id, "code": error.code, "reason": error.reason}
                )
                if error.code is FailureCode.VIDEO_UNAVAILABLE:
                    return Filling(error="playlist_unavailable")
                if not error.failure.retryable or attempt == self._max_retries:
                    return Filling(error=error.code)
                await asyncio.sleep(RETRY_SECONDS * 2**attempt)
        raise AssertionError("the last attempt returns")

    async def _list(self, batch: Batch) -> Listing:
        """Read the playlist in a child process, in a folder of its own that is removed afterwards.

        The lease's token is part of the folder's name, so that a reader that has lost the batch does not remove the
        folder of the next one.
        """
        assert batch.playlist is not None
        try:
            folder = await self._scratch.new_folder(f"list-{batch.batch_id}-{batch.token}")
        except OSError as error:
            raise ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}") from error
        try:
            return await self._converter.list_playlist(batch.playlist, batch.client, folder, max_items=self._max_items)
        finally:
            await self._scratch.remove(folder)


def _filling(listing: Listing) -> Filling:
    """Return the items of the batch. A playlist without a video that can be converted ends it with an error."""
    items = items_of_playlist(listing)
    marks = first_marks(items)
    if is_ended(marks):
        return Filling(error="playlist_empty", title=listing.title)
    return Filling(marks=marks, items=items, title=listing.title, is_truncated=listing.is_truncated)
