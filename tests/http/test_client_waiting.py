"""How `ytmp3 get` waits: playlists, event streams and polling, Ctrl-C, and when it gives up."""

import asyncio
import io
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.test_tag_edits import edited, written
from tests.fake_playlists import DESCRIPTION
from tests.fakes import content_of
from tests.http.client_commands import own_environment, ytmp3
from tests.http.running_service import RunningService, running_service
from ytmp3.client import playlists
from ytmp3.client.api import Api
from ytmp3.client.progress import Line, Quiet
from ytmp3.client.stalls import GaveUp, Stalls
from ytmp3.client.updates import IDLE, Change, Updates, changes_in
from ytmp3.client.work import Work
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Chapter
from ytmp3.core.playlist import Entry, Listing
from ytmp3.core.tag_edits import TagEdits

__all__ = ["own_environment"]

VIDEO, OTHER = "video000001", "video000002"
LIST = "https://www.youtube.com/playlist?list=PLBCF2DAC6FFB574DE"


def listing(service: RunningService) -> None:
    """Give the service a playlist of two videos, one of them twice, and of a private one."""
    videos = [Entry(video_id=VideoId(each)) for each in (VIDEO, OTHER, VIDEO)]
    private = Entry(video_id=VideoId("private0001"), code=FailureCode.PRIVATE)
    service.converter.playlists[LIST] = Listing(title="Songs", entries=(*videos, private), is_truncated=False)


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [((LIST,), "0"), (("-p", f"https://www.youtube.com/watch?v={VIDEO}&list=PLBCF2DAC6FFB574DE"), "1")],
    ids=["streamed", "polled"],
)
async def test_every_track_of_a_playlist_is_saved(
    tmp_path: Path, arguments: tuple[str, ...], streams: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(tmp_path / "data", CLIENT_MAX_STREAMS=streams) as service:
        listing(service)
        service.converter.hold("video000009")
        job = await service.submit("video000009")
        # Where a client may have one stream, this one takes it, so that the command has to poll.
        async with service.client.get(f"{service.url}/events?jobs={job['job_id']}"):
            command = ("get", *arguments, "-o", str(tmp_path / "music"), "--server", service.url, "--json")
            assert await ytmp3(*command) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    saved = {line["link"]: Path(line["path"]).read_bytes() for line in lines if line["path"] is not None}
    assert saved == {f"https://www.youtube.com/watch?v={each}": content_of(each) for each in (VIDEO, OTHER)}
    (refused,) = (line for line in lines if line["path"] is None)
    assert (refused["link"], refused["error"]["code"]) == (f"entry 4 of {arguments[-1]}", "private")


async def test_the_tracks_of_a_playlist_and_the_chapters_of_a_video_have_chosen_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chapters = (Chapter(start_seconds=0, title="One"), Chapter(start_seconds=60, title="Two"))
    async with running_service(tmp_path / "data") as service:
        listing(service)
        split = "video000007"
        metadata = replace(DESCRIPTION.metadata, title="A mix", chapters=chapters)
        service.converter.descriptions[split] = replace(DESCRIPTION, metadata=metadata)
        for each in (VIDEO, OTHER, split):
            service.converter.contents[each] = written("mp3")
        to = ("-o", str(tmp_path / "music"), "--server", service.url)
        tags = ("--artist", "Us", "--no-cover")
        assert await ytmp3("get", LIST, "--album", "Songs", "--track-numbers", *tags, *to) == 1, "one is private"
        edits = [
            TagEdits(artist="Us", album="Songs", cover=False, track_number=number, track_total=4) for number in (1, 2)
        ]
        assert [name[:2] for name in sorted(os.listdir(tmp_path / "music"))] == ["1 ", "2 "]
        saved = [path.read_bytes() for path in (tmp_path / "music").iterdir()]
        assert sorted(saved) == sorted(edited(written("mp3"), each) for each in edits)
        capsys.readouterr()
        assert await ytmp3("get", split, "--split-chapters", *tags, *to) == 0
        for number, title in enumerate(("One", "Two"), 1):
            edit = TagEdits(title=title, artist="Us", album="A mix", cover=False, track_number=number, track_total=2)
            assert (tmp_path / "music" / f"{number} {title}.mp3").read_bytes() == edited(written("mp3"), edit)
        assert await ytmp3("get", VIDEO, "--split-chapters", *to) == 1
        assert "has no chapters" in capsys.readouterr().err
        before = list(service.converter.listed)
        assert await ytmp3("get", LIST, "--split-chapters", *to) == 1
        assert service.converter.listed == before, "a playlist has no chapters, and is not converted instead"


async def test_a_playlist_that_cannot_be_read_fails_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.playlists[LIST] = ConversionError(FailureCode.VIDEO_UNAVAILABLE)
        to = ("-o", str(tmp_path), "--server", service.url, "--json")
        watch_later = "https://www.youtube.com/playlist?list=WL"
        assert await ytmp3("get", LIST, watch_later, "https://www.youtube.com/feed/history", *to) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["link"]: line["error"]["code"] for line in lines} == {
        LIST: "playlist_unavailable",
        watch_later: "playlist_personal",
        "https://www.youtube.com/feed/history": "not_a_video",
    }


async def test_the_batch_of_a_playlist_is_shown_and_cancelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(tmp_path / "data") as service:
        listing(service)
        service.converter.hold(VIDEO)
        server = ("--server", service.url)
        assert await ytmp3("get", LIST, "--no-wait", *server) == 0
        batch_id = capsys.readouterr().out.strip()
        assert await ytmp3("status", batch_id, *server) == 0
        assert capsys.readouterr().out.startswith(f"{batch_id}  ")
        assert await ytmp3("cancel", batch_id, "--json", *server) == 0
        assert json.loads(capsys.readouterr().out)["batch_id"] == batch_id
        assert await ytmp3("cancel", "0" * 34, *server) == 1
        assert "There is no job with this id." in capsys.readouterr().err


class Interrupting(Quiet):
    """The user who presses Ctrl-C as soon as something is shown at one of these stages."""

    stages: tuple[str, ...] = ()

    def show(self, line: Line) -> None:
        if line.stage.startswith(self.stages):
            raise KeyboardInterrupt


def work_of(service_url: str, folder: Path, *stages: str) -> Work:
    progress, api = Interrupting(io.StringIO()), Api(server=service_url)
    progress.stages = stages
    return Work(
        api=api,
        folder=folder,
        fields={},
        progress=progress,
        on_end=lambda _: None,
        updates=Updates(api=api),
        stalls=Stalls(api=api, limit_seconds=0),
    )


async def test_interrupting_cancels_the_open_jobs_and_batches(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        listing(service)
        service.converter.hold(VIDEO)
        service.converter.hold(OTHER)
        work = work_of(service.url, tmp_path, "downloading", "converting", "extracting", "0 of")

        def run() -> int:
            with pytest.raises(KeyboardInterrupt):
                work.run([LIST, OTHER])
            return playlists.cancel(work)

        assert await asyncio.to_thread(run) == 0
        playlist, item = work.items
        assert item.job is not None
        assert playlist.batch is not None
        assert (await service.ended(item.job["job_id"]))["status"] == "cancelled"
        assert playlist.batch["status"] == "cancelled"


async def test_a_command_gives_up_while_youtube_cannot_be_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.failing[VIDEO] = FailureCode.UPSTREAM_UNREACHABLE
        command = ("get", VIDEO, "-o", str(tmp_path), "--server", service.url, "--json", "--give-up-after", "0.01")
        assert await ytmp3(*command) == 4
    printed = capsys.readouterr()
    (line,) = map(json.loads, printed.out.splitlines())
    assert line["error"]["code"] == "upstream_unreachable"
    assert "gave up, because nothing advanced for 0.01 s: YouTube cannot be reached" in printed.err
    assert "repeat the command later" in printed.err


def checked_often(stalls: Stalls, *jobs: dict[str, Any]) -> tuple[int, str]:
    """Show jobs in turn, and check each time, until the client gives up; return how often that was, and the reason."""
    for seen, job in enumerate(itertools.islice(itertools.cycle(jobs or ({},)), 10), start=1):
        if job:
            stalls.see_job(job)
        try:
            stalls.check()
        except GaveUp as error:
            return seen, str(error)
    raise AssertionError("the client does not give up")


async def test_a_long_queue_is_waited_for_only_while_the_service_is_healthy(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.hold(VIDEO)
        job = await service.submit(VIDEO)
        now = itertools.count(0, 100)
        stalls = Stalls(api=Api(server=service.url), limit_seconds=150, clock=lambda: float(next(now)))
        stalls.see_job(job)
        for _ in range(5):
            await asyncio.to_thread(stalls.check)
        service.parts.health.storage_error = "the disk is read-only"
        assert "the disk is read-only" in (await asyncio.to_thread(checked_often, stalls))[1]


def test_attempts_that_fail_again_and_again_are_no_advance() -> None:
    now = itertools.count(0, 20)
    stalls = Stalls(api=Api(server="http://127.0.0.1:1"), limit_seconds=120, clock=lambda: float(next(now)))
    failed = {"job_id": "x", "progress": 0.0, "queue_position": 1, "error": {"code": "network", "message": "Failed"}}
    running = {"job_id": "x", "progress": 0.02, "queue_position": None, "error": None}
    seen, reason = checked_often(stalls, failed, running)
    assert 2 < seen < 10
    assert reason == "Failed"


class Answers(BaseHTTPRequestHandler):
    """A service that answers requests for streams as a test has set, and whose jobs have always ended."""

    streams: Iterator[bytes | int | None]
    """One after the other: bytes of a stream, a status, or None for a stream whose bytes never arrive."""
    requests: list[str]
    is_over: Any

    def do_GET(self) -> None:
        self.requests.append(self.path)
        answer = next(self.streams) if self.path.startswith("/events") else b"{}"
        self.send_response(answer if isinstance(answer, int) else 200)
        kind = "text/event-stream" if self.path.startswith("/events") else "application/json"
        self.send_header("Content-Type", kind)
        self.end_headers()
        if answer is None:
            self.is_over.wait()
        elif isinstance(answer, bytes):
            self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answers(*streams: bytes | int | None) -> Iterator[tuple[Updates, list[str]]]:
    """Serve these answers; yield a reader of the changes, and the list of the requests."""
    import threading

    requests: list[str] = []
    over = threading.Event()
    handler = type("Handler", (Answers,), {"streams": iter(streams), "requests": requests, "is_over": over})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            api = Api(server=f"http://127.0.0.1:{server.server_port}")
            yield Updates(api=api, first_event_seconds=0.5, sleep=lambda _: None), requests
        finally:
            over.set()
            server.shutdown()


@pytest.mark.parametrize("answer", [404, 502, None, b""])
def test_a_service_without_streams_is_polled_from_then_on(answer: bytes | int | None) -> None:
    with answers(answer, answer) as (updates, requests):
        for _ in range(2):
            assert list(updates.of_jobs(["a", "b"])) == [Change("job", {}), Change("job", {})]
    streams = [path for path in requests if path.startswith("/events")]
    # A stream that ends without an event may be one that a restarting service has ended: it is tried again.
    assert len(streams) == (2 if answer == b"" else 1)
    assert requests.count("/status/a") == 2


def test_a_stream_that_breaks_is_opened_again() -> None:
    first = b'event: job\nid: 1\ndata: {"job_id": "a"}\n\n'
    with answers(first, first + b"event: end\ndata: {}\n\n") as (updates, requests):
        changes = [*updates.of_jobs(["a"]), *updates.of_jobs(["a"])]
    assert [change.name for change in changes] == ["job", "job", "end"]
    assert requests == ["/events?jobs=a", "/events?jobs=a"]


def test_unknown_and_malformed_events_are_ignored() -> None:
    lines = [
        b"retry: 1000\n", b"\n", b":\n", b"\n", b"event: job\r\n", b"data: {\r\n", b"\r\n", b"event: later\n",
        b"data: {}\n", b"\n", b"event: job\n", b"data: []\n", b"\n", b"event: unknown\n", b'data: {"job_id": "a"}\n',
        b"\n", b"event: batch\n", b'data: {"x":\n', b"data: 1}\n", b"\n", b"event: job\n", b"data: {",
    ]  # fmt: skip
    idle, refused, batch = changes_in(lines)
    assert idle is IDLE
    assert (refused.name, refused.data["job_id"], refused.data["code"]) == ("refused", "a", "job_unknown")
    assert batch == Change("batch", {"x": 1})
