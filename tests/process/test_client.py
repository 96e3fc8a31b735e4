"""`ytmp3 get` as a process: with a service of its own, killed and repeated, interrupted."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.service_process import ROOT, STOP_SECONDS, egress
from tests.stand.waiting import until
from ytmp3.converter.audio.mp3 import walk_file

CONTENT = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def sigint_is_not_ignored() -> Iterator[None]:
    """Let the commands notice SIGINT, also if the tests run in the background.

    A shell makes a job in the background ignore SIGINT. Its child processes inherit that, the command included, which
    keeps to it: Ctrl-C is for the job in the foreground. A handler of ours becomes the default action in a child.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@asynccontextmanager
async def client(folder: Path, *arguments: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `ytmp3 get` with these arguments; its home and cache are in `folder`."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ytmp3", "get", *arguments, "-o", str(folder / "music")),
        env=environment | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")} | settings,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def is_running(folder: Path) -> bool:
    """Return whether a process has its data in `folder`."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DATA_DIR={folder}".encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


async def test_one_command_converts_without_a_service(youtube: Spawned, tmp_path: Path) -> None:
    link = video_id(Kind.SHORT, 71)
    async with client(tmp_path, link, "--private", **egress(youtube)) as process:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    path = Path(output.decode().strip())
    assert path.parent == tmp_path / "music"
    assert walk_file(path).duration_seconds > 0
    # Everything is saved, so nothing of the service is left.
    assert not (tmp_path / "cache/ytmp3-get").exists()
    await until(lambda: not is_running(tmp_path / "cache/ytmp3-get"), "no process of the service is left")


async def test_a_killed_command_is_continued_by_the_next_and_leaves_no_process(
    youtube: Spawned, tmp_path: Path
) -> None:
    link, folder = video_id(Kind.SLOW, 72), tmp_path / "cache/ytmp3-get"
    async with client(tmp_path, link, "--private", **egress(youtube)) as process:
        await until(lambda: youtube.counts(link).media_requests > 0, "the download has begun")
        process.kill()
    await until(lambda: not is_running(folder), "the service has ended with its client")
    assert (folder / "ytmp3.sqlite3").exists()
    async with client(tmp_path, link, "--private", "--json", **egress(youtube)) as process:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    assert Path(json.loads(output)["path"]).exists()


async def test_ctrl_c_ends_the_command_and_its_service(youtube: Spawned, tmp_path: Path) -> None:
    link, folder = video_id(Kind.SLOW, 73), tmp_path / "cache/ytmp3-get"
    async with client(tmp_path, link, "--private", **egress(youtube)) as process:
        await until(lambda: youtube.counts(link).media_requests > 0, "the download has begun")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_SECONDS):
            _, errors = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"interrupted: cancelling the jobs" in errors
    await until(lambda: not is_running(folder), "no process of the service is left")


class TrackServer:
    """A service with one finished job, whose first download stops in the middle without an end."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.is_stalled, self.is_over = asyncio.Event(), asyncio.Event()

    async def live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def job(self, _: web.Request) -> web.Response:
        job = {
            "job_id": "0" * 34, "status": "completed", "stage": "done", "progress": 1.0, "video_id": "video000001",
            "metadata": {"title": "A song"}, "error": None, "hint": None, "queue_position": None, "attempt": 1,
            "file": {"size_bytes": len(CONTENT), "sha256": sha256(CONTENT).hexdigest()}, "download_url": "/download",
        }  # fmt: skip
        return web.json_response(job)

    async def download(self, request: web.Request) -> web.StreamResponse:
        name = {"Content-Disposition": 'attachment; filename="A song.mp3"'}
        if request.method == "HEAD":
            return web.Response(headers=name)
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if asked is not None:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            return web.Response(status=206, body=CONTENT[start:], headers=name)
        response = web.StreamResponse(headers=name | {"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:60_000])
        self.is_stalled.set()
        await self.is_over.wait()
        return response


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_command_that_ended_in_the_middle_of_a_download_is_resumed_there(
    tmp_path: Path, number: signal.Signals
) -> None:
    server = TrackServer()
    app = web.Application()
    app.add_routes(
        [
            web.get("/health/live", server.live),
            web.post("/extract", server.job),
            web.route("*", "/download", server.download),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    arguments = ("video000001", "--server", f"http://127.0.0.1:{runner.addresses[0][1]}")
    part = tmp_path / "music/A song.mp3.part"
    try:
        async with client(tmp_path, *arguments) as process:
            await server.is_stalled.wait()
            await until(lambda: part.exists() and part.stat().st_size > 0, "something has been written")
            process.send_signal(number)
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        have = part.stat().st_size
        async with client(tmp_path, *arguments) as process:
            assert await process.wait() == 0
    finally:
        server.is_over.set()
        await runner.cleanup()
    assert server.ranges == [None, f"bytes={have}-"]
    assert (tmp_path / "music/A song.mp3").read_bytes() == CONTENT
