"""Follows the batch of a playlist, downloads its tracks as they become ready, and cancels what is open on Ctrl-C.

The chapters of a video are followed in the same way.
"""

from typing import Any

from ytmp3.client.api import Batch, Job, Refused, Unreachable
from ytmp3.client.progress import Line
from ytmp3.client.work import ENDED, Item, Work


def follow(work: Work, playlist: Item) -> None:
    """Download all tracks of a playlist. An entry that fails does not stop the others.

    Raises:
        Unreachable: the service did not respond for too long.
        GaveUp: nothing advanced for too long.
        OSError: a track cannot be written.
    """
    entries: dict[str, Item] = {}
    try:
        while playlist.batch is not None and playlist.batch["completed_at"] is None:
            for change in work.updates.of_batch(playlist.batch["batch_id"]):
                match change.name:
                    case "batch":
                        _show(work, playlist, change.data)
                    case "job":
                        _update(work, entries, change.data)
                work.stalls.check()
        _finish(work, playlist, entries)
    except Refused as error:
        work.fail(playlist, error.code, str(error))


def cancel(work: Work) -> int:
    """Cancel the open jobs and batches; return how many could not be cancelled. Each is tried once."""
    left = 0
    for item in work.items:
        try:
            if item.batch is not None and item.batch["completed_at"] is None:
                item.batch = work.api.cancel_batch(item.batch["batch_id"])
            elif item.is_open and item.job is not None and item.job.get("batch_id") is None:
                work.api.cancel(item.job["job_id"])
            else:
                continue
        except (Unreachable, Refused):
            left += 1
        else:
            item.error, item.code = "cancelled", "cancelled"
    return left


def _show(work: Work, playlist: Item, batch: Batch) -> None:
    playlist.batch = batch
    counts, line = batch["counts"], playlist.line
    ended = counts["completed"] + counts["failed"] + counts["cancelled"] + counts["refused"] + counts["duplicate"]
    line.name = title_of(batch) or playlist.link
    line.share = ended / max(1, counts["total"])
    line.stage = "reading the list" if batch["status"] == "listing" else f"{ended} of {counts['total']}"
    line.note = "" if not batch["eta_seconds"] else f"(about {batch['eta_seconds']} s)"
    work.progress.show(line)
    work.stalls.see_batch(batch)


def _update(work: Work, entries: dict[str, Item], job: Job) -> None:
    """Take the new state of an entry's job, unless its end is known already."""
    item = entries.get(job["job_id"])
    if item is None:
        item = entries[job["job_id"]] = Item(job["url"], Line(job["url"]))
        work.items.append(item)
    if item.path is None and item.error is None:
        work.update(item, job)


def _finish(work: Work, playlist: Item, entries: dict[str, Item]) -> None:
    """Take the entries whose end was not reported, and those without a job.

    Raises:
        Unreachable, Refused, OSError
    """
    batch = playlist.batch
    assert batch is not None
    work.stalls.see_end(batch["batch_id"])
    if batch["error"] is not None:
        work.fail(playlist, batch["error"]["code"], batch["error"]["message"])
        return
    for entry in work.api.items(batch["batch_id"]):
        job, error = entry["job"], entry["error"]
        if entry["status"] == "duplicate":
            continue
        if job is not None and job["status"] in ENDED:
            _update(work, entries, job)
            continue
        name = entry["video_id"] or f"entry {entry['index'] + 1} of {playlist.link}"
        item = Item(name, Line(name))
        work.items.append(item)
        if error is None:
            error = {"code": "cancelled", "message": "The batch was cancelled."}
        work.fail(item, error["code"], error["message"])
    if (source := _source_of(batch)) is not None and source["is_truncated"]:
        work.progress.say(f"{playlist.link}: has more entries than the service takes; the others are missing")
    playlist.line.stage = "done"
    work.progress.show(playlist.line)


def title_of(batch: Batch) -> str | None:
    """Return the title of a batch's playlist or video, if it is known."""
    source = _source_of(batch)
    return None if source is None else source["title"]


def _source_of(batch: Batch) -> dict[str, Any] | None:
    """Return the playlist of a batch, or the video whose chapters it has. Older services have no field for these."""
    return batch["playlist"] or batch.get("chapters")
