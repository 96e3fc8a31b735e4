"""Batches: many links, or a playlist, as one resource. Its items become ordinary jobs, a few at a time. Pure.

A batch has a fixed list of items and one mutable text, `Batch.marks`, with one character for each item. All counts, and
which item is next, are derived from that text, so they are always consistent.

The order of writes makes a batch safe against crashes. The instance that holds the batch first marks an item as open,
and then submits its job, under an id that is derived from the batch and the video (`ids.item_job_id`). An instance that
continues the batch submits the jobs of open items again: the store returns the jobs that exist already. So no item is
lost, and none gets a second job.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core import playlist
from ytmp3.core.cut import WHOLE, Cut
from ytmp3.core.errors import RequestError
from ytmp3.core.ids import BatchId, ClientId, ConversionKey, InstanceId, JobId, VideoId, item_job_id
from ytmp3.core.job import Status
from ytmp3.core.link import parse_video_id
from ytmp3.core.playlist import Listing
from ytmp3.core.recipe import Recipe, conversion_key, parse_recipe
from ytmp3.core.tag_edits import NO_BATCH_TAGS, BatchTags, TagEdits
from ytmp3.core.webhook import WebhookTarget

LONGEST_SECONDS: Final = 7 * 86_400.0
"""Age of a batch, in seconds, after which its waiting items are given up, so that no batch waits forever, even if
YouTube refuses this server for days. 1,000 items at 240 videos an hour take four hours."""
MEASURED_ITEMS: Final = 20
"""Number of ended items from which the batch's own rate is used to estimate its end. Fewer are not representative: the
first items of a batch often have finished tracks, so they end at once."""


class Mark(StrEnum):
    """The state of one item, as one character of `Batch.marks`."""

    WAITING = "w"
    """The item has no job yet."""
    OPEN = "o"
    """The item has a job that has not ended, or is about to get one."""
    COMPLETED = "c"
    FAILED = "f"
    CANCELLED = "x"
    """The job was cancelled, or the batch was cancelled before the item got a job."""
    REFUSED = "r"
    """The line is not a link to a video, or the playlist entry is private or deleted. The item never gets a job."""
    DUPLICATE = "d"
    """An earlier item has the same video. Both share the job of the earlier one."""
    LATE = "l"
    """The item was given up after LONGEST_SECONDS."""


class ItemStatus(StrEnum):
    """The status of an item as clients see it. The first five are those of a job."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    REFUSED = "refused"
    DUPLICATE = "duplicate"


class BatchStatus(StrEnum):
    """The status of a batch as clients see it."""

    LISTING = "listing"
    """The entries of its playlist, or the chapters of its video, are being read."""
    RUNNING = "running"
    FAILED = "failed"
    """Its playlist or video could not be read, or has no video or no chapters."""
    COMPLETED = "completed"
    """Every item has ended. Some may have failed: that is normal."""
    CANCELLED = "cancelled"


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a batch. It is never changed."""

    video_id: VideoId | None = None
    """The video; None if the line is refused."""
    code: str | None = None
    """Why the line is refused: the code of an error of `POST /extract`."""
    message: str | None = None
    """The text for the client that explains `code`. It repeats no part of the line."""
    cut: Cut = WHOLE
    """The part of the video, of an item that is a chapter. Otherwise, the recipe of the batch has it."""
    edits: TagEdits | None = None
    """The tags of its track that the client has chosen, also those for the whole batch; None if there are none. Of two
    items with the same video, those of the first one are used."""


class Line(Struct, frozen=True, kw_only=True):
    """One link of a request, with the tags for its track."""

    link: str
    edits: TagEdits | None = None


class BatchLease(Struct, frozen=True, kw_only=True):
    """The right to feed a batch. The store refuses a write whose token or holder is not the current one."""

    batch_id: BatchId
    token: int
    holder: InstanceId


class Batch(Struct, frozen=True, kw_only=True):
    """The stored record of a batch, without its items. All times are the store's clock."""

    batch_id: BatchId
    client: ClientId
    """The owner of the batch, and of the jobs of its items."""
    recipe_spelling: str
    """The recipe of all items (`Recipe.spelling`)."""
    marks: str
    """One `Mark` for each item. Only the holder changes it. Empty until the playlist has been read."""
    playlist: str | None = None
    """The address of the playlist whose entries are the items, or of the video whose chapters are the items
    (`is_split`); None for a list of links."""
    is_split: bool = False
    """Whether the items are the chapters of one video."""
    tags: BatchTags | None = None
    """The tags that the client has chosen for all items; None if it has chosen none."""
    title: str | None = None
    """The title of the playlist, or of the video."""
    is_truncated: bool = False
    """Whether the playlist or the video has more entries than the batch has items."""
    error: str | None = None
    """Why the playlist or the video could not be read: a code of LISTING_MESSAGES or of FAILURES."""
    token: int = 0
    """The fencing token, which grows with every change of the holder (see `BatchLease`)."""
    holder: InstanceId | None = None
    """The instance that feeds the batch; None once it has been released or has ended."""
    due_at: float
    """When any instance may adopt the batch: the end of the lease. Has no meaning once the batch has ended."""
    created_at: float
    cancelled_at: float | None = None
    """When the client cancelled the batch. The holder then cancels the open jobs, and ends the batch."""
    completed_at: float | None = None
    """When the last item ended. Set by the holder's last write."""
    retention_seconds: float
    """How long the batch is kept after its end."""
    expires_at: float | None = None
    """When the store removes the batch. None while it has not ended."""
    webhooks: tuple[WebhookTarget, ...] = ()
    """The targets that get a message when every item has ended. Set at creation. The items' jobs have no webhooks."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of all items."""
        return parse_recipe(self.recipe_spelling)

    @property
    def status(self) -> BatchStatus:
        """The status for clients."""
        if self.cancelled_at is not None:
            return BatchStatus.CANCELLED
        if self.error is not None:
            return BatchStatus.FAILED
        if not self.marks:
            return BatchStatus.LISTING
        return BatchStatus.RUNNING if self.completed_at is None else BatchStatus.COMPLETED

    @property
    def lease(self) -> BatchLease:
        """The lease of the current holder."""
        return BatchLease(batch_id=self.batch_id, token=self.token, holder=self.holder or InstanceId(""))

    def recipe_of(self, item: Item) -> Recipe:
        """Return the recipe of an item."""
        return self.recipe if item.cut.is_whole else replace(self.recipe, cut=item.cut)

    def key(self, item: Item) -> ConversionKey:
        """Return the key of the conversion of an item, which must have a video."""
        assert item.video_id is not None
        return conversion_key(item.video_id, self.recipe_of(item))

    def job_id(self, item: Item) -> JobId:
        """Return the id of the job of an item, which must have a video."""
        return item_job_id(self.batch_id, self.key(item))


LISTING_MESSAGES: Final = {
    "no_chapters": "The video has no chapters, so it cannot be split. Convert it as a whole.",
    "playlist_empty": "The playlist has no video that can be converted.",
    "playlist_unavailable": "The playlist does not exist, or it is private.",
}
"""The codes and texts of batches whose playlist or chapters cannot be converted, beside those of FAILURES."""

_END_OF_STATUS: Final = {Status.COMPLETED: Mark.COMPLETED, Status.FAILED: Mark.FAILED, Status.CANCELLED: Mark.CANCELLED}
_UNFINISHED: Final = (Mark.WAITING, Mark.OPEN)


def items_of(links: Iterable[str]) -> tuple[Item, ...]:
    """Parse the lines of a batch. A line that is not a link to a video becomes a refused item, with the reason."""
    return tuple(_item_of(link) for link in links)


def _item_of(link: str) -> Item:
    try:
        return Item(video_id=parse_video_id(link))
    except RequestError as error:
        # The texts are written for the field `url` of one request.
        message = error.public_detail.replace("`url`", "the link")
        return Item(code=error.code, message=message[:1].upper() + message[1:])


def items_of_playlist(listing: Listing) -> tuple[Item, ...]:
    """Return the items of a playlist. An entry that is private or deleted is refused, with the reason."""
    return tuple(
        Item(video_id=entry.video_id)
        if entry.code is None
        else Item(code=entry.code, message=playlist.MESSAGES[entry.code])
        for entry in listing.entries
    )


def tagged(items: Sequence[Item], tags: BatchTags | None) -> tuple[Item, ...]:
    """Return the items with the tags that are chosen for the whole batch."""
    common, total = tags or NO_BATCH_TAGS, len(items)
    return tuple(
        item if item.video_id is None else replace(item, edits=common.of_item(item.edits, number, total))
        for number, item in enumerate(items, 1)
    )


def first_marks(items: Sequence[Item]) -> str:
    """Return the marks of a new batch."""
    seen: set[tuple[VideoId, Cut]] = set()
    marks = []
    for item in items:
        if item.video_id is None:
            marks.append(Mark.REFUSED)
        elif (item.video_id, item.cut) in seen:
            marks.append(Mark.DUPLICATE)
        else:
            seen.add((item.video_id, item.cut))
            marks.append(Mark.WAITING)
    return "".join(marks)


def first_like(items: Sequence[Item], wanted: Item) -> int:
    """Return the index of the first item with the same part of the same video. All such items share its job."""
    same = (wanted.video_id, wanted.cut)
    return next(index for index, item in enumerate(items) if (item.video_id, item.cut) == same)


def indexes_of(marks: str, mark: Mark) -> list[int]:
    """Return the indexes of the items with a mark, in order."""
    return [index for index, each in enumerate(marks) if each == mark]


def end_of(status: Status) -> Mark | None:
    """Return the mark of an item whose job has this status; None if the job has not ended."""
    return _END_OF_STATUS.get(status)


def marked(marks: str, changes: Mapping[int, Mark]) -> str:
    """Return the marks with some of them replaced."""
    changed = list(marks)
    for index, mark in changes.items():
        changed[index] = mark.value
    return "".join(changed)


def opened(marks: str, number: int) -> str:
    """Return the marks with the next `number` waiting items opened, or as many as there are."""
    return marks.replace(Mark.WAITING, Mark.OPEN, max(0, number))


def given_up(marks: str, mark: Mark) -> str:
    """Return the marks with `mark` in place of every waiting item."""
    return marks.replace(Mark.WAITING, mark)


def is_ended(marks: str) -> bool:
    """Return whether every item has ended."""
    return not any(mark in marks for mark in _UNFINISHED)


def counts_of(marks: str) -> Counter[Mark]:
    """Count the items by mark."""
    return Counter(map(Mark, marks))


def unfinished(marks: str) -> int:
    """Count the items that have not ended."""
    return sum(marks.count(mark) for mark in _UNFINISHED)


def eta_seconds(marks: str, *, elapsed_seconds: float, estimate: float) -> float:
    """Return the estimated time until the last item ends.

    `elapsed_seconds` is the age of the batch. `estimate` is the engine's estimate, which is used until the batch has
    enough ended items for a rate of its own.
    """
    counts = counts_of(marks)
    ended = counts[Mark.COMPLETED] + counts[Mark.FAILED]
    if ended < MEASURED_ITEMS or elapsed_seconds <= 0:
        return estimate
    return unfinished(marks) * elapsed_seconds / ended
