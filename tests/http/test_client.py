"""`ytmp3 get`, `status` and `cancel` against a service: results, exit codes, resumed downloads, refusals."""

import asyncio
import hashlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.core.test_tag_edits import edited, written
from tests.fakes import content_of
from tests.http.client_commands import own_environment, ytmp3
from tests.http.running_service import RunningService, running_service
from ytmp3.client.api import Api, Refused
from ytmp3.client.arguments import COPIED_FORMATS, FORMATS
from ytmp3.client.download import DownloadFailed, download
from ytmp3.client.names import numbered, track_name
from ytmp3.client.progress import Bars, Line, Lines, fitted, picture
from ytmp3.core.errors import FailureCode
from ytmp3.core.recipe import Format, has_quality
from ytmp3.core.tag_edits import TagEdits

VIDEO, OTHER = "video000001", "video000002"
NAME = "Rock n Roll Tür 100.mp3"


__all__ = ["own_environment"]


async def test_get_saves_each_track_and_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(tmp_path / "data") as service:
        links = (f"https://youtu.be/{VIDEO}", OTHER)
        assert await ytmp3("get", *links, "-o", str(tmp_path / "music"), "--server", service.url) == 0
        printed = capsys.readouterr()
        paths = [Path(line) for line in printed.out.splitlines()]
        # Both have one title, and neither replaces the other.
        assert {path.name for path in paths} == {NAME, NAME.replace(".mp3", " (2).mp3")}
        assert {path.read_bytes() for path in paths} == {content_of(VIDEO), content_of(OTHER)}
        assert "done" in printed.err
        # Repeated: nothing is downloaded or saved again.
        assert await ytmp3("get", VIDEO, "-o", str(tmp_path / "music"), "--server", service.url) == 0
        assert len(list((tmp_path / "music").iterdir())) == 2


async def test_a_copied_format_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(Format) == FORMATS
    assert {name for name in Format if not has_quality(name)} == COPIED_FORMATS
    async with running_service(tmp_path / "data") as service:
        to = ("-o", str(tmp_path / "music"), "--server", service.url)
        for given, extension in (("M4A", "m4a"), ("opus", "opus"), ("mp3", "mp3")):
            assert await ytmp3("get", VIDEO, "-f", given, *to) == 0
            path = Path(capsys.readouterr().out.strip())
            assert path.name == NAME.replace("mp3", extension)
            assert path.read_bytes() == content_of(VIDEO)


async def test_tags_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.contents[VIDEO] = written("mp3")
        to = ("-o", str(tmp_path / "music"), "--server", service.url)
        (tmp_path / "music").mkdir()
        (tmp_path / "music" / "Mine.mp3.part").write_bytes(b"ID3 of another track")
        for _ in range(2):  # it is not saved twice
            assert await ytmp3("get", VIDEO, "--title", "Mine", "--artist", "Me", "--no-cover", *to) == 0
            assert Path(capsys.readouterr().out.strip()).name == "Mine.mp3"
        expected = edited(written("mp3"), TagEdits(title="Mine", artist="Me", cover=False))
        assert (tmp_path / "music" / "Mine.mp3").read_bytes() == expected
        assert await ytmp3("get", VIDEO, "--title", "Mine", *to) == 0
        assert sorted(path.name for path in (tmp_path / "music").iterdir()) == ["Mine (2).mp3", "Mine.mp3"]
        capsys.readouterr()
        assert await ytmp3("get", "https://www.youtube.com/playlist?list=PL0123456789", "--title", "x", *to) == 1
        assert "a title can be chosen for videos only" in capsys.readouterr().err


async def test_a_link_that_fails_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.failing["private0001"] = FailureCode.PRIVATE
        list_of_links = tmp_path / "links.txt"
        list_of_links.write_text(f"# my list\n\n{VIDEO}\nprivate0001\nhttps://example.org/song\n")
        arguments = ("-i", str(list_of_links), "-o", str(tmp_path / "music"), "--server", service.url, "--json")
        assert await ytmp3("get", *arguments) == 1
        lines = {line["link"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
        assert Path(lines[VIDEO]["path"]).read_bytes() == content_of(VIDEO)
        assert (lines[VIDEO]["error"], lines[VIDEO]["title"]) == (None, 'Rock "n" Roll / Tür 100%')
        assert lines["private0001"]["error"] == {"code": "private", "message": "The video is private."}
        assert lines["https://example.org/song"]["error"]["code"] == "unsupported_url"
        assert lines["https://example.org/song"]["job_id"] is None


async def test_jobs_can_be_submitted_shown_and_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.hold(VIDEO)
        server = ("--server", service.url)
        assert await ytmp3("get", VIDEO, "--no-wait", "-q", "320", "--start", "1:30", *server) == 0
        job_id = capsys.readouterr().out.strip()
        assert await ytmp3("status", job_id, "--json", *server) == 0
        job = json.loads(capsys.readouterr().out)
        assert (job["quality"], job["start_seconds"]) == ("320k", 90.0)
        assert await ytmp3("cancel", job_id, *server) == 0
        assert "cancelled" in capsys.readouterr().out
        assert await ytmp3("status", job_id, "0" * 34, *server) == 1
        printed = capsys.readouterr()
        assert printed.out.startswith(f"{job_id}  cancelled")
        assert "There is no job with this id." in printed.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("get",), "name at least one link"),
        (("get", "-i", "/nonexistent"), "No such file"),
        (("get", VIDEO, "--server", "example.org"), "is no address such as"),
        (("get", VIDEO, "--server", "file:///etc/passwd"), "is no address such as"),
        (("get", VIDEO, "--key-file", "/nonexistent"), "No such file"),
        (("get", VIDEO, "--key-file", "/dev/null"), "must have one key"),
        (("get", VIDEO, "-f", "flac"), "invalid choice"),
        (("get", VIDEO, "-f", "m4a", "-q", "192"), "--quality is only for mp3"),
        (("get", VIDEO, "-f", "opus", "--end", "1:30"), "--start and --end are only for mp3"),
        (("get", VIDEO, "a" * 11, "--title", "x"), "--title is for one link only"),
        (("get", VIDEO, "-p", "--title", "x"), "--title is for single videos"),
        (("get", VIDEO, "--split-chapters", "--title", "x"), "--title is for single videos"),
        (("get", VIDEO, "--split-chapters", "-f", "m4a"), "--split-chapters is only for mp3"),
        (("get", VIDEO, "--split-chapters", "--end", "1:30"), "--split-chapters excludes"),
        (("status",), "the following arguments are required"),
    ],
)
async def test_wrong_usage_ends_with_2(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await ytmp3(*arguments) == 2
    assert text in capsys.readouterr().err


async def test_a_track_that_cannot_be_written_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(tmp_path / "data") as service:
        (tmp_path / "music" / f"{NAME}.part").mkdir(parents=True)
        assert await ytmp3("get", VIDEO, "-o", str(tmp_path / "music"), "--server", service.url) == 1
        assert "a track cannot be saved" in capsys.readouterr().err


async def test_no_service_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for arguments in (("status", "0" * 34), ("cancel", "0" * 34), ("get", VIDEO, "-o", str(tmp_path))):
            assert await ytmp3(*arguments, "--server", address) == 3
            assert address in capsys.readouterr().err


async def test_a_key_is_taken_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "ytmp3_" + "k" * 43
    (tmp_path / "keys").write_text(f"alice {hashlib.sha256(secret.encode()).hexdigest()}\n")
    (tmp_path / "key").write_text(secret + "\n")
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys")) as service:
        to = ("-o", str(tmp_path / "music"), "--server", service.url)
        assert await ytmp3("get", VIDEO, *to) == 1
        assert "X-API-Key" in capsys.readouterr().err
        assert await ytmp3("get", VIDEO, *to, "--key-file", str(tmp_path / "key")) == 0
        monkeypatch.setenv("YTMP3_API_KEY", secret)
        monkeypatch.setenv("YTMP3_SERVER", service.url)
        assert await ytmp3("get", OTHER, "-o", str(tmp_path / "music")) == 0
        capsys.readouterr()
        assert await ytmp3("jobs", "--json") == 0
        listed = [json.loads(line)["video_id"] for line in capsys.readouterr().out.splitlines()]
        assert listed == [OTHER, VIDEO]
        assert await ytmp3("jobs", "-n", "1") == 0
        assert capsys.readouterr().out.count("\n") == 1
        monkeypatch.delenv("YTMP3_API_KEY")
        assert await ytmp3("jobs") == 1


async def saved(service: RunningService, folder: Path, **more: Any) -> tuple[Path, list[int]]:
    """Download the track of VIDEO; return its path and the numbers of bytes that were reported."""
    job, seen = await service.completed(VIDEO), list[int]()
    api = Api(server=service.url)
    return await asyncio.to_thread(lambda: download(api, job, folder, seen.append, **more)), seen


@pytest.mark.parametrize(
    ("left", "first"),
    [(content_of(VIDEO)[:4000], 4000), (b"of another track" * 9, 144), (content_of(VIDEO) + b"too long", 10240)],
    ids=["continued", "of another track", "too long"],
)
async def test_what_a_killed_client_has_left_is_continued_or_replaced(tmp_path: Path, left: bytes, first: int) -> None:
    async with running_service(tmp_path / "data") as service:
        (tmp_path / f"{NAME}.part").write_bytes(left)
        path, seen = await saved(service, tmp_path)
        assert path == tmp_path / NAME
        assert path.read_bytes() == content_of(VIDEO)
        assert not (tmp_path / f"{NAME}.part").exists()
        assert seen[-1] == 10240
        assert (seen[0] == first) or left.endswith(b"too long")


class Breaking(BaseHTTPRequestHandler):
    """A server whose connections end after `piece` bytes, and whose content may differ from what the job says."""

    content = b""
    piece = 1000
    disposition = 'attachment; filename="a.mp3"'
    requests: list[str | None]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Disposition", self.disposition)
        self.end_headers()

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.requests.append(asked)
        start = 0 if asked is None else int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(200 if asked is None else 206)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : start + self.piece])

    def log_message(self, *_: object) -> None:
        pass


def job_of(content: bytes) -> dict[str, Any]:
    file = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"video_id": VIDEO, "download_url": "/download/x.mp3", "file": file}


@contextmanager
def serving(handler: type[Breaking]) -> Iterator[Api]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield Api(server=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()


def breaking_download(folder: Path, content: bytes, piece: int, *, sha256: str | None = None) -> list[str | None]:
    """Download `content` from a server that sends only `piece` bytes at once; return the ranges that were asked for."""
    asked: list[str | None] = []
    handler = type("Handler", (Breaking,), {"content": content, "piece": piece, "requests": asked})
    job = job_of(content)
    job["file"]["sha256"] = sha256 or job["file"]["sha256"]
    with serving(handler) as api:
        path = download(api, job, folder, lambda _: None, sleep=lambda _: None)
        assert path.read_bytes() == content
    return asked


def test_a_connection_that_breaks_is_continued_at_the_byte_where_it_broke(tmp_path: Path) -> None:
    asked = breaking_download(tmp_path, content_of(VIDEO, 3500), 1000)
    assert asked == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_a_connection_that_brings_nothing_is_given_up_and_what_arrived_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="breaks again and again"):
        breaking_download(tmp_path, content_of(VIDEO, 3500), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp3.part"]


def test_a_track_that_differs_from_its_hash_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="differs from its SHA-256"):
        breaking_download(tmp_path, content_of(VIDEO, 3500), 3500, sha256="0" * 64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("video_id", "fields", "name"),
    [(VIDEO, {"format": "m4a"}, f"{VIDEO}.m4a"), (VIDEO, {}, f"{VIDEO}.mp3"), ("../x", {"format": "/y"}, "_x._y")],
)
def test_a_track_without_a_name_is_named_after_its_video_and_format(
    video_id: str, fields: dict[str, str], name: str, tmp_path: Path
) -> None:
    class Nameless(Breaking):
        content, disposition, requests = b"track", "attachment", []

    with serving(Nameless) as api:
        job = job_of(b"track") | {"video_id": video_id} | fields
        assert download(api, job, tmp_path, lambda _: None) == tmp_path / name


async def test_a_busy_service_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    waits: list[float] = []
    # One request in 100 s: none is admitted meanwhile, however slow the machine is.
    settings = {"CLIENT_REQUESTS_PER_SECOND": "0.01", "CLIENT_BURST_SIZE": "1"}
    async with running_service(tmp_path / "data", **settings) as service:
        api = Api(server=service.url, sleep=waits.append, patience_seconds=1000)
        await asyncio.to_thread(api.submit, VIDEO, {})
        with pytest.raises(Refused) as refused:
            await asyncio.to_thread(api.submit, VIDEO, {})
    assert refused.value.code == "rate_limited"
    assert waits
    assert min(waits) >= 1
    assert sum(waits) <= 1000


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename=\"a.mp3\"; filename*=UTF-8''T%C3%BCr.mp3", "Tür.mp3"),
        ('attachment; filename="plain.mp3"', "plain.mp3"),
        ("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd.mp3", "_.._etc_passwd.mp3"),
        ("attachment; filename*=UTF-8''.hidden.mp3", "hidden.mp3"),
        ("attachment; filename*=UTF-8''%E2%80%AE3pm.mp3", "_3pm.mp3"),
        ("attachment; filename*=UTF-8''%0d%0a.mp3", "fallback.mp3"),
        ("attachment", "fallback.mp3"),
        ("", "fallback.mp3"),
        ("attachment; filename*=UTF-8''" + "%E6%97%A5" * 200 + ".mp3", "日" * 65 + ".mp3"),
    ],
)
def test_the_name_of_a_track_never_leaves_the_folder(disposition: str, name: str) -> None:
    assert track_name(disposition, "fallback.mp3") == name
    assert numbered(name, 2) == name.removesuffix(".mp3") + " (2).mp3"


@pytest.mark.parametrize("make", [Bars, Lines])
def test_a_title_cannot_move_the_cursor(make: Callable[[io.StringIO], Bars | Lines]) -> None:
    stream = io.StringIO()
    progress = make(stream)
    progress.show(Line("evil\x1b[2J\r", stage="downloading", share=0.5))
    progress.say("also\x1b[2J")
    progress.close()
    assert "evil[2J" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_a_bar_has_the_width_of_the_terminal_in_every_script() -> None:
    for name in ("A song", "日本語の歌" * 30, "e\u0301" * 200):
        text = picture(Line(name, stage="downloading", share=0.5), 79)
        assert fitted(text, 79) == text
        assert "[############............]  50 % downloading" in text
    assert picture(Line("A song", share=0.5), 20).startswith(" 50 % A song")
