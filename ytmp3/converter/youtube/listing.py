"""Reads the entries of a playlist with yt-dlp, in a forked child process.

A listing has its own fixed options: only yt-dlp's playlist extractors are enabled, and no video is extracted. Of each
entry, only the 11-character id is used, and whether the playlist marks it as private or deleted; titles are not used,
because they may differ from those of the videos. Entries are read page by page, so a list without an end costs no more
than the limit.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ytmp3.converter.youtube.downloader import Downloader, options
from ytmp3.converter.youtube.events import Event, Facts, Failed, Listed, ListEnded, ListTask, Preload
from ytmp3.converter.youtube.metadata import clean_text
from ytmp3.converter.youtube.verdict import judge_error
from ytmp3.core.errors import FailureCode
from ytmp3.core.playlist import MAX_TITLE_CHARACTERS, PRIVATE, REMOVED

MAX_HOPS: Final = 3
"""Most redirects of yt-dlp's results to another URL, such as from a channel's name to its uploads."""
REASON_CHARACTERS: Final = 500
"""Longest failure reason, in characters, that is sent to the server."""
_VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_CODE_OF_TITLE: Final = {"[Private video]": PRIVATE, "[Deleted video]": REMOVED, "[Unavailable]": REMOVED}
"""YouTube's titles of entries that cannot be watched."""
_UNAVAILABLE: Final = re.compile(
    r"does not exist|is private|unviewable|HTTP Error 404|Failed to resolve url|does not have a|account.*terminated"
    r"|not available|redirected to youtube.com home page",
    re.IGNORECASE,
)
"""Messages of yt-dlp and YouTube about playlists that do not exist or are not public."""


def listing_options(preload: Preload) -> dict[str, Any]:
    """Return the fixed options of every listing: those of an extraction, restricted to playlists."""
    return {
        **options(preload),
        "allowed_extractors": [r"^youtube:(?:tab|playlist)$"],
        "extract_flat": True,
        "ignore_no_formats_error": True,
        "lazy_playlist": True,
        "noplaylist": False,
        "skip_download": True,
    }


def list_entries(downloader: Downloader, task: ListTask, emit: Callable[[Event], None]) -> int:
    """Read a playlist, and emit each entry, then the end, or the failure. Returns the exit status."""
    try:
        result = _opened(downloader, task.url)
        is_truncated = False
        for number, entry in enumerate(_videos(result)):
            is_truncated = number == task.max_items
            if is_truncated:
                break
            emit(Listed(video_id=entry["id"], code=_CODE_OF_TITLE.get(str(entry.get("title")))))
        emit(ListEnded(title=clean_text(result.get("title"), MAX_TITLE_CHARACTERS) or None, is_truncated=is_truncated))
    except Exception as error:  # noqa: BLE001  the outermost frame of the child: it reports and ends
        text = f"{type(error).__name__}: {error}"
        code: str = FailureCode.VIDEO_UNAVAILABLE
        if not _UNAVAILABLE.search(text):
            code = judge_error(text, "", downloader.evidence, is_extracted=False).code
        emit(Failed(code=code, reason=text[:REASON_CHARACTERS], facts=Facts()))
        return 1
    return 0


def _opened(downloader: Downloader, url: str) -> Mapping[str, Any]:
    """Return yt-dlp's result for a list, without reading its entries."""
    for _ in range(MAX_HOPS):
        result: Mapping[str, Any] = downloader.extract_info(url, download=False, process=False) or {}
        if result.get("_type") not in {"url", "url_transparent"}:
            return result
        url = str(result["url"])
    raise ValueError("the list leads to ever other addresses")


def _videos(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the entries that are videos. A channel's tabs may be nested playlists: their entries are included."""
    for entry in result.get("entries") or ():
        if not isinstance(entry, Mapping):
            continue
        if entry.get("_type") == "playlist":
            yield from _videos(entry)
        elif _VIDEO_ID.fullmatch(str(entry.get("id"))):
            yield entry
