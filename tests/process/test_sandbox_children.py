"""The start and end of child processes: if one misbehaves or is killed, none is left and no other one fails."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.pipeline import RunningPipeline, fake_encoder, running_pipeline
from tests.stand.processes import descendants, descriptor_count, is_running
from tests.stand.waiting import until
from ytmp3.converter.progress import DOWNLOADED, EXTRACTED
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.short_run import ShortRun, run_briefly
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.tools import youtube_program
from ytmp3.core.errors import ConversionError, FailureCode, NoProcess
from ytmp3.core.ids import ClientId, VideoId

ROOT = Path(__file__).resolve().parents[2]

FAILING_FORK = """
import errno, os, sys
from ytmp3.converter.youtube.__main__ import main
fork = os.fork
def refused():
    if os.path.exists(sys.argv[1]):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = refused
main()
"""

FAILING_PIDFD = """
import errno, os, sys
from ytmp3.converter.youtube.__main__ import main
pidfd_open = os.pidfd_open
def refused(pid):
    if os.path.exists(sys.argv[1]):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return pidfd_open(pid)
os.pidfd_open = refused
main()
"""


async def test_a_child_that_ignores_term_is_killed(youtube: Spawned, tmp_path: Path) -> None:
    started, termed = tmp_path / "started", tmp_path / "termed"
    encoder = fake_encoder(tmp_path, f"trap ': > {termed}' TERM\n: > {started}\nwhile :; do sleep 0.1; done")
    async with running_pipeline(youtube, tmp_path, ffmpeg=encoder) as own:
        task = asyncio.create_task(own.convert(video_id(Kind.SHORT)))
        await until(started.exists, "the encoder has started")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert termed.exists(), "TERM comes before KILL"
        await own.until_no_child_is_left()


OWNER = """
import asyncio, sys
from pathlib import Path
from ytmp3.converter import Observer
from ytmp3.converter.live_sound import LiveSound
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.core.recipe import DEFAULT_RECIPE
async def main():
    folder = Path(sys.argv[1])
    settings = ToolSettings(ffmpeg_path=None, egress_proxy=sys.argv[2], egress_ca_file=Path(sys.argv[3]),
        cookies_file=None, extract_concurrency=4, encode_concurrency=4)
    limits = ConversionLimits(max_duration_seconds=10800, max_file_bytes=2**25, extract_seconds=3600, idle_seconds=3600)
    pipeline = Pipeline(settings, limits, folder)
    await pipeline.open()
    tasks = []
    for number, kind in enumerate(("stalled", "stalled", "hang___")):
        scratch = folder / str(number)
        scratch.mkdir()
        observer = Observer(lambda _: None, LiveSound())
        conversion = pipeline.convert(f"{kind}000{number}", DEFAULT_RECIPE, "addr:192.0.2.1", scratch, observer)
        tasks.append(asyncio.create_task(conversion))
    await asyncio.sleep(1000)
asyncio.run(main())
"""


async def test_kill_9_of_the_server_leaves_no_child(youtube: Spawned, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path), youtube.proxy_url, str(youtube.ca_file)]
    owner = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        # The zygote, three downloaders, and the encoders of the two downloads that have begun.
        await until(lambda: len(descendants(owner.pid)) >= 6, "all conversions are in progress")
        children = descendants(owner.pid)
    finally:
        owner.kill()
        await owner.wait()
    await until(lambda: not any(map(is_running, children)), "every child has ended")


async def test_kill_9_of_the_zygote_fails_the_running_conversions_and_the_next_start_brings_a_new_one(
    youtube: Spawned, tmp_path: Path
) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        task = asyncio.create_task(own.convert(video_id(Kind.STALLED)))
        children = await own.until_both_children_run()
        os.kill(own.zygote_pid, signal.SIGKILL)
        with pytest.raises(ConversionError) as failure:
            await task
        assert failure.value.code is FailureCode.TOOL_MISSING
        assert failure.value.failure.retryable
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes
        await until(lambda: not any(map(is_running, children.values())), "the old zygote's children have ended")


async def test_a_failing_fork_fails_one_conversion_and_leaves_no_descriptor(youtube: Spawned, tmp_path: Path) -> None:
    full = tmp_path / "no more processes"
    async with running_pipeline(youtube, tmp_path, zygote=(FAILING_FORK, str(full))) as own:
        await conversions_fail_while(own, full, "temporarily unavailable")


async def test_a_child_whose_end_cannot_be_watched_is_ended_and_fails_one_conversion(
    youtube: Spawned, tmp_path: Path
) -> None:
    full = tmp_path / "no more descriptors"
    async with running_pipeline(youtube, tmp_path, zygote=(FAILING_PIDFD, str(full))) as own:
        await conversions_fail_while(own, full, "Too many open files")
        await until(lambda: not descendants(own.zygote_pid, with_zombies=True), "every child has been reaped")


async def conversions_fail_while(own: RunningPipeline, full: Path, reason: str) -> None:
    """While the file exists no child starts; afterwards everything works, with the same zygote."""
    assert (await own.convert(video_id(Kind.SHORT))).size_bytes
    before = descriptor_count(os.getpid())
    zygote_pid = own.zygote_pid
    full.touch()
    for _ in range(3):
        with pytest.raises(NoProcess, match=reason):
            await own.convert(video_id(Kind.SHORT))
    await until(lambda: descriptor_count(os.getpid()) <= before, f"no more than {before} descriptors are open")
    full.unlink()
    assert (await own.convert(video_id(Kind.SHORT))).size_bytes
    assert own.zygote_pid == zygote_pid
    await own.until_no_child_is_left()


def test_a_zygote_whose_server_has_given_up_ends_without_a_complaint(youtube: Spawned) -> None:
    """On a very busy machine a zygote may be ready only when the server no longer waits for it."""
    settings = ToolSettings(
        ffmpeg_path=None,
        egress_proxy=youtube.proxy_url,
        egress_ca_file=youtube.ca_file,
        cookies_file=None,
        extract_concurrency=1,
        encode_concurrency=1,
    )
    server, zygote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server, zygote:
        server.send(youtube_program(settings, deno=None).preload)
        server.close()
        command = [sys.executable, "-m", "ytmp3.converter.youtube"]
        ended = subprocess.run(command, stdin=zygote.fileno(), capture_output=True, cwd=ROOT, timeout=600, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


IGNORES_TERM = ["/bin/sh", "-c", "trap '' TERM; : > begun; while :; do sleep 0.1; done"]


async def program_of(own: RunningPipeline) -> None:
    """Run a program that ends only when it is killed."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        await run_briefly(own.spawner, short_run(IGNORES_TERM, own.folder, null))
    finally:
        os.close(null)


async def description_of(own: RunningPipeline) -> None:
    """Ask for a description that never comes."""
    (own.folder / "scratch").mkdir()
    client = ClientId("addr:192.0.2.1")
    await own.pipeline.describe(VideoId(video_id(Kind.HANGS)), client, own.folder / "scratch")


async def conversion_of(own: RunningPipeline) -> None:
    """Convert a video whose download stalls."""
    await own.convert(video_id(Kind.STALLED))


@pytest.mark.parametrize(
    ("use", "has_begun"),
    [
        pytest.param(program_of, lambda own: (own.folder / "begun").exists(), id="a program"),
        pytest.param(description_of, lambda own: own.children, id="an extraction"),
        pytest.param(conversion_of, lambda own: own.progress > EXTRACTED + DOWNLOADED, id="a conversion"),
        pytest.param(program_of, None, id="a start"),
    ],
)
async def test_no_number_of_cancellations_aborts_the_end_of_a_child(
    youtube: Spawned,
    tmp_path: Path,
    use: Callable[[RunningPipeline], Coroutine[object, object, None]],
    has_begun: Callable[[RunningPipeline], object] | None,
) -> None:
    """While the zygote is stopped, a child can neither begin nor end."""
    async with running_pipeline(youtube, tmp_path) as own:
        before = descriptor_count(os.getpid())
        if has_begun is None:
            os.kill(own.zygote_pid, signal.SIGSTOP)
        using = asyncio.create_task(use(own))
        try:
            if has_begun is not None:
                await until(lambda: using.done() or bool(has_begun(own)), "the child has begun", poll_seconds=0.01)
                os.kill(own.zygote_pid, signal.SIGSTOP)
            await a_few_steps()
            for _ in range(3):
                using.cancel()
                await a_few_steps()
                assert not using.done(), "the cleanup was aborted"
        finally:
            os.kill(own.zygote_pid, signal.SIGCONT)
        with pytest.raises(asyncio.CancelledError):
            await using
        await own.until_no_child_is_left()
        await until(lambda: descriptor_count(os.getpid()) <= before, f"no more than {before} descriptors are open")


async def test_a_start_that_the_zygote_did_not_get_is_cancelled_at_once(youtube: Spawned, tmp_path: Path) -> None:
    """A stopped zygote does not read its socket, which takes a few long requests."""
    async with running_pipeline(youtube, tmp_path) as own:
        null = os.open(os.devnull, os.O_RDWR)
        run = short_run(["/bin/true", "x" * 100_000], tmp_path, null)
        os.kill(own.zygote_pid, signal.SIGSTOP)
        try:
            *sent, last = [asyncio.create_task(run_briefly(own.spawner, run)) for _ in range(30)]
            await a_few_steps()
            last.cancel()
            await a_few_steps()
            assert last.cancelled()
        finally:
            os.kill(own.zygote_pid, signal.SIGCONT)
        assert {completed.status for completed in await asyncio.gather(*sent)} == {0}
        os.close(null)


async def a_few_steps() -> None:
    """Let the other coroutines make more steps than they need to react."""
    for _ in range(20):
        await asyncio.sleep(0)


def short_run(argv: list[str], folder: Path, source: int) -> ShortRun:
    return ShortRun(
        argv=argv,
        source=source,
        descriptors=[],
        folder=str(folder),
        limits=ResourceLimits(file_bytes=0, cpu_seconds=5, network=True, profile=None),
        seconds=600,
        max_output_bytes=10,
    )


@pytest.mark.soak
async def test_mixed_endings_leave_no_process(youtube: Spawned, tmp_path: Path) -> None:
    """In `make soak` there are twenty times as many."""
    bodies = ["exit 0", "exit 3", "kill -KILL $$", "sleep 0.01 & exit 0", "setsid sleep 100 & exit 0"]
    null = os.open(os.devnull, os.O_RDWR)
    async with running_pipeline(youtube, tmp_path) as own:

        async def one(number: int) -> None:
            argv = ["/bin/sh", "-c", bodies[number % len(bodies)]]
            await run_briefly(own.spawner, short_run(argv, tmp_path, null))

        for start in range(0, 200 * FUZZ_FACTOR, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))
        await until(lambda: not descendants(own.zygote_pid, with_zombies=True), "every child has been reaped")
    os.close(null)
