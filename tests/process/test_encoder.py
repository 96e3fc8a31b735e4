"""Encoders that misbehave: shell scripts in place of ffmpeg, in a real pipeline."""

import asyncio
import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import FFMPEG, fake_encoder, limits, running_pipeline
from tests.stand.processes import processes_with
from tests.stand.waiting import until
from ytmp3.converter.audio.encoder import Encoder, EncoderRun
from ytmp3.converter.sandbox.program import ZygoteProgram
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.spool import Spool
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.recipe import Recipe
from ytmp3.threads import Threads


async def failure_with(youtube: Spawned, folder: Path, body: str, **limits: Any) -> ConversionError:
    """Convert with this script as ffmpeg; return how the conversion failed. No child is left then."""
    async with running_pipeline(youtube, folder, ffmpeg=fake_encoder(folder, body), **limits) as own:
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.THUMBNAIL_MISSING))
        await own.until_no_child_is_left()
    return failure.value


async def test_an_encoder_that_hangs_is_ended_by_the_idle_limit(youtube: Spawned, tmp_path: Path) -> None:
    # Long enough for a busy machine to download the video: otherwise the download would be ended first.
    failure = await failure_with(youtube, tmp_path, "exec sleep 1000", idle_seconds=5.0)
    assert failure.code is FailureCode.TOOL_MISSING
    assert failure.reason == "the encoder does not move"


async def test_an_encoder_that_ends_by_a_signal_is_broken(youtube: Spawned, tmp_path: Path) -> None:
    number = 100_000 + os.getpid()
    async with running_pipeline(youtube, tmp_path, ffmpeg=fake_encoder(tmp_path, f"exec sleep {number}")) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.THUMBNAIL_MISSING)))
        await until(lambda: bool(processes_with(f"sleep\x00{number}")), "the encoder runs")
        (pid,) = processes_with(f"sleep\x00{number}")
        # What the kernel does at the limit of CPU time. An encoder cannot send signals: its sandbox forbids it.
        os.kill(pid, signal.SIGXCPU)
        with pytest.raises(ConversionError) as failure:
            await conversion
    assert failure.value.code is FailureCode.TOOL_MISSING
    assert failure.value.reason.startswith(f"status -{int(signal.SIGXCPU)}")


async def test_a_flood_of_errors_is_neither_kept_nor_blocks_the_encoder(youtube: Spawned, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = "head -c 300000000 /dev/zero >&2\nhead -c 20000000 /dev/zero\necho Invalid data found >&2\nexit 1"
    failure = await failure_with(youtube, tmp_path, body)
    assert failure.code is FailureCode.MEDIA_INVALID
    assert "Invalid data found" in failure.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


@pytest.mark.parametrize(
    ("start", "number"),  # a number of its own: another process may be running another of these tests
    [("sleep 1001 &", 1001), ("setsid sleep 1002 &", 1002), ("(trap '' TERM HUP; sleep 1003) &", 1003)],
)
async def test_a_grandchild_that_holds_the_pipes_open_does_not_delay_the_end(
    youtube: Spawned, tmp_path: Path, start: str, number: int
) -> None:
    failure = await failure_with(youtube, tmp_path, f"{start}\nexit 0")
    assert failure.code is FailureCode.MEDIA_INVALID
    await until(lambda: not processes_with(f"sleep\x00{number}"), "the grandchild has been ended")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("exit 0", FailureCode.MEDIA_INVALID),
        (f'{FFMPEG} "$@"\ntruncate -s 30001 /proc/self/fd/3', FailureCode.OUTPUT_TRUNCATED),
        (f'{FFMPEG} -t 1.5 "$@"', FailureCode.OUTPUT_TRUNCATED),
        ("head -c 50000 /dev/urandom >&3", FailureCode.MEDIA_INVALID),
        ("exit 127", FailureCode.TOOL_MISSING),
        ("echo 'No space left on device' >&2; exit 1", FailureCode.STORAGE_FULL),
    ],
)
async def test_an_exit_code_alone_does_not_make_a_track(
    youtube: Spawned, tmp_path: Path, body: str, code: FailureCode
) -> None:
    failure = await failure_with(youtube, tmp_path, body)
    assert failure.code is code, failure.reason


def open_files() -> list[int]:
    """Return the descriptors of this process, without that of the listing itself."""
    return [number for number in map(int, os.listdir("/proc/self/fd")) if Path(f"/proc/self/fd/{number}").exists()]


def no_zygote(_failed_starts: int) -> ZygoteProgram:
    raise AssertionError("no process is started")


async def test_an_encoder_for_which_too_few_files_may_be_open_leaves_none_open(tmp_path: Path) -> None:
    threads, spool = Threads("test", 1), Spool(tmp_path / "spool")
    spool.path.touch()
    run = EncoderRun(
        arguments=lambda _: [],
        recipe=Recipe(),
        target=tmp_path / "encoded",
        on_pipe=os.close,
        announced_seconds=None,
        core=None,
        profile=None,
        sound=None,
    )
    encoder = Encoder(Spawner(no_zygote), run, limits(), lambda _: None, threads)
    await threads.run(open_files)  # what the first call needs is open now
    before = open_files()
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(len(before) + 2) if number not in before]
    # The pipe for the input can be opened, and the one for the output cannot.
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[1] + 1, usual[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as failure:
            await encoder.encode_stream(spool, lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert failure.value.errno == errno.EMFILE
    await until(lambda: open_files() == before, "all files are closed", seconds=30)
