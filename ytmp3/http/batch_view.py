"""Renders batches and their items for clients. Pure."""

from collections.abc import Mapping

import msgspec

from ytmp3.core.batch import LISTING_MESSAGES, ItemStatus
from ytmp3.core.errors import FAILURES, FailureCode
from ytmp3.core.loudness import spelling_of
from ytmp3.core.tag_edits import BatchTags
from ytmp3.engine.batches import BatchState, ItemPage, ItemState
from ytmp3.http.addresses import Addresses
from ytmp3.http.archive import revision_of
from ytmp3.http.view import moment, optional_moment
from ytmp3.http.wire import (
    BatchCountsView,
    BatchTagsView,
    BatchView,
    ChaptersView,
    ItemErrorView,
    ItemsView,
    ItemView,
    PlaylistView,
)


def batch_view(state: BatchState, addresses: Addresses, link_until: int | None = None) -> BatchView:
    """Return the batch as its owner sees it. `link_until`: when the signed link to its archive ends, if it gets one."""
    batch, counts = state.batch, state.counts
    archive = None
    if batch.completed_at is not None and counts[ItemStatus.COMPLETED]:
        archive = addresses.of_archive(batch.batch_id, revision_of(batch), link_until)
    return BatchView(
        batch_id=batch.batch_id,
        status=batch.status,
        playlist=None
        if batch.playlist is None or batch.is_split
        else PlaylistView(url=batch.playlist, title=batch.title, is_truncated=batch.is_truncated),
        chapters=None
        if batch.playlist is None or not batch.is_split
        else ChaptersView(url=batch.playlist, title=batch.title, is_truncated=batch.is_truncated),
        error=None if batch.error is None else ItemErrorView(code=batch.error, message=_message(batch.error)),
        counts=BatchCountsView(
            total=counts.total(),
            waiting=counts[ItemStatus.WAITING],
            pending=counts[ItemStatus.PENDING],
            processing=counts[ItemStatus.PROCESSING],
            completed=counts[ItemStatus.COMPLETED],
            failed=counts[ItemStatus.FAILED],
            cancelled=counts[ItemStatus.CANCELLED],
            refused=counts[ItemStatus.REFUSED],
            duplicate=counts[ItemStatus.DUPLICATE],
        ),
        eta_seconds=state.eta_seconds,
        format=batch.recipe.format,
        quality=batch.recipe.quality,
        start_seconds=batch.recipe.cut.start_seconds,
        end_seconds=batch.recipe.cut.end_seconds,
        language=batch.recipe.language,
        loudness=spelling_of(batch.recipe.loudness),
        tags=None if batch.tags is None else _tags_view(batch.tags),
        created_at=moment(batch.created_at),
        completed_at=optional_moment(batch.completed_at),
        expires_at=optional_moment(batch.expires_at),
        status_url=addresses.of_batch(batch.batch_id),
        items_url=addresses.of_items(batch.batch_id),
        archive_url=archive,
    )


def _tags_view(tags: BatchTags) -> BatchTagsView:
    return BatchTagsView(artist=tags.artist, album=tags.album, cover=tags.cover, track_numbers=tags.track_numbers)


def _message(code: str) -> str:
    """Return the text of the code with which the playlist or the chapters of a batch could not be read."""
    return LISTING_MESSAGES.get(code) or FAILURES[FailureCode(code)].message


def items_json(batch_id: str, page: ItemPage, jobs: Mapping[int, msgspec.Raw], addresses: Addresses) -> bytes:
    """Return a page of items as JSON. `jobs` has the JSON of their jobs, by the index of the item."""
    following = None if page.next_index is None else addresses.of_items(batch_id, page.next_index)
    view = ItemsView(items=tuple(map(_item_view, page.items)), next_url=following, unavailable=tuple(page.unread))
    # The jobs are rendered already, so their JSON is put into that of the items.
    fields = msgspec.structs.asdict(view)
    fields["items"] = [msgspec.structs.asdict(item) | {"job": jobs.get(item.index)} for item in view.items]
    return msgspec.json.encode(fields)


def _item_view(state: ItemState) -> ItemView:
    code, message = state.code, state.message
    return ItemView(
        index=state.index,
        status=state.status,
        video_id=state.item.video_id,
        duplicate_of=state.duplicate_of,
        error=None if code is None or message is None else ItemErrorView(code=code, message=message),
        job=None,
    )
