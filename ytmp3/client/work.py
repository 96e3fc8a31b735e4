"""The work of `ytmp3 get`: submits links, polls their jobs, and downloads each track when it is ready.

Only a limited number of jobs is open at once, so that a long list does not fill the queue of the service. Jobs are
polled, because every service and every proxy in front of it supports that.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ytmp3.client.api import Api, Job, Refused, Unreachable
from ytmp3.client.download import DownloadFailed, download
from ytmp3.client.progress import Line, Progress

OPEN_JOBS: Final = 50
"""Most jobs that are open at once. The service converts 20 at once by default."""
POLL_SECONDS: Final = 1.0
"""Shortest interval, in seconds, at which all open jobs are polled."""
ASKED_PER_SECOND: Final = 10
"""Most status requests per second: nginx in front of a service admits 50 from one address."""
_ENDED: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(slots=True)
class Item:
    """One link, with its job and its result."""

    link: str
    line: Line
    job: Job | None = None
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
    """The links of one command. `on_end` is called once for each link, when it has ended."""

    api: Api
    folder: Path
    fields: Mapping[str, str]
    progress: Progress
    on_end: Callable[[Item], None]
    sleep: Callable[[float], None] = time.sleep
    items: list[Item] = field(default_factory=list)

    def run(self, links: Sequence[str]) -> None:
        """Convert and download all links. A link that fails does not stop the others.

        Raises:
            Unreachable: the service did not respond for too long.
            OSError: a track cannot be written.
        """
        waiting, following = deque(links), deque[Item]()
        while waiting or following:
            while waiting and len(following) < OPEN_JOBS:
                item = self.submit(waiting.popleft())
                if item.is_open:
                    following.append(item)
            for item in self._asked(following):
                following.remove(item)
            if following:
                self.sleep(max(POLL_SECONDS, len(following) / ASKED_PER_SECOND))

    def submit(self, link: str) -> Item:
        """Submit one link. If the service refuses it, the item has ended."""
        item = Item(link, Line(link))
        self.items.append(item)
        self.progress.show(item.line)
        try:
            item.job = self.api.submit(link, self.fields)
        except Refused as error:
            self._fail(item, error.code, str(error))
        else:
            if item.job.get("hint") == "playlist":
                self.progress.say(f"{link}: also names a playlist; only the video is converted")
        return item

    def cancel(self) -> list[Item]:
        """Cancel the open jobs; return those that could not be cancelled."""
        left = []
        for item in self.items:
            if not item.is_open or item.job is None:
                continue
            try:
                self.api.cancel(item.job["job_id"])
            except (Unreachable, Refused):
                left.append(item)
            else:
                item.error, item.code = "cancelled", "cancelled"
        return left

    def _asked(self, following: deque[Item]) -> Iterator[Item]:
        """Poll each open job once; yield those that have ended."""
        for item in list(following):
            assert item.job is not None
            if item.job["status"] not in _ENDED:
                try:
                    item.job = self.api.status(item.job["job_id"])
                except Refused as error:
                    self._fail(item, error.code, str(error))
                    yield item
                    continue
            self._show(item, item.job)
            if item.job["status"] == "completed":
                self._fetch(item, item.job)
            elif item.job["status"] in _ENDED:
                failure = item.job["error"] or {"code": "cancelled", "message": "The job was cancelled."}
                self._fail(item, failure["code"], failure["message"])
            else:
                continue
            yield item

    def _show(self, item: Item, job: Job) -> None:
        line = item.line
        line.name = title_of(job) or item.link
        line.stage, line.share = job["stage"], job["progress"]
        if job["status"] == "pending" and job["queue_position"] is not None:
            line.note = f"(place {job['queue_position']}, about {job['eta_seconds']} s)"
        else:
            line.note = "" if job["error"] is None else f"(attempt {job['attempt'] + 1}: {job['error']['message']})"
        if job["status"] not in _ENDED:
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
            self._fail(item, getattr(error, "code", "download_failed"), str(error))
            return
        item.line.stage = "done"
        self.progress.show(item.line)
        self.on_end(item)

    def _fail(self, item: Item, code: str, message: str) -> None:
        item.error, item.code = message, code
        item.line.stage, item.line.note = "failed", ""
        self.progress.show(item.line)
        self.on_end(item)


def title_of(job: Job | None) -> str | None:
    """Return the title of a job's video, if it is known."""
    return None if job is None or job["metadata"] is None else str(job["metadata"]["title"])
