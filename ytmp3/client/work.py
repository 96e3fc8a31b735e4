"""The work of `ytmp3 get`: submits links, follows their jobs, and downloads each track when it is ready.

Only a limited number of jobs is open at once, so that a long list does not fill the queue of the service. A link that
the service takes for a playlist becomes a batch (`playlists`), which the service converts meanwhile; its tracks are
downloaded after those of the single links.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ytmp3.client.api import Api, Batch, Job, Refused
from ytmp3.client.download import DownloadFailed, download
from ytmp3.client.progress import Line, Progress
from ytmp3.client.stalls import Stalls
from ytmp3.client.updates import Change, Updates

OPEN_JOBS: Final = 50
"""Most jobs that are open at once. The service converts 20 at once by default."""
NOT_A_VIDEO: Final = "not_a_video"
"""The code of the response to a link to a playlist, a channel or the like."""
ENDED: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(slots=True)
class Item:
    """One link or one entry of a playlist, with its job and its result; or a playlist, with its batch."""

    link: str
    line: Line
    job: Job | None = None
    batch: Batch | None = None
    path: Path | None = None
    error: str | None = None
    code: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the link has a job that, as far as known, has not ended."""
        return self.job is not None and self.path is None and self.error is None

    def as_json(self) -> dict[str, Any]:
        """Return the line of `--json`."""
        return {
            "link": self.link,
            "job_id": None if self.job is None else self.job["job_id"],
            "title": title_of(self.job),
            "path": None if self.path is None else str(self.path),
            "error": None if self.error is None else {"code": self.code, "message": self.error},
        }


@dataclass(slots=True, kw_only=True)
class Work:
    """The links of one command. `on_end` is called once for each link and entry, when it has ended.

    `whole_playlists`: of a link to a video in a playlist, the whole playlist is converted. `split_chapters`: each
    chapter of a video becomes a track. `track_numbers`: the tracks of playlists are numbered in their tags.
    """

    api: Api
    folder: Path
    fields: Mapping[str, Any]
    progress: Progress
    on_end: Callable[[Item], None]
    updates: Updates
    stalls: Stalls
    whole_playlists: bool = False
    split_chapters: bool = False
    track_numbers: bool = False
    sleep: Callable[[float], None] = time.sleep
    items: list[Item] = field(default_factory=list)
    playlists: list[Item] = field(default_factory=list)

    def run(self, links: Sequence[str]) -> None:
        """Convert and download all links but playlists. A link that fails does not stop the others.

        Raises:
            Unreachable: the service did not respond for too long.
            GaveUp: nothing advanced for too long.
            OSError: a track cannot be written.
        """
        waiting, following = deque(links), dict[str, Item]()
        while waiting or following:
            while waiting and len(following) < OPEN_JOBS:
                item = self.submit(waiting.popleft())
                if item.is_open and item.job is not None and not self.update(item, item.job):
                    following[item.job["job_id"]] = item
            if not following:
                continue
            for change in self.updates.of_jobs(list(following)):
                has_ended = self._apply(change, following)
                self.stalls.check()
                if not following or (has_ended and waiting):
                    break

    def submit(self, link: str) -> Item:
        """Submit one link. If the service refuses it, the item has ended."""
        item = Item(link, Line(link))
        self.items.append(item)
        self.progress.show(item.line)
        try:
            if self.split_chapters:
                item.batch = self.api.submit_batch({"chapters": link, **self._batch_fields()})
                self.playlists.append(item)
                return item
            if self.whole_playlists and self._becomes_a_batch(item):
                return item
            item.job = self.api.submit(link, self.fields)
        except Refused as error:
            if error.code != NOT_A_VIDEO or self.whole_playlists or self.split_chapters:
                self.fail(item, error.code, str(error))
            else:
                self._submit_playlist(item, error)
        else:
            if item.job.get("hint") == "playlist" and not self.whole_playlists:
                self.progress.say(f"{link}: also names a playlist, which --playlist converts; only the video is taken")
        return item

    def update(self, item: Item, job: Job) -> bool:
        """Take the new state of a job. If it has ended, download its track; return whether it has ended."""
        item.job = job
        self._show(item, job)
        if job["status"] not in ENDED:
            self.stalls.see_job(job)
            return False
        if job["status"] == "completed":
            self._fetch(item, job)
        else:
            failure = job["error"] or {"code": "cancelled", "message": "The job was cancelled."}
            self.fail(item, failure["code"], failure["message"])
        self.stalls.see_end(job["job_id"])
        return True

    def fail(self, item: Item, code: str, message: str) -> None:
        """Record that an item has ended without a track."""
        item.error, item.code = message, code
        item.line.stage, item.line.note = "failed", ""
        self.progress.show(item.line)
        self.on_end(item)

    def _batch_fields(self) -> dict[str, Any]:
        """Return the fields of a request for a batch: the tags of all of its tracks may include their numbers."""
        tags = dict(self.fields.get("metadata", {})) | ({"track_numbers": True} if self.track_numbers else {})
        others = {name: value for name, value in self.fields.items() if name != "metadata"}
        return others | ({"metadata": tags} if tags else {})

    def _becomes_a_batch(self, item: Item) -> bool:
        """Submit a link as a playlist; return False if it does not name one.

        Raises:
            Refused, Unreachable
        """
        if "title" in self.fields.get("metadata", ()):
            # Tracks that all have the same title are not what the user wants.
            raise Refused(422, "not_a_video", "The link names no video, and a title can be chosen for videos only.")
        try:
            item.batch = self.api.submit_batch({"playlist": item.link, **self._batch_fields()})
        except Refused as error:
            if error.code in {"not_a_playlist", "unsupported_url"}:
                return False
            raise
        self.playlists.append(item)
        return True

    def _submit_playlist(self, item: Item, refusal: Refused) -> None:
        """Submit a link that is not one to a video as a playlist."""
        try:
            if not self._becomes_a_batch(item):
                self.fail(item, refusal.code, str(refusal))
        except Refused as error:
            self.fail(item, error.code, str(error))

    def _apply(self, change: Change, following: dict[str, Item]) -> bool:
        """Take a change of the followed jobs; return whether one has ended, and remove it if so."""
        job_id = change.data.get("job_id", "")
        item = following.get(job_id)
        if item is None:
            return False
        if change.name == "refused":
            self.fail(item, change.data["code"], change.data["message"])
        elif not self.update(item, change.data):
            return False
        del following[job_id]
        return True

    def _show(self, item: Item, job: Job) -> None:
        line = item.line
        line.name = title_of(job) or item.link
        line.stage, line.share = job["stage"], job["progress"]
        if job["error"] is not None:
            line.note = f"(attempt {job['attempt'] + 1}: {job['error']['message']})"
        elif job["status"] == "pending" and job["queue_position"] is not None:
            line.note = f"(place {job['queue_position']}, about {job['eta_seconds']} s)"
        else:
            line.note = ""
        if job["status"] not in ENDED:
            self.progress.show(line)

    def _fetch(self, item: Item, job: Job) -> None:
        size = max(1, job["file"]["size_bytes"])
        item.line.stage, item.line.note = "saving", f"({size / 1e6:.1f} MB)"

        def on_bytes(have: int) -> None:
            item.line.share = have / size
            self.progress.show(item.line)

        try:
            item.path = download(self.api, job, self.folder, on_bytes, sleep=self.sleep)
        except (DownloadFailed, Refused) as error:
            self.fail(item, getattr(error, "code", "download_failed"), str(error))
            return
        item.line.stage = "done"
        self.progress.show(item.line)
        self.on_end(item)


def title_of(job: Job | None) -> str | None:
    """Return the title of a job's video, if it is known."""
    return None if job is None or job["metadata"] is None else str(job["metadata"]["title"])
