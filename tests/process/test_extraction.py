"""The youtube child checks yt-dlp's result: the right video, formats with sound, and the fault of a failure."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import YoutubeDLError

from ytmp3.converter.youtube.download import VideoDownload
from ytmp3.converter.youtube.downloader import Downloader, options
from ytmp3.converter.youtube.egress import refusal_of
from ytmp3.converter.youtube.events import (
    Downloaded,
    Event,
    Extracted,
    Extraction,
    ExtractionWanted,
    Preload,
    SpoolOpened,
)
from ytmp3.converter.youtube.evidence import Formats, client_of_link
from ytmp3.converter.youtube.extractor import RefusedError
from ytmp3.converter.youtube.patches import clients_named
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import VideoId

PRELOAD = Preload(egress_proxy=None, egress_ca_file=None, deno_path=None)
ASKED = VideoId("dQw4w9WgXcQ")
STORYBOARD = {"format_id": "sb0", "protocol": "mhtml", "acodec": "none", "vcodec": "none", "url": "https://x.ytimg.com"}


class AnsweringDownloader(Downloader):
    """Answers with what a test has prepared."""

    def __init__(self, answer: dict[str, Any] | Exception, *warnings: str) -> None:
        super().__init__(options(PRELOAD), None, None)
        self._answer = answer
        self._warnings = warnings

    def extract_info(self, *_: Any, **__: Any) -> dict[str, Any]:
        for warning in self._warnings:
            self.report_warning(warning)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def download_of(downloader: Downloader, scratch: Path) -> VideoDownload:
    task = Extraction(
        video_id=ASKED, scratch=str(scratch), cookies_file=None, max_duration_seconds=60, max_file_bytes=1000
    )
    return VideoDownload(downloader, task, list[Event]().append)


def code_of(answer: dict[str, Any] | Exception, scratch: Path, *warnings: str) -> str:
    download = download_of(AnsweringDownloader(answer, *warnings), scratch)
    with pytest.raises((RefusedError, YoutubeDLError)) as failure:
        download.run()
    return download.failure(failure.value).code


SECONDS = {"251": 30.0, "140": 10.0}
"""Length of each format's own track."""


def sound(format_id: str, url: str, seconds: float) -> dict[str, Any]:
    """Return a format as yt-dlp lists it."""
    size = {"filesize": 5 if format_id == "251" else 6, "tbr": 128.0, "filesize_approx": int(seconds * 128_000 / 8)}
    return {"format_id": format_id, "protocol": "https", "acodec": "opus", "vcodec": "none", "url": url, **size}


def answer(**fields: Any) -> dict[str, Any]:
    return {"_type": "video", "id": ASKED, "title": "-", "formats": [], **fields}


def test_a_trailer_is_not_the_film(tmp_path: Path) -> None:
    assert code_of({"_type": "url", "id": "trailer0001", "url": "trailer0001"}, tmp_path) == "members_only"


def test_another_video_is_never_converted(tmp_path: Path) -> None:
    sound = {"format_id": "251", "protocol": "https", "acodec": "opus", "vcodec": "none", "url": "https://x"}
    assert code_of(answer(id="another0001", formats=[sound]), tmp_path) == "extractor_broken"


def test_storyboards_alone_are_no_silent_video(tmp_path: Path) -> None:
    download = download_of(AnsweringDownloader(answer(formats=[STORYBOARD])), tmp_path)
    with pytest.raises(RefusedError) as refusal:
        download.run()
    event = download.failure(refusal.value)
    assert (event.code, event.facts.formats) == ("extractor_broken", Formats(storyboards=1))


def test_a_picture_without_sound_is_a_silent_video(tmp_path: Path) -> None:
    picture = {"format_id": "136", "protocol": "https", "acodec": "none", "vcodec": "avc1", "url": "https://x"}
    assert code_of(answer(formats=[picture, STORYBOARD]), tmp_path) == "no_audio"
    sabr = "Some tv client https formats have been skipped as they are missing a URL."
    assert code_of(answer(formats=[picture, STORYBOARD]), tmp_path, sabr) == "extractor_broken"


def test_the_verdict_is_reported_with_its_evidence(tmp_path: Path) -> None:
    downloader = AnsweringDownloader(TransportError("what is this"), "n challenge solving failed")
    downloader.write_debug("x: Some web client https formats have been skipped as they are missing a URL.")
    download = download_of(downloader, tmp_path)
    event = download.failure(TransportError("what is this"))
    assert event.code == FailureCode.EXTRACTOR_BROKEN
    assert event.facts.signs == {"sabr_only": 1}
    with pytest.raises(TransportError):
        download.run()
    assert download.failure(TransportError("x")).facts.signs == {"sabr_only": 1, "challenge_failed": 1}


def test_an_unknown_error_is_counted(tmp_path: Path) -> None:
    download = download_of(AnsweringDownloader(ValueError()), tmp_path)
    event = download.failure(ValueError("nothing that we know"))
    assert (event.code, event.facts.signs) == ("upstream_error", {"unknown_message": 1})


def test_a_network_that_hides_videos_is_reported_as_a_sign(tmp_path: Path) -> None:
    event = download_of(AnsweringDownloader({}), tmp_path).failure(
        YoutubeDLError("Video unavailable. This video is unavailable with Restricted Mode enabled.")
    )
    assert (event.code, event.facts.signs) == ("video_unavailable", {"restricted_network": 1})


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://www.google.com/sorry/index?continue=https://www.youtube.com/", "429"),
        ("https://ipv4.google.com/sorry/index", "429"),
        ("https://accounts.google.com/ServiceLogin", "login page"),
        ("https://google.com.example/sorry/index", "403"),
        ("http://169.254.169.254/sorry", "403"),
    ],
)
def test_a_redirect_away_from_youtube_is_named_by_its_host(url: str, text: str) -> None:
    assert text in refusal_of(url)


def test_the_length_of_the_track_follows_a_change_of_the_format_in_mid_download(tmp_path: Path) -> None:
    """Verification compares with the length of the format that was downloaded, not of the one that was refused."""
    links = {"251": "https://rr1.googlevideo.com/videoplayback?c=TVHTML5", "140": "https://rr1.googlevideo.com/x?c=WEB"}
    answers = [answer(formats=[sound(format_id, links[format_id], seconds)]) for format_id, seconds in SECONDS.items()]
    events = list[Event]()
    order = list[str]()

    class RefusedOnceDownloader(Downloader):
        """The link of the first client is refused after some bytes."""

        def extract_info(self, *_: Any, **__: Any) -> dict[str, Any]:
            order.append(f"extraction by {','.join(self.params['extractor_args']['youtube'].get('player_client', []))}")
            return answers.pop(0)

        def dl(self, name: str, info: dict[str, Any]) -> tuple[bool, bool]:
            Path(name).write_bytes(b"sound")
            if info["format_id"] == "251":
                raise HTTPError(Response(BytesIO(), info["url"], {}, status=403))
            return True, True

        def urlopen(self, request: Any) -> Response:
            raise TransportError("no thumbnail")

    task = Extraction(
        video_id=ASKED, scratch=str(tmp_path), cookies_file=None, max_duration_seconds=60, max_file_bytes=1000
    )
    downloader = RefusedOnceDownloader(options(PRELOAD), None, None)
    permitted = lambda: order.append("permit")  # noqa: E731
    VideoDownload(downloader, task, events.append, wait_for_permit=permitted).run()
    extracted = {event.format_id: event.track_seconds for event in events if isinstance(event, Extracted)}
    assert extracted == pytest.approx(SECONDS)
    others = ",".join(["default", *(f"-{name}" for name in sorted(clients_named("TVHTML5")))])
    assert order == ["extraction by ", "permit", f"extraction by {others}"]
    kinds = [type(event) for event in events]
    assert kinds == [Extracted, SpoolOpened, ExtractionWanted, Extracted, SpoolOpened, Downloaded]
    assert [event.name for event in events if isinstance(event, SpoolOpened)] == ["spool-1", "spool-2"]
    assert events[-1] == Downloaded(size_bytes=5, client="WEB", refused_clients=("TVHTML5",))


def test_the_client_of_a_link_is_found_in_its_query_or_path() -> None:
    for url, client in (
        ("https://rr1.googlevideo.com/videoplayback?itag=251&c=TVHTML5&n=x", "TVHTML5"),
        (
            "https://manifest.googlevideo.com/api/manifest/hls_playlist/itag/234/c/VISIONOS/n/x",
            "VISIONOS",
        ),
        ("https://rr1.googlevideo.com/videoplayback?itag=251", ""),
        ("https://rr1.googlevideo.com/videoplayback?c=" + 50 * "X", ""),
        ("https://rr1.googlevideo.com/videoplayback?c=a b", ""),
        (None, ""),
    ):
        assert client_of_link(url) == client


def test_yt_dlp_has_several_names_for_a_client_of_youtube() -> None:
    assert {"tv", "tv_downgraded"} <= set(clients_named("TVHTML5"))
    assert clients_named("VISIONOS") == ("visionos",)
    assert clients_named("NETSCAPE") == ()
