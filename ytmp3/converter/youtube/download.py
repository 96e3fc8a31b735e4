"""Download of one extracted video with yt-dlp, in a forked child process: media, and the thumbnail for the cover.

A media link that breaks in mid-download (403, a cut connection) is cured by a fresh extraction, which gives a new link;
asking the old one again would not help. A client whose link was refused is left out of it. The server permits each
fresh extraction, so that not all children extract at once.
"""

import contextlib
import errno
import re
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import structs
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import ContentTooShortError, DownloadError, YoutubeDLError

from ytmp3.converter.youtube.choice import candidates, track_seconds
from ytmp3.converter.youtube.cover import square_cover
from ytmp3.converter.youtube.downloader import Downloader, StartedOverError
from ytmp3.converter.youtube.events import (
    CoverWritten,
    Downloaded,
    Event,
    Extracted,
    Extraction,
    ExtractionWanted,
    Failed,
    SpoolGrown,
    SpoolOpened,
    Waiting,
)
from ytmp3.converter.youtube.extractor import (
    Extractor,
    RefusedError,
    announced_bytes,
    format_in_words,
    is_forbidden,
    shown,
)
from ytmp3.converter.youtube.metadata import clean_duration, clean_metadata
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import VideoId

COVER_SECONDS: Final = 10
"""Longest wait for a connection and for each read of a thumbnail: shorter than for media, because it is optional."""

COVER_BYTES: Final = 4 * 2**20
"""Largest thumbnail that is read. Far above the size of YouTube's largest."""

MAX_EXTRACTIONS: Final = 10
"""Most extractions of one download. Each but the first few needs progress, so only a very long download has so many."""

MAX_REFUSALS: Final = 3
"""Most refused downloads in a row without a new byte: one for each of yt-dlp's default clients."""

MAX_BREAKS: Final = 2
"""The same, if the last one was not refused but broke: the reason is then hardly the client."""

SMALL_RANGE_BYTES: Final = 2**20
"""Size of the ranges, in bytes, that are asked for after a refused range. yt-dlp asks for 10 MB; to some addresses of
servers YouTube refuses more than 1 MiB at once (cobalt issue 1565, 2026)."""

MAX_FORMAT_ID_CHARACTERS: Final = 40
"""Longest name of a format that is passed on. Those of YouTube have a few characters."""

COVER_NAME: Final = "cover"
"""File name of the cover in the scratch folder."""


_LETTERBOXED: Final = re.compile(r"/(?:hqdefault|sddefault|0)\.jpg$")
"""Thumbnail sizes of 4:3 in which YouTube puts black bars above and below a 16:9 picture."""


_LEFT_WITHOUT: Final = frozenset(
    {FailureCode.EXTRACTOR_BROKEN, FailureCode.FORMAT_UNAVAILABLE, FailureCode.LANGUAGE_UNAVAILABLE}
)
"""Failures of a fresh extraction that leaving clients out may cause."""


class VideoDownload:
    """The work of one child.

    `emit` sends an event to the server. `before_extraction` is called before each time that YouTube is asked,
    `wait_for_permit` before each extraction but the first: it returns when the server permits it.
    """

    def __init__(
        self,
        downloader: Downloader,
        extraction: Extraction,
        emit: Callable[[Event], None],
        *,
        before_extraction: Callable[[], object] = lambda: None,
        wait_for_permit: Callable[[], object] = lambda: None,
    ) -> None:
        self._extractor = Extractor(downloader, extraction, before_extraction)
        self._wait_for_permit = wait_for_permit
        self._downloader = downloader
        self._task = extraction
        self._emit = emit
        self._spool = Path(extraction.scratch)
        downloader.add_progress_hook(self._on_progress)

    def run(self) -> tuple[bytes, bool] | None:
        """Extract and download. Returns the thumbnail, if there is one, and whether it is letterboxed.

        Raises:
            RefusedError: a check of ours refuses the video.
            YoutubeDLError, RequestError, ContentTooShortError, OSError: it cannot be extracted or downloaded.
        """
        video = self._extractor.extract()
        self._emit(self._extracted(video))
        spool = self._download_whole(video)
        size = _size_of(spool)
        if not size:
            raise RefusedError(FailureCode.MEDIA_INVALID, "an empty file")
        # YouTube may have renewed some cookies. The server takes them over once the whole conversion has succeeded.
        with contextlib.suppress(OSError):
            self._downloader.save_cookies()
        self._emit(
            Downloaded(
                size_bytes=size,
                rung=self._extractor.way.rung,
                failed_rungs=tuple(self._extractor.way.failed),
                client=self._extractor.client,
                refused_clients=tuple(self._extractor.refused_clients),
            )
        )
        return self._fetch_thumbnail(video)

    def _download_whole(self, video: dict[str, Any]) -> Path:
        """Download, with a fresh extraction after each failure as long as that may help. Returns the file."""
        spool = Path(self._task.scratch) / "spool-1"
        size_before = fruitless = 0
        for number in range(2, MAX_EXTRACTIONS + 2):
            try:
                self._download(video, spool)
            except (RequestError, ContentTooShortError, YoutubeDLError) as failure:
                size, before = _size_of(spool), video
                fruitless = 0 if size > size_before else fruitless + 1
                most = MAX_REFUSALS if _is_refusal(failure) else MAX_BREAKS
                if _is_final(failure) or number > MAX_EXTRACTIONS or fruitless == most:
                    raise
                sys.stderr.write(f"fresh extraction after: {shown(str(failure))}\n")
                video = self._extract_afresh(failure, fruitless)
                self._emit(self._extracted(video))
                size_before = size
                if isinstance(failure, StartedOverError) or not _is_same_file(video, before):
                    spool, size_before = spool.with_name(f"spool-{number}"), 0
            else:
                break
        return spool

    def _extract_afresh(self, failure: Exception, fruitless: int) -> dict[str, Any]:
        """Extract again after a failed download, without its client if that is to blame.

        `fruitless`: how many downloads in a row have brought no byte. If nobody is left to ask, everybody is asked
        again once, because links also die by themselves. Raises `failure` if that may not help.
        """
        way, may_start_over = self._extractor.way, fruitless <= 1
        if (_is_refusal(failure) or fruitless) and not self._extractor.leave_out_client():
            if not may_start_over:
                raise failure
            way.start_over()
        self._emit(ExtractionWanted())
        self._wait_for_permit()
        self._downloader.evidence.begin_again()
        try:
            return self._extractor.extract()
        except (RefusedError, YoutubeDLError) as error:
            # Perhaps nobody was left to ask: yt-dlp's own choice of clients is not known here. Or those who are left do
            # not offer the codec that the refused link had.
            is_nobody_left = way.leaves_out and self._extractor.code_of(error)[0] in _LEFT_WITHOUT
            if not is_nobody_left:
                raise
        if not may_start_over:
            raise failure
        way.start_over()
        return self._extractor.extract()

    def _download(self, video: dict[str, Any], spool: Path) -> None:
        self._emit(SpoolOpened(name=spool.name))
        self._spool = spool
        wait = (video.get("available_at") or 0) - time.time()
        if wait > 0:
            # yt-dlp sleeps before the download.
            self._emit(Waiting(seconds=wait))
        try:
            self._download_in_ranges(video, spool)
        except HTTPError as error:
            if not is_forbidden(error) or _size_of(spool) or video.get("protocol") != "https":
                raise
            sys.stderr.write("smaller ranges after a refused one\n")
            small = {"http_chunk_size": SMALL_RANGE_BYTES}
            self._download_in_ranges({**video, "downloader_options": small}, spool)

    def _download_in_ranges(self, video: dict[str, Any], spool: Path) -> None:
        success, _ = self._downloader.dl(str(spool), video)
        if not success:
            raise DownloadError("the download ended without success")

    def _on_progress(self, progress: dict[str, Any]) -> None:
        size, total = progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or None
        if max(size, total or 0) > self._task.max_file_bytes:
            raise RefusedError(FailureCode.TOO_LARGE, f"{size} bytes of {total} arrived")
        # yt-dlp also counts bytes that are still in a buffer or in a fragment's own file, so its count can be ahead of
        # the size of our file, and stay ahead until the next response.
        on_disk = _size_of(self._spool)
        if "fragment_index" not in progress and on_disk > size:
            raise StartedOverError("the download started over in mid-file: giving up")
        self._emit(SpoolGrown(size_bytes=on_disk, total_bytes=total))

    def _extracted(self, video: dict[str, Any]) -> Extracted:
        wanted = self._downloader.wanted
        chosen = str(video.get("format_id"))
        others = candidates(video.get("formats") or (), structs.replace(wanted, excluded=wanted.excluded | {chosen}))
        return Extracted(
            metadata=clean_metadata(video),
            facts=self._extractor.facts(),
            format_id=chosen[:MAX_FORMAT_ID_CHARACTERS],
            has_other_formats=bool(others),
            track_seconds=clean_duration(track_seconds(video)),
            format=format_in_words(video),
        )

    def failure(self, error: Exception) -> Failed:
        """Return the event for an error that `run` raised."""
        code, sign = self._extractor.code_of(error)
        if sign is not None:
            self._downloader.evidence.warned(sign)
        return Failed(code=code.value, reason=shown(str(error)), facts=self._extractor.facts())

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


def _is_same_file(video: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a fresh extraction offers the same file, so that its download can be continued."""
    same = (video.get("format_id"), announced_bytes(video)) == (before.get("format_id"), announced_bytes(before))
    return same and announced_bytes(video) is not None


def _is_final(error: BaseException) -> bool:
    """Whether a fresh extraction cannot help: our disk is full, or YouTube wants to be asked less."""
    is_our_disk = f"[Errno {errno.ENOSPC}]" in str(error) or f"[Errno {errno.EFBIG}]" in str(error)
    return is_our_disk or (isinstance(error, HTTPError) and error.status == HTTPStatus.TOO_MANY_REQUESTS)


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, HTTPError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR


def _size_of(spool: Path) -> int:
    return spool.stat().st_size if spool.exists() else 0
