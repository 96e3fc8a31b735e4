"""`ytmp3 listen`: sound on standard output or in a player, what breaks it, and users who leave."""

import argparse
import asyncio
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.fakes import content_of
from tests.http.client_commands import own_environment, ytmp3
from tests.http.played_encoder import FRAME_BYTES, INFO_BYTES, PlayedEncoder, encoder_of, frames
from tests.http.running_service import RunningService
from tests.stand.service_process import ROOT, STOP_SECONDS
from tests.stand.waiting import until
from ytmp3.client.api import Api
from ytmp3.client.listen import PLAYERS, SoundBroken, listen, player_command, reason_of_break
from ytmp3.client.stalls import Stalls
from ytmp3.core.errors import FailureCode
from ytmp3.http.listen import BUSY_RETRY_SECONDS

VIDEO = "video000001"

__all__ = ["own_environment"]


@asynccontextmanager
async def listening(
    service: RunningService, folder: Path, *arguments: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, PlayedEncoder]]:
    """Run `ytmp3 listen` as a process; yield it and the encoder of its conversion, which has written a frame."""
    service.converter.hold(VIDEO)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ytmp3.client", "listen", VIDEO, "--server", service.url, *arguments),
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A test run in the background ignores SIGINT, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        encoder = await encoder_of(service, VIDEO, folder)
        encoder.begin()
        encoder.write(1)
        yield process, encoder
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, bytes, str]:
    async with asyncio.timeout(STOP_SECONDS):
        output, errors = await process.communicate()
    return process.returncode, output, errors.decode()


async def heard(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readexactly(INFO_BYTES + FRAME_BYTES)


async def test_each_frame_is_written_to_standard_output_while_it_is_encoded(
    service: RunningService, tmp_path: Path
) -> None:
    async with listening(service, tmp_path) as (process, encoder):
        assert (await heard(process))[INFO_BYTES:] == frames(1)
        encoder.write(2)
        service.converter.held[VIDEO].set()
        assert await ended(process) == (0, frames(2, 1), "")


async def test_a_player_is_given_all_of_the_sound(service: RunningService, tmp_path: Path) -> None:
    path = tmp_path / "played"
    async with listening(service, tmp_path, "--player", f"tee {shlex.quote(str(path))}") as (process, encoder):
        await heard(process)
        encoder.write(2)
        service.converter.held[VIDEO].set()
        assert (await ended(process))[0] == 0
    assert path.read_bytes()[INFO_BYTES:] == frames(3)


@pytest.mark.parametrize(
    ("code", "text"),
    [(FailureCode.PRIVATE, "The video is private."), (FailureCode.OUTPUT_TRUNCATED, "the conversion began again")],
)
async def test_sound_that_breaks_off_is_an_error_that_names_the_cause(
    service: RunningService, tmp_path: Path, code: FailureCode, text: str
) -> None:
    async with listening(service, tmp_path) as (process, _):
        await heard(process)
        service.converter.fail(VIDEO, code)
        service.converter.held[VIDEO].set()
        number, output, errors = await ended(process)
    assert (number, output) == (1, b"")
    assert errors.startswith("ytmp3: the audio broke off: ")
    assert text in errors
    assert errors.count("\n") == 1


async def test_a_stream_that_ended_without_a_failed_job_may_have_been_paused(service: RunningService) -> None:
    job = await service.completed(VIDEO)
    reason = await asyncio.to_thread(reason_of_break, Api(server=service.url), job)
    assert reason.startswith("the service ended the stream")
    assert "paused for more than a minute: repeat the command" in reason


async def test_ctrl_c_ends_the_command_and_its_conversion_without_a_word(
    service: RunningService, tmp_path: Path
) -> None:
    async with listening(service, tmp_path) as (process, _):
        await heard(process)
        process.send_signal(signal.SIGINT)
        assert await ended(process) == (130, b"", "")
        await until(lambda: service.converter.cancelled[VIDEO] == 1, "the conversion is cancelled")


async def test_a_reader_that_closes_the_pipe_ends_the_command_and_its_conversion(
    service: RunningService, tmp_path: Path
) -> None:
    async with listening(service, tmp_path) as (process, encoder):
        await heard(process)
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        encoder.write(1)
        assert await ended(process) == (0, b"", "")
        await until(lambda: service.converter.cancelled[VIDEO] == 1, "the conversion is cancelled")


@pytest.mark.parametrize(
    ("end", "code", "errors"), [("exit 0", 0, ""), ("exit 3", 1, "ytmp3: the player ended with exit code 3\n")]
)
async def test_a_player_that_ends_first_ends_the_conversion(
    service: RunningService, tmp_path: Path, end: str, code: int, errors: str
) -> None:
    player = shlex.join(["sh", "-c", f"head -c {INFO_BYTES + FRAME_BYTES}; {end}"])
    async with listening(service, tmp_path, "--player", player) as (process, encoder):
        await heard(process)
        ending = asyncio.create_task(ended(process))
        while not ending.done():  # the client notices when it writes
            encoder.write(200)
            await asyncio.wait([ending], timeout=0.1)
        assert await ending == (code, b"", errors)
        await until(lambda: service.converter.cancelled[VIDEO] == 1, "the conversion is cancelled")


async def test_a_finished_track_is_played_as_it_is_and_kept(
    service: RunningService, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    job = await service.completed(VIDEO)
    for player in ((), ("--player", "cat")):
        assert await ytmp3("listen", VIDEO, "--server", service.url, *player) == 0
        assert capfdbinary.readouterr() == (content_of(VIDEO), b"")
    assert (await service.ended(job["job_id"]))["status"] == "completed"


async def test_the_client_waits_for_the_sound_as_long_as_retry_after_says(
    service: RunningService, tmp_path: Path
) -> None:
    service.parts.listeners.wait_seconds = 0.05
    loop, pauses, output = asyncio.get_running_loop(), list[float](), io.BytesIO()
    service.converter.hold(VIDEO)
    job = await service.submit(VIDEO)
    encoder = await encoder_of(service, VIDEO, tmp_path)
    has_begun = threading.Event()

    def begin() -> None:
        service.parts.listeners.wait_seconds = 60.0
        encoder.begin()
        encoder.write(3)
        service.converter.held[VIDEO].set()
        has_begun.set()

    def sleep(pause_seconds: float) -> None:
        pauses.append(pause_seconds)
        if len(pauses) == 2:
            loop.call_soon_threadsafe(begin)
            has_begun.wait()

    api = Api(server=service.url)
    await asyncio.to_thread(listen, api, job, output, Stalls(api=api, limit_seconds=60), sleep=sleep)
    assert pauses == [BUSY_RETRY_SECONDS] * 2
    # It is either the sound, or the track if that was finished before the client asked again.
    assert output.getvalue()[INFO_BYTES:] == frames(3) or output.getvalue() == content_of(VIDEO)


async def test_a_track_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    async def track(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.add_routes([web.get("/download", track)])
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api = Api(server=f"http://127.0.0.1:{runner.addresses[0][1]}")
        job = {"job_id": "0" * 34, "listen_url": None, "download_url": "/download"}
        with (tmp_path / "sound").open("wb") as output, pytest.raises(SoundBroken):
            await asyncio.to_thread(listen, api, job, output, Stalls(api=api, limit_seconds=60))
    finally:
        await runner.cleanup()
    assert (tmp_path / "sound").read_bytes() == b"half"


async def test_the_service_says_why_it_accepts_no_link(
    service: RunningService, capsys: pytest.CaptureFixture[str]
) -> None:
    link = "https://www.youtube.com/playlist?list=PL0123456789"
    assert await ytmp3("listen", link, "--server", service.url) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("playlist") > 0) == ("", True)
    assert await ytmp3("listen", VIDEO, "--player", "no-such-player -", "--server", service.url) == 2
    assert "the player 'no-such-player' is not installed" in capsys.readouterr().err


def test_the_first_installed_player_is_used_where_output_is_a_terminal(tmp_path: Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no player was found"):
        player_command(None, is_terminal=True, path=str(tmp_path))
    for name in ("vlc", "ffplay", "mpv"):  # each comes before the one that was installed before it
        (tmp_path / name).touch(mode=0o755)
        assert player_command(None, is_terminal=True, path=str(tmp_path)) in PLAYERS
        assert (player_command(None, is_terminal=True, path=str(tmp_path)) or ())[0] == name
    assert player_command(None, is_terminal=False, path=str(tmp_path)) is None
    assert player_command("mpv --volume='50' -", is_terminal=False, path=str(tmp_path)) == ["mpv", "--volume=50", "-"]
    for wrong in ("", "mpv '"):
        with pytest.raises(argparse.ArgumentTypeError):
            player_command(wrong, is_terminal=True, path=str(tmp_path))
