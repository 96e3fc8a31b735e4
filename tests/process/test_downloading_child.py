"""The youtube child: the options of yt-dlp, the reports of the spool's size, and the order of the steps."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ytmp3.converter.cookies import Cookies
from ytmp3.converter.youtube.download import VideoDownload
from ytmp3.converter.youtube.downloader import Downloader, StartedOverError, options
from ytmp3.converter.youtube.events import CoverWritten, Event, Extraction, Preload, SpoolGrown, SpoolOpened
from ytmp3.core.errors import ConversionError, Fault
from ytmp3.core.ids import VideoId

PRELOAD = Preload(egress_proxy=None, egress_ca_file=None, deno_path=None)


def extraction_in(scratch: Path) -> Extraction:
    return Extraction(
        video_id=VideoId("-"), scratch=str(scratch), cookies_file=None, max_duration_seconds=1, max_file_bytes=1000
    )


def test_reported_is_the_size_on_disk_and_not_the_count_of_yt_dlp(tmp_path: Path) -> None:
    events = list[Event]()
    spool = tmp_path / "spool-1"

    class BufferingDownloader(Downloader):
        """Writes a little and reports it while it is still in a buffer; then has more on disk than it has counted."""

        def dl(self, name: str, info: object) -> tuple[bool, bool]:
            assert (name, info) == (str(spool), {})
            with spool.open("wb") as file:
                file.write(b"x" * 100)
                download._on_progress({"downloaded_bytes": 100})
                file.flush()
                download._on_progress({"downloaded_bytes": 100})
                download._on_progress({"downloaded_bytes": 50, "fragment_index": 1})
                download._on_progress({"downloaded_bytes": 50})
            raise AssertionError

    download = VideoDownload(BufferingDownloader(options(PRELOAD), None, None), extraction_in(tmp_path), events.append)
    with pytest.raises(StartedOverError):
        download._download({}, spool)
    sizes = [event.size_bytes for event in events if isinstance(event, SpoolGrown)]
    assert (events[0], sizes) == (SpoolOpened(name="spool-1"), [0, 100, 100])


def test_a_thumbnail_is_decoded_after_everything_is_left(tmp_path: Path) -> None:
    picture = BytesIO()
    Image.new("RGB", (16, 9)).save(picture, "JPEG")
    sizes, events = list[int](), list[Event]()
    download = VideoDownload(Downloader(options(PRELOAD), None, None), extraction_in(tmp_path), events.append)
    path = tmp_path / "cover"
    download.make_cover((picture.getvalue(), False), leave_everything=lambda: sizes.append(path.stat().st_size))
    assert sizes == [0], "the file is open before everything is left, and written afterwards"
    assert events == [CoverWritten(name="cover")]
    with Image.open(path) as cover:
        assert cover.size == (9, 9)


def test_a_thumbnail_is_not_decoded_where_access_cannot_be_left(tmp_path: Path) -> None:
    def fails() -> None:
        raise OSError

    events = list[Event]()
    download = VideoDownload(Downloader(options(PRELOAD), None, None), extraction_in(tmp_path), events.append)
    download.make_cover((b"\xff\xd8\xff", False), leave_everything=fails)
    assert events == []


def test_the_options_of_yt_dlp_are_fixed() -> None:
    preload = Preload(egress_proxy="http://proxy:3128", egress_ca_file=None, deno_path="/deno")
    expected: dict[str, Any] = {
        "allowed_extractors": ["^youtube$"],
        "buffersize": 65536,
        "cachedir": False,
        "color": {"stdout": "no_color", "stderr": "no_color"},
        "continuedl": True,
        "cookiefile": None,
        "extractor_args": {"youtube": {}},
        "extractor_retries": 1,
        "fixup": "never",
        "fragment_retries": 3,
        "geo_bypass": False,
        "hls_prefer_native": True,
        "ignoreerrors": False,
        "js_runtimes": {"deno": {"path": "/deno"}},
        "nopart": True,
        "noplaylist": True,
        "noprogress": True,
        "noresizebuffer": True,
        "outtmpl": {"default": "spool"},
        "overwrites": True,
        "postprocessors": [],
        "proxy": "http://proxy:3128",
        "quiet": True,
        "remote_components": [],
        "retries": 3,
        "skip_unavailable_fragments": False,
        "socket_timeout": 20,
        "updatetime": False,
        "usenetrc": False,
    }
    assert options(preload) == expected


def test_cookies_that_are_gone_are_a_fault_of_the_settings(tmp_path: Path) -> None:
    cookies = Cookies(tmp_path / "cookies", lambda: 0.0)
    (tmp_path / "cookies").write_text("cookies")
    assert cookies.copy_to(tmp_path / "copy") == b"cookies"
    (tmp_path / "cookies").unlink()
    with pytest.raises(ConversionError, match="COOKIES_FILE: No such file") as failure:
        cookies.copy_to(tmp_path / "copy")
    assert failure.value.failure.fault is Fault.SETTINGS
