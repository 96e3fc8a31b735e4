"""yt-dlp as a library: extraction and download of one video. Imported by the zygote, run in its forked children.

The options are frozen here and held by a golden test: the YouTube extractors only, no configuration, no plugins, no
cache, one audio format into a file whose name is ours. Our checks (live, length, size, DRM) come before the download.
A link that breaks in mid-download (403, a cut) is cured once by a fresh extraction, not by asking it again.

What is slow and the same each time is done before the fork: imports, the TLS context with its 140 authorities, regular
expressions, the version of the JavaScript runtime. Measured on 2 cores, against the fake YouTube: 0.05 s of CPU and
11 MB of private memory for a whole extraction and download. The server never imports this module.
"""

import contextlib
import errno
import os
import re
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yt_dlp.downloader.http
import yt_dlp.extractor.youtube
import yt_dlp.networking._urllib
import yt_dlp.version
from msgspec import json
from yt_dlp.networking import Request
from yt_dlp.networking._helper import make_ssl_context
from yt_dlp.networking.exceptions import RequestError
from yt_dlp.utils import ContentTooShortError, DownloadError, YoutubeDLError

from ytmp3.converter.sandbox.protocol import Ready
from ytmp3.converter.youtube.cover import rehearse_cover, square_cover
from ytmp3.converter.youtube.downloader import (
    MESSAGE_CHARACTERS,
    StartedOverError,
    _connect,
    _Downloader,
    _known_runtime,
    _package_version,
    _wanted_ejs_version,
    options,
    public_only,
)
from ytmp3.converter.youtube.metadata import clean_metadata, clean_text, without_queries
from ytmp3.converter.youtube.news import (
    Cover,
    Downloaded,
    Extraction,
    Found,
    Grown,
    News,
    Preload,
    Refusal,
    Spooling,
    ToolError,
)
from ytmp3.converter.youtube.rehearsal import _Rehearsal
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import VideoId
from ytmp3.core.link import canonical_link

COVER_SECONDS: Final = 10
COVER_BYTES: Final = 4 * 2**20
COVER_NAME: Final = "cover"


_LETTERBOXED: Final = re.compile(r"/(?:hqdefault|sddefault|0)\.jpg$")


class RefusedError(Exception):
    """Our own check says no."""

    def __init__(self, code: FailureCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Youtube:
    """The preloaded part, made in the zygote. `run` is called in a forked child, once."""

    def __init__(self, preload: Preload) -> None:
        self._preload = preload
        self._tls = make_ssl_context(use_certifi=False)
        if preload.egress_ca_file:
            self._tls.load_verify_locations(cafile=preload.egress_ca_file)
        self._deno = _known_runtime(preload.deno_path)
        rehearsal = _Rehearsal(options(preload), self._tls, self._deno)
        with contextlib.suppress(Exception):  # its only purpose is what it leaves in memory
            video = rehearsal.extract_info(canonical_link(VideoId("rehearsal00")), download=False)
            rehearsal.dl(os.devnull, video)
        rehearse_cover()
        self._downloader = _Downloader(options(preload), self._tls, self._deno)
        self._downloader.get_info_extractor("Youtube")

    def ready(self, *, network_walls: bool) -> Ready:
        """Return the zygote's first words."""
        return Ready(
            yt_dlp=yt_dlp.version.__version__,
            yt_dlp_ejs=_package_version("yt-dlp-ejs"),
            ejs_wanted=_wanted_ejs_version(),
            deno=self._deno.info.version if self._deno.info else None,
            network_walls=network_walls,
        )

    def run(self, extraction: Extraction, news_descriptor: int, leave_network: Callable[[], object]) -> int:
        """Extract and download; returns the exit status. Whatever happens is said on `news_descriptor`.

        `leave_network` is called once everything is here, before a stranger's picture is decoded.
        """

        def say(news: News) -> None:
            os.write(news_descriptor, json.encode(news) + b"\n")

        try:
            # What the JavaScript runtime wants to write goes with the scratch folder.
            os.environ["HOME"] = os.environ["TMPDIR"] = extraction.scratch
            os.chdir(extraction.scratch)
            if self._preload.egress_proxy is None:
                # A proxy resolves names itself, and its own address is the operator's choice.
                socket.getaddrinfo = public_only(socket.getaddrinfo)
            yt_dlp.networking._urllib.create_connection = _connect  # noqa: SLF001  yt-dlp has no public hook
            fetch = _Fetch(self._downloader, extraction, say)
            fetch.make_cover(fetch.run(), leave_network)
        except RefusedError as refusal:
            say(Refusal(code=refusal.code.value, reason=_shown(str(refusal))))
        except Exception as error:  # noqa: BLE001  the outermost frame of the child: it reports and ends
            if not isinstance(error, YoutubeDLError):
                traceback.print_exc()
            warnings = " | ".join(self._downloader.warnings)
            say(ToolError(message=_shown(f"{type(error).__name__}: {error}"), warnings=_shown(warnings)))
        else:
            return 0
        sys.stderr.flush()
        return 1


class _Fetch:
    """One video, in the forked child."""

    def __init__(self, downloader: _Downloader, extraction: Extraction, say: Callable[[News], None]) -> None:
        self._downloader = downloader
        self._task = extraction
        self._say = say
        self._spool = Path(extraction.scratch)
        downloader.params["cookiefile"] = extraction.cookies_file
        downloader.add_progress_hook(self._on_progress)

    def run(self) -> tuple[bytes, bool] | None:
        """Extract and download; returns the thumbnail, if there is one, and whether it is letterboxed.

        Raises:
            RefusedError, and yt-dlp's errors.
        """
        video = self._extract()
        self._say(_found(video))
        spool = Path(self._task.scratch) / "spool-1"
        try:
            self._download(video, spool)
        except (RequestError, ContentTooShortError, YoutubeDLError) as error:
            if _is_our_disk(error):
                raise
            sys.stderr.write(f"fresh extraction after: {_shown(str(error))}\n")
            spool = self._download_afresh(video, spool, may_resume=not isinstance(error, StartedOverError))
        size = spool.stat().st_size if spool.exists() else 0
        if not size:
            raise RefusedError(FailureCode.MEDIA_INVALID, "an empty file")
        self._say(Downloaded(size_bytes=size))
        return self._fetch_thumbnail(video)

    def make_cover(self, thumbnail: tuple[bytes, bool] | None, leave_network: Callable[[], object]) -> None:
        """Make the cover, if there is a thumbnail to make it of. Whatever goes wrong, there is none then."""
        if thumbnail is None:
            return
        with contextlib.suppress(Exception):
            leave_network()
            picture, letterboxed = thumbnail
            (Path(self._task.scratch) / COVER_NAME).write_bytes(square_cover(picture, letterboxed=letterboxed))
            self._say(Cover(name=COVER_NAME))

    def _extract(self) -> dict[str, Any]:
        video: dict[str, Any] = self._downloader.extract_info(canonical_link(self._task.video_id), download=False)
        if not isinstance(video, dict) or video.get("_type", "video") != "video":
            raise RefusedError(FailureCode.VIDEO_UNAVAILABLE, "not a single video")
        self._check(video)
        return video

    def _check(self, video: dict[str, Any]) -> None:
        match video.get("live_status"):
            case "is_live" | "post_live":
                raise RefusedError(FailureCode.LIVE, "live")
            case "is_upcoming":
                raise RefusedError(FailureCode.UPCOMING, "upcoming")
        duration, size = video.get("duration"), _announced_bytes(video)
        if duration and duration > self._task.max_duration_seconds:
            raise RefusedError(FailureCode.TOO_LONG, f"{duration} s announced")
        if size and size > self._task.max_file_bytes:
            raise RefusedError(FailureCode.TOO_LARGE, f"{size} bytes announced")
        if not video.get("url") or video.get("acodec") == "none":
            raise RefusedError(FailureCode.NO_AUDIO, "no format with sound")

    def _download(self, video: dict[str, Any], spool: Path) -> None:
        self._say(Spooling(name=spool.name))
        self._spool = spool
        success, _ = self._downloader.dl(str(spool), video)
        if not success:
            raise DownloadError("the download ended without success")

    def _download_afresh(self, before: dict[str, Any], spool: Path, *, may_resume: bool) -> Path:
        """Go on where the same file broke off; any other format begins again under a new name."""
        video = self._extract()
        same = (video.get("format_id"), _announced_bytes(video)) == (before.get("format_id"), _announced_bytes(before))
        if not (may_resume and same and _announced_bytes(video)):
            spool = spool.with_name("spool-2")
        self._download(video, spool)
        return spool

    def _on_progress(self, progress: dict[str, Any]) -> None:
        size, total = progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or None
        if max(size, total or 0) > self._task.max_file_bytes:
            raise RefusedError(FailureCode.TOO_LARGE, f"{size} bytes of {total} arrived")
        # Counted is also what is in a buffer, or in a segment's own file, and may stay there until the next answer.
        on_disk = self._spool.stat().st_size if self._spool.exists() else 0
        if "fragment_index" not in progress and on_disk > size:
            raise StartedOverError("the download started over in mid-file: giving up")
        self._say(Grown(size_bytes=on_disk, total_bytes=total))

    def _fetch_thumbnail(self, video: dict[str, Any]) -> tuple[bytes, bool] | None:
        """Return the picture, and whether it is letterboxed."""
        for url in cover_candidates(video, self._task.video_id):
            with contextlib.suppress(Exception):  # a picture is never a reason to fail
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


def _found(video: dict[str, Any]) -> Found:
    return Found(
        metadata=clean_metadata(
            title=video.get("title"),
            uploader=video.get("artist") or video.get("uploader") or video.get("channel"),
            duration=video.get("duration"),
            thumbnail_url=video.get("thumbnail"),
        ),
        format_id=clean_text(video.get("format_id"), 40),
        container=clean_text(video.get("ext"), 10) or None,
        codec=clean_text(video.get("acodec"), 40) or None,
        bitrate_kbps=video.get("abr"),
        announced_bytes=_announced_bytes(video),
    )


def _announced_bytes(video: dict[str, Any]) -> int | None:
    size = video.get("filesize")
    return size if isinstance(size, int) and size > 0 else None


def _is_our_disk(error: BaseException) -> bool:
    return f"[Errno {errno.ENOSPC}]" in str(error) or f"[Errno {errno.EFBIG}]" in str(error)


def _shown(text: str) -> str:
    """Return a message for the server's log: capped, valid UTF-8, addresses cut to their host."""
    shortened = without_queries(text[: MESSAGE_CHARACTERS * 4])[:MESSAGE_CHARACTERS]
    return shortened.encode("utf-8", "replace").decode()
