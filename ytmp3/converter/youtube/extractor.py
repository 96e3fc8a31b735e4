"""Extraction and download of one video with yt-dlp, in a forked child process.

Our own checks (the right video, live, length, size, a format with sound) come before the download. Where the clients of
one rung of the ladder fail, those of the next are asked. A media link that breaks in mid-download (403, a cut
connection) is cured by a fresh extraction, which gives a new link; asking the old one again would not help.
"""

import contextlib
import errno
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import structs
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import RequestError
from yt_dlp.utils import ContentTooShortError, DownloadError, YoutubeDLError

from ytmp3.converter.youtube.choice import Wanted, candidates, track_seconds
from ytmp3.converter.youtube.cover import square_cover
from ytmp3.converter.youtube.downloader import MESSAGE_CHARACTERS, Downloader, StartedOverError
from ytmp3.converter.youtube.events import (
    CoverWritten,
    Downloaded,
    Event,
    Extracted,
    Extraction,
    Facts,
    Failed,
    SpoolGrown,
    SpoolOpened,
    Waiting,
)
from ytmp3.converter.youtube.evidence import Formats, count_formats
from ytmp3.converter.youtube.ladder import CURABLE, Rung, clients_of
from ytmp3.converter.youtube.metadata import clean_duration, clean_metadata, without_queries
from ytmp3.converter.youtube.signs import Sign, sign_of_failure
from ytmp3.converter.youtube.verdict import judge_error, judge_formats
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Metadata
from ytmp3.core.link import canonical_link

COVER_SECONDS: Final = 10
"""Longest wait for a connection and for each read of a thumbnail: shorter than for media, because it is optional."""

COVER_BYTES: Final = 4 * 2**20
"""Largest thumbnail that is read. Far above the size of YouTube's largest."""

MAX_EXTRACTIONS: Final = 10
"""Most extractions of one download. Each but the first few needs progress, so only a very long download has so many."""

MAX_FORMAT_ID_CHARACTERS: Final = 40
"""Longest name of a format that is passed on. Those of YouTube have a few characters."""

COVER_NAME: Final = "cover"
"""File name of the cover in the scratch folder."""


_LETTERBOXED: Final = re.compile(r"/(?:hqdefault|sddefault|0)\.jpg$")
"""Thumbnail sizes of 4:3 in which YouTube puts black bars above and below a 16:9 picture."""


class RefusedError(Exception):
    """A check of ours refuses the video."""

    def __init__(self, code: FailureCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class VideoDownload:
    """The work of one child.

    `emit` sends an event to the server. `before_extraction` is called before each extraction.
    """

    def __init__(
        self,
        downloader: Downloader,
        extraction: Extraction,
        emit: Callable[[Event], None],
        before_extraction: Callable[[], object] = lambda: None,
    ) -> None:
        self._before_extraction = before_extraction
        self._downloader = downloader
        self._task = extraction
        self._emit = emit
        self._spool = Path(extraction.scratch)
        self._rungs = list(extraction.rungs)
        self._failed_rungs: list[Rung] = []
        self._formats = Formats()
        self._is_extracted = False
        downloader.evidence.has_cookies = extraction.cookies_file is not None
        downloader.params["cookiefile"] = extraction.cookies_file
        downloader.add_progress_hook(self._on_progress)

    def run(self) -> tuple[bytes, bool] | None:
        """Extract and download. Returns the thumbnail, if there is one, and whether it is letterboxed.

        Raises:
            RefusedError: a check of ours refuses the video.
            YoutubeDLError, RequestError, ContentTooShortError, OSError: it cannot be extracted or downloaded.
        """
        video = self._extract()
        self._is_extracted = True
        self._emit(self._extracted(video))
        spool = self._download_whole(video)
        size = spool.stat().st_size if spool.exists() else 0
        if not size:
            raise RefusedError(FailureCode.MEDIA_INVALID, "an empty file")
        self._emit(Downloaded(size_bytes=size, rung=self._rungs[0], failed_rungs=tuple(self._failed_rungs)))
        return self._fetch_thumbnail(video)

    def _download_whole(self, video: dict[str, Any]) -> Path:
        """Download, with a fresh extraction after each failure as long as that may help. Returns the file.

        A link that fails is often refused for the client that asked. So the next rung asks, if there is one; and after
        that only where bytes have arrived since the last failure.
        """
        spool = Path(self._task.scratch) / "spool-1"
        is_first, size_before = True, 0
        for number in range(2, MAX_EXTRACTIONS + 2):
            try:
                self._download(video, spool)
            except (RequestError, ContentTooShortError, YoutubeDLError) as error:
                size = spool.stat().st_size if spool.exists() else 0
                may_help = self._step_on() or is_first or size > size_before
                if _is_our_disk(error) or number > MAX_EXTRACTIONS or not may_help:
                    raise
                sys.stderr.write(f"fresh extraction after: {shown(str(error))}\n")
                is_first, size_before, before = False, size, video
                video = self._extract()
                if isinstance(error, StartedOverError) or not _is_same_file(video, before):
                    spool, size_before = spool.with_name(f"spool-{number}"), 0
            else:
                break
        return spool

    def _step_on(self) -> bool:
        """Go on to the next rung, if there is one."""
        if len(self._rungs) == 1:
            return False
        self._failed_rungs.append(self._rungs.pop(0))
        self._downloader.evidence.begin_again()
        return True

    def make_cover(self, thumbnail: tuple[bytes, bool] | None, leave_everything: Callable[[], object]) -> None:
        """Make the cover from the thumbnail that `run` returned. Any error only means that there is no cover.

        The file is opened first: once the picture is decoded, this process can open none any more.
        """
        if thumbnail is None:
            return
        with contextlib.suppress(Exception):
            picture, letterboxed = thumbnail
            with (Path(self._task.scratch) / COVER_NAME).open("wb") as file:
                leave_everything()
                file.write(square_cover(picture, letterboxed=letterboxed))
            self._emit(CoverWritten(name=COVER_NAME))

    def _extracted(self, video: dict[str, Any]) -> Extracted:
        wanted = self._downloader.wanted
        chosen = str(video.get("format_id"))
        others = candidates(video.get("formats") or (), structs.replace(wanted, excluded=wanted.excluded | {chosen}))
        return Extracted(
            metadata=_metadata(video),
            facts=self._facts(),
            format_id=chosen[:MAX_FORMAT_ID_CHARACTERS],
            has_other_formats=bool(others),
            track_seconds=clean_duration(track_seconds(video)),
            format=_format_in_words(video),
        )

    def failure(self, error: Exception) -> Failed:
        """Return the event for an error that `run` raised."""
        code, sign = self._code_of(error)
        if sign is not None:
            self._downloader.evidence.warned(sign)
        return Failed(code=code.value, reason=shown(str(error)), facts=self._facts())

    def _code_of(self, error: Exception) -> tuple[FailureCode, Sign | None]:
        """Return the verdict on an error, and what the operator should know besides."""
        if isinstance(error, RefusedError):
            return error.code, None
        text = f"{type(error).__name__}: {error}"
        verdict = judge_error(text, self._task.video_id, self._downloader.evidence, is_extracted=self._is_extracted)
        return verdict.code, sign_of_failure(text) if verdict.is_known else Sign.UNKNOWN_MESSAGE

    def _facts(self) -> Facts:
        return Facts(
            rung=self._rungs[0],
            failed_rungs=tuple(self._failed_rungs),
            formats=self._formats,
            signs=self._downloader.evidence.kinds(),
        )

    def _extract(self) -> dict[str, Any]:
        """Extract by one rung after the other, as long as the next one may do better."""
        while True:
            if len(self._task.rungs) > 1:
                clients = clients_of(self._rungs[0], self._failed_rungs)
                self._downloader.params["extractor_args"]["youtube"]["player_client"] = list(clients)
            try:
                return self._extract_once()
            except (RefusedError, YoutubeDLError) as error:
                if self._code_of(error)[0] not in CURABLE or not self._step_on():
                    raise
                sys.stderr.write(f"other clients after: {shown(str(error))}\n")

    def _extract_once(self) -> dict[str, Any]:
        """Return what yt-dlp found, with the chosen format.

        The listed formats are judged before yt-dlp chooses one: its "requested format is not available" would not say
        whether YouTube listed anything at all.
        """
        self._before_extraction()
        listed: dict[str, Any] = self._downloader.extract_info(
            canonical_link(self._task.video_id), download=False, process=False
        )
        self._check_identity(listed)
        self._check_liveness(listed)
        self._formats = count_formats(listed.get("formats") or ())
        verdict = judge_formats(self._formats, self._downloader.evidence)
        if verdict is not None:
            raise RefusedError(verdict.code, f"no format with sound: {self._formats}")
        is_post_live = listed.get("live_status") == "post_live"
        self._downloader.wanted = Wanted(
            excluded=frozenset(self._task.excluded_formats),
            is_post_live=is_post_live,
            seconds=clean_duration(listed.get("duration")),
        )
        if is_post_live and not candidates(listed["formats"], self._downloader.wanted):
            raise RefusedError(FailureCode.UPSTREAM_ERROR, "a stream that has just ended, with no whole format yet")
        video: dict[str, Any] = self._downloader.process_ie_result(listed, download=False)
        self._check(video)
        return video

    def _check_identity(self, listed: object) -> None:
        """Refuse every other video than the one that was asked for."""
        if not isinstance(listed, dict):
            raise RefusedError(FailureCode.VIDEO_UNAVAILABLE, "not a single video")
        if listed.get("_type", "video") in {"url", "url_transparent"}:
            # yt-dlp goes on to the trailer of a film that must be bought.
            raise RefusedError(FailureCode.MEMBERS_ONLY, "the answer is another video: a trailer")
        if listed.get("_type", "video") != "video":
            raise RefusedError(FailureCode.VIDEO_UNAVAILABLE, "not a single video")
        if listed.get("id") != self._task.video_id:
            raise RefusedError(FailureCode.EXTRACTOR_BROKEN, "the answer is another video")

    def _check_liveness(self, video: dict[str, Any]) -> None:
        match video.get("live_status"):
            case "is_live":
                raise RefusedError(FailureCode.LIVE, "live")
            case "is_upcoming":
                raise RefusedError(FailureCode.UPCOMING, "upcoming")

    def _check(self, video: dict[str, Any]) -> None:
        duration, size = video.get("duration"), _announced_bytes(video)
        if duration and duration > self._task.max_duration_seconds:
            raise RefusedError(FailureCode.TOO_LONG, f"{duration} s announced")
        if size and size > self._task.max_file_bytes:
            raise RefusedError(FailureCode.TOO_LARGE, f"{size} bytes announced")
        if not video.get("url") or video.get("acodec") == "none":
            raise RefusedError(FailureCode.EXTRACTOR_BROKEN, "the chosen format has no sound")

    def _download(self, video: dict[str, Any], spool: Path) -> None:
        self._emit(SpoolOpened(name=spool.name))
        self._spool = spool
        wait = (video.get("available_at") or 0) - time.time()
        if wait > 0:
            # yt-dlp sleeps before the download.
            self._emit(Waiting(seconds=wait))
        success, _ = self._downloader.dl(str(spool), video)
        if not success:
            raise DownloadError("the download ended without success")

    def _on_progress(self, progress: dict[str, Any]) -> None:
        size, total = progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or None
        if max(size, total or 0) > self._task.max_file_bytes:
            raise RefusedError(FailureCode.TOO_LARGE, f"{size} bytes of {total} arrived")
        # yt-dlp also counts bytes that are still in a buffer or in a fragment's own file, so its count can be ahead of
        # the size of our file, and stay ahead until the next response.
        on_disk = self._spool.stat().st_size if self._spool.exists() else 0
        if "fragment_index" not in progress and on_disk > size:
            raise StartedOverError("the download started over in mid-file: giving up")
        self._emit(SpoolGrown(size_bytes=on_disk, total_bytes=total))

    def _fetch_thumbnail(self, video: dict[str, Any]) -> tuple[bytes, bool] | None:
        """Return the picture, and whether it is letterboxed. A missing picture never fails a conversion."""
        for url in cover_candidates(video, self._task.video_id):
            with contextlib.suppress(Exception):
                if picture := self._read_picture(url):
                    return picture, _LETTERBOXED.search(url) is not None
        return None

    def _read_picture(self, url: str) -> bytes | None:
        response = self._downloader.urlopen(Request(url, extensions={"timeout": COVER_SECONDS}))
        picture: bytes = response.read(COVER_BYTES + 1)
        return picture if 0 < len(picture) <= COVER_BYTES else None


def cover_candidates(video: dict[str, Any], video_id: VideoId) -> list[str]:
    """Return at most two addresses of a picture of middle size, the better one first."""
    known = [
        entry["url"]
        for entry in video.get("thumbnails") or ()
        if 480 <= (entry.get("height") or 0) <= 720 and _is_picture_address(entry.get("url"))
    ]
    guesses = [f"https://i.ytimg.com/vi/{video_id}/{name}.jpg" for name in ("hq720", "hqdefault")]
    return [*known[-1:], *guesses][:2]


def _is_picture_address(url: object) -> bool:
    if not isinstance(url, str):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" and (parts.hostname or "").endswith(".ytimg.com") and parts.path.endswith(".jpg")


_FORMAT_FIELDS: Final = ("format_id", "acodec", "abr", "language", "protocol")
"""What the log says of the chosen format: its number, codec, rate in kbit/s, language and protocol."""


def _format_in_words(video: dict[str, Any]) -> str:
    return " ".join(str(video[name])[:40] for name in _FORMAT_FIELDS if video.get(name) is not None)


def _metadata(video: dict[str, Any]) -> Metadata:
    return clean_metadata(
        title=video.get("title"),
        uploader=video.get("artist") or video.get("uploader") or video.get("channel"),
        duration=video.get("duration"),
        thumbnail_url=video.get("thumbnail"),
    )


def _announced_bytes(video: dict[str, Any]) -> int | None:
    size = video.get("filesize")
    return size if isinstance(size, int) and size > 0 else None


def _is_same_file(video: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a fresh extraction offers the same file, so that its download can be continued."""
    same = (video.get("format_id"), _announced_bytes(video)) == (before.get("format_id"), _announced_bytes(before))
    return same and _announced_bytes(video) is not None


def _is_our_disk(error: BaseException) -> bool:
    return f"[Errno {errno.ENOSPC}]" in str(error) or f"[Errno {errno.EFBIG}]" in str(error)


def shown(text: str) -> str:
    """Return a message as it may go to the server's log: bounded, valid UTF-8, addresses cut to their host."""
    shortened = without_queries(text[: MESSAGE_CHARACTERS * 4])[:MESSAGE_CHARACTERS]
    return shortened.encode("utf-8", "replace").decode()
