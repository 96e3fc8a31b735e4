"""Tries one way to ask YouTube, in a forked child process, for `ytmp3 doctor`.

The extraction is that of a conversion. Instead of a download, two samples of the chosen format are fetched: the first
megabyte, and a piece beyond the first minute. YouTube has served only the first minute to a player client that it was
about to refuse (`android_vr`, 2026): the second sample shows that, the first one does not.
"""

import resource
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urljoin, urlsplit

from msgspec import Struct, structs
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import RequestError
from yt_dlp.utils import YoutubeDLError

from ytmp3.converter.youtube.connecting import Route
from ytmp3.converter.youtube.downloader import BLOCK_BYTES, Downloader
from ytmp3.converter.youtube.events import Event, Probed, ProbeTask, Sample
from ytmp3.converter.youtube.extractor import Extractor, RefusedError, announced_bytes, format_in_words, shown
from ytmp3.converter.youtube.metadata import clean_duration
from ytmp3.converter.youtube.solver_client import is_solved

SAMPLE_BYTES: Final = 2**20
"""Size of a sample, in bytes: about the first minute of a song (128 kbit/s)."""
REASON_CHARACTERS: Final = 500
"""Longest text of an error in a report, in characters."""
ADVERTISEMENT_SECONDS: Final = 20.0
"""Longest wait, in seconds, for a link that is valid only after the time of an advertisement."""


class _Piece(Struct, frozen=True):
    """A part of a track."""

    url: str
    first_byte: int | None = None
    """Where the range begins; None: the link leads to the piece alone."""


class Probe:
    """The work of one child. `emit` sends what has been found after each step."""

    def __init__(self, downloader: Downloader, task: ProbeTask, emit: Callable[[Event], None], route: Route) -> None:
        self._downloader = downloader
        self._task = task
        self._emit = emit
        self._route = route
        self._extractor = Extractor(downloader, task.extraction, route.forget)
        self._found = Probed()

    def run(self) -> None:
        """Extract, and fetch the samples. Errors of YouTube are part of the result."""
        begun_at = time.monotonic()
        try:
            video = self._extractor.extract()
        except (RefusedError, YoutubeDLError, RequestError) as error:
            code, _ = self._extractor.code_of(error)
            self._add(extract_seconds=time.monotonic() - begun_at, code=code.value, reason=_text_of(error))
            return
        link = str(video.get("url") or "")
        self._add(
            extract_seconds=time.monotonic() - begun_at,
            format=format_in_words(video),
            track_seconds=clean_duration(video.get("duration")),
            is_solved=is_solved(link),
            has_token=bool(_argument("pot", link)),
            link_family=_family_of(link),
        )
        time.sleep(min(max((video.get("available_at") or 0) - time.time(), 0.0), ADVERTISEMENT_SECONDS))
        for name, seconds in (("beginning", 0.0), ("later", self._task.later_seconds)):
            sample = self._sample(video, seconds)
            self._add(**{name: sample})
            if sample is None or sample.error:
                return

    def _add(self, **found: Any) -> None:
        """Add this to what has been found, with the present figures of the process, and send it."""
        own, descendants = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        self._found = structs.replace(
            self._found,
            facts=self._extractor.facts(),
            requests=self._downloader.evidence.replies,
            cpu_seconds=own.ru_utime + own.ru_stime + descendants.ru_utime + descendants.ru_stime,
            peak_bytes=max(own.ru_maxrss, descendants.ru_maxrss) * 1024,
            family=self._route.version,
            **found,
        )
        self._emit(self._found)

    def _sample(self, video: dict[str, Any], seconds: float) -> Sample | None:
        """Fetch the piece of the track at this time; None if the track is too short for it."""
        begun_at, size = time.monotonic(), 0
        try:
            piece = self._piece(video, seconds)
            if piece is None:
                return None
            headers = dict(video.get("http_headers") or {})
            if piece.first_byte is not None:
                headers["Range"] = f"bytes={piece.first_byte}-{piece.first_byte + SAMPLE_BYTES - 1}"
            with self._downloader.urlopen(Request(piece.url, headers=headers)) as response:
                # A server that ignores the range sends the file from its beginning.
                is_other = bool(piece.first_byte) and response.status != 206
                while not is_other and size < SAMPLE_BYTES and (block := response.read(BLOCK_BYTES)):
                    size += len(block)
        except (RequestError, YoutubeDLError, OSError, ValueError) as error:
            return Sample(size_bytes=size, seconds=time.monotonic() - begun_at, error=_text_of(error))
        error_text = "the server ignores the range" if is_other else "" if size else "no byte"
        return Sample(size_bytes=size, seconds=time.monotonic() - begun_at, error=error_text)

    def _piece(self, video: dict[str, Any], seconds: float) -> _Piece | None:
        match video.get("protocol"):
            case "m3u8_native":
                playlist = self._downloader.urlopen(Request(video["url"])).read().decode("utf-8", "replace")
                return piece_of_playlist(playlist, video["url"], seconds)
            case "http_dash_segments":
                return _piece_of_fragments(video, seconds)
            case _:
                return _piece_of_file(video, seconds)


def piece_of_playlist(playlist: str, url: str, seconds: float) -> _Piece | None:
    """Return the segment of an HLS playlist at this time (RFC 8216, section 4.3.2.1: each URI follows its EXTINF)."""
    begins_at = length = 0.0
    for line in map(str.strip, playlist.splitlines()):
        if line.startswith("#EXTINF:"):
            length = float(line.removeprefix("#EXTINF:").partition(",")[0])
        elif line and not line.startswith("#"):
            if begins_at + length > seconds:
                return _Piece(urljoin(url, line))
            begins_at += length
    return None


def _piece_of_fragments(video: Mapping[str, Any], seconds: float) -> _Piece | None:
    begins_at = 0.0
    for fragment in video.get("fragments") or ():
        # The first one, which describes the track, has no duration. Any byte of the track is good for the first sample.
        length = float(fragment.get("duration") or 0.0)
        if begins_at + length > seconds:
            url = fragment.get("url") or urljoin(str(video.get("fragment_base_url") or ""), str(fragment.get("path")))
            return _Piece(url)
        begins_at += length
    return None


def _piece_of_file(video: dict[str, Any], seconds: float) -> _Piece | None:
    if not seconds:
        return _Piece(str(video["url"]), 0)
    duration, size = video.get("duration"), announced_bytes(video)
    if size is None and duration and video.get("tbr"):
        size = int(video["tbr"] * 1000 / 8 * duration)
    if not duration or not size or duration <= seconds:
        return None
    return _Piece(str(video["url"]), int(size * seconds / duration))


def _argument(name: str, url: str) -> str:
    """Return an argument of a media link, which has it in its query, or (a manifest's) in its path."""
    parts = urlsplit(url)
    of_query = parse_qs(parts.query).get(name)
    return of_query[0] if of_query else parts.path.partition(f"/{name}/")[2].partition("/")[0]


def _family_of(url: str) -> int | None:
    address = _argument("ip", url)
    return None if not address else 6 if ":" in address or "%3A" in address.upper() else 4


def _text_of(error: Exception) -> str:
    return shown(str(error))[:REASON_CHARACTERS]
