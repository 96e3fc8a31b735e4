"""Reads the playlist of a batch, or the chapters of its video, and retries after temporary errors.

The feeder runs one task for each such batch. Chapters are those of a probe (`descriptions`), so a video that was probed
a moment ago is not extracted again.

A result is always a `Filling`, also after a failure: an error becomes the error of the batch, which its client sees. So
the task ends with an exception only after a defect, or when the feeder cancels it because the batch was cancelled, is
held by another instance, or the instance stops. Nothing is stored here. After a crash the batch has no items yet, and
the instance that adopts it reads them again.
"""

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from ytmp3.converter import Converter
from ytmp3.core.batch import Batch, first_marks, is_ended, items_of_playlist, tagged
from ytmp3.core.chapters import album_of, items_of_chapters
from ytmp3.core.description import Description, ProbeFailed, ProbeRefused
from ytmp3.core.errors import ConversionError, FailureCode, RequestError
from ytmp3.core.ids import VideoId
from ytmp3.core.playlist import Listing
from ytmp3.core.tag_edits import NO_BATCH_TAGS, BatchTags
from ytmp3.engine.descriptions import Descriptions
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore.batches import Filling
from ytmp3.storage.scratch import Scratch

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
"""Pause before the first retry, in seconds. It doubles with each further one."""


class Listings:
    """Reads playlists through the converter, and chapters through `descriptions`."""

    def __init__(
        self, settings: EngineSettings, *, converter: Converter, scratch: Scratch, descriptions: Descriptions
    ) -> None:
        self._descriptions = descriptions
        self._converter = converter
        self._scratch = scratch
        self._max_items = settings.batch_max_items
        self._max_retries = settings.max_retries

    async def read(self, batch: Batch) -> Filling:
        """Return the items of a batch, or the error with which it ends."""
        return await (self._read_chapters(batch) if batch.is_split else self._read_playlist(batch))

    async def _read_playlist(self, batch: Batch) -> Filling:
        """Read a playlist, and retry after temporary errors, as often as a conversion is retried.

        The code of an unavailable video means here that YouTube shows this service no such list. It gets an error of
        its own, because the text about a video would mislead the client.
        """
        for attempt in range(self._max_retries + 1):
            try:
                return _filling(await self._list(batch), batch.tags)
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

    async def _read_chapters(self, batch: Batch) -> Filling:
        """Return the chapters of the video of a batch as items. A refused probe is repeated, a failed one a few times.

        Probes of one client use at most a part of the hourly budget, and none starts while YouTube refuses the service,
        so the wait can be long. The feeder ends it when the batch is LONGEST_SECONDS old.
        """
        assert batch.playlist is not None
        failures = 0
        while True:
            try:
                video_id, found = await self._descriptions.of(batch.playlist, batch.client)
            except ProbeRefused as error:
                return Filling(error=error.reason_code)
            except ProbeFailed as error:
                if failures == self._max_retries:
                    return Filling(error=error.reason_code)
                seconds = RETRY_SECONDS * 2**failures
                failures += 1
            except RequestError as error:
                # The instance or the client has reached its limit of probes, or the probe takes longer.
                seconds = error.retry_after_seconds or RETRY_SECONDS
            else:
                return _chapters(video_id, found, batch.tags or NO_BATCH_TAGS, self._max_items)
            await asyncio.sleep(seconds)

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


def _filling(listing: Listing, tags: BatchTags | None) -> Filling:
    """Return the items of the batch. A playlist without a video that can be converted ends it with an error."""
    items = tagged(items_of_playlist(listing), tags)
    marks = first_marks(items)
    if is_ended(marks):
        return Filling(error="playlist_empty", title=listing.title)
    return Filling(marks=marks, items=items, title=listing.title, is_truncated=listing.is_truncated)


def _chapters(video_id: VideoId, found: Description, tags: BatchTags, max_items: int) -> Filling:
    """Return the items of a batch of chapters. A video without chapters ends it with an error."""
    metadata = found.metadata
    items = items_of_chapters(video_id, metadata, next_chapter_seconds=found.next_chapter_seconds)
    if not items:
        return Filling(error="no_chapters", title=metadata.title)
    # The chapters are numbered, because they have an order.
    numbered = replace(tags, album=tags.album or album_of(metadata), track_numbers=True)
    kept = tagged(items[:max_items], numbered)
    is_truncated = len(items) > max_items or found.next_chapter_seconds is not None
    return Filling(marks=first_marks(kept), items=kept, title=metadata.title, is_truncated=is_truncated)
