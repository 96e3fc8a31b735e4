"""The server's side of a child process that reads a playlist: its events, its limits, its end.

The child is not trusted: the server itself limits the time and the number of entries, and accepts an entry only if it
has the form of a video id.
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from ytmp3.converter.sandbox.protocol import Profile, ResourceLimits
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import Egress
from ytmp3.converter.youtube.child_run import FILE_BYTES, run_child
from ytmp3.converter.youtube.events import Failed, Listed, ListEnded, ListTask, decode_event
from ytmp3.core.errors import ConversionError, FailureCode, NoProcess
from ytmp3.core.playlist import MESSAGES, Entry, Listing

LIST_SECONDS: Final = 120.0
"""Longest time, in seconds, to read a playlist. 1,000 entries are ten pages. The entries read by then are used."""
DATA_BYTES: Final = 2**30
"""Private memory of the child. A page is at most a few megabytes, and only one page is in memory at a time."""
_VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)


async def read_playlist(
    spawner: Spawner,
    url: str,
    scratch: Path,
    profile: Profile,
    *,
    max_items: int,
    egress: Egress | None = None,
    seconds: float = LIST_SECONDS,
) -> Listing:
    """Return the first `max_items` entries of the list at `url`, or those that were read within `seconds`.

    `profile` is what the child may reach besides its scratch folder.

    Raises:
        ConversionError: it cannot be read. VIDEO_UNAVAILABLE: it does not exist, or it is private.
    """
    run = _Run(max_items)
    limits = ResourceLimits(
        file_bytes=FILE_BYTES,
        cpu_seconds=int(2 * seconds) + 1,
        data_bytes=DATA_BYTES,
        network=True,
        profile=msgspec.structs.replace(profile, writable=(str(scratch),)),
    )
    task = msgspec.json.encode(ListTask(url=url, max_items=max_items, scratch=str(scratch), egress=egress))
    try:
        await run_child(spawner, task, limits, run.on_line, seconds=seconds)
    except ZygoteError as error:
        raise NoProcess(str(error)) from error
    return run.result()


class _Run:
    """The events that a child has sent."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._entries: list[Entry] = []
        self._end: ListEnded | None = None
        self._error: Failed | None = None

    def on_line(self, line: bytes) -> None:
        """Process a line from the child. A line that is not an event is ignored."""
        try:
            event = decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        match event:
            case Listed(video_id=video_id, code=code):
                if len(self._entries) < self._max_items and _VIDEO_ID.fullmatch(video_id):
                    self._entries.append(Entry(video_id=video_id, code=code if code in MESSAGES else None))
            case ListEnded():
                self._end = event
            case Failed():
                self._error = event
            case _:
                pass

    def result(self) -> Listing:
        """Return the entries, also if the child ended before the end of the playlist.

        Raises:
            ConversionError: there is none because of an error.
        """
        if self._end is None and not self._entries:
            raise self._failure()
        title = None if self._end is None else self._end.title
        is_truncated = self._end is None or self._end.is_truncated
        return Listing(title=title, entries=tuple(self._entries), is_truncated=is_truncated)

    def _failure(self) -> ConversionError:
        if self._error is None:
            return ConversionError(FailureCode.UPSTREAM_TIMEOUT, "the playlist")
        try:
            code = FailureCode(self._error.code)
        except ValueError:
            code = FailureCode.UPSTREAM_ERROR
        return ConversionError(code, self._error.reason)
