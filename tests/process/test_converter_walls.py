"""The walls around the tools, tried from inside and with tools that misbehave. `FFMPEG_PATH` is a script here."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.fake_youtube import Kind, Spawned, video_id
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.pipeline import FFMPEG, RunningPipeline, running_pipeline
from tests.stand.processes import descendants, is_running, processes_with
from ytmp3.converter.audio.ffmpeg import FILE, STREAM, encode_arguments
from ytmp3.converter.sandbox.limits import SESSION_NICENESS
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.short_run import ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import child_environment
from ytmp3.converter.youtube.events import CoverWritten, Event, Extraction, Preload
from ytmp3.core.errors import ConversionError, FailureCode, NoProcess
from ytmp3.core.ids import VideoId
from ytmp3.core.recipe import DEFAULT_RECIPE, Quality, Recipe

ROOT = Path(__file__).resolve().parents[2]

PROBE = """
import ctypes, json, os, platform, resource, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def called(number, *arguments):
    return ctypes.get_errno() if libc.syscall(number, *arguments, None) else 0
queue, queue_thread = {"x86_64": (129, 297), "aarch64": (138, 240)}[platform.machine()]
def tried(act):
    try:
        act()
    except OSError as error:
        return error.errno
    return 0
limits = {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE",
                                                                        "RLIMIT_CPU", "RLIMIT_AS")}
ask_a_child = [sys.executable, "-c", "import socket; socket.socket()"]
print(json.dumps({
    "inet": tried(lambda: socket.socket(socket.AF_INET)),
    "inet6": tried(lambda: socket.socket(socket.AF_INET6)),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "kill": tried(lambda: os.kill(os.getppid(), 0)),
    "queued": [called(queue, os.getppid(), 0), called(queue_thread, os.getppid(), os.getppid(), 0)],
    "child": subprocess.run(ask_a_child, stderr=subprocess.DEVNULL).returncode,
    "limits": limits,
    "nice": os.nice(0),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "leads": os.getpgid(0) == os.getpid(),
    "session": os.getsid(0),
    "gives_way": open("/proc/self/autogroup").read().split()[-1] if os.path.exists("/proc/self/autogroup") else None,
    "environment": sorted(name for name in os.environ if name != "LC_CTYPE"),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "folder": os.getcwd(),
}))
"""

UNFORKABLE = """
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

UNFOLLOWABLE = """
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

FILTERLESS = """
import os, sys
from ytmp3.converter.sandbox import limits, zygote
from ytmp3.converter.youtube.__main__ import main
class Kernel(limits.Kernel):
    def _prctl(self, option, value, more=0):
        if option == 22 and os.path.exists(sys.argv[1]):  # PR_SET_SECCOMP
            return -1
        return super()._prctl(option, value, more)
zygote.Kernel = Kernel
main()
"""

UNKNOWN_MACHINE = """
import platform
platform.machine = lambda: "riscv64"
from ytmp3.converter.youtube.__main__ import main
main()
"""


def script(folder: Path, body: str) -> Path:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


async def failure_with(youtube: Spawned, folder: Path, body: str) -> tuple[ConversionError, float]:
    """Convert with a script for ffmpeg; return how it failed and after how long."""
    async with running_pipeline(youtube, folder, ffmpeg=script(folder, body), idle_seconds=3.0) as own:
        begun_at = time.monotonic()
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.THUMBNAIL_MISSING))
        seconds = time.monotonic() - begun_at
        await own.no_tool_is_left()
    return failure.value, seconds


async def test_a_tool_stands_behind_every_wall(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        run = ShortRun(
            argv=[sys.executable, "-I", "-c", PROBE],
            source=os.open(os.devnull, os.O_RDONLY),
            descriptors=[],
            folder=str(tmp_path),
            limits=ResourceLimits(file_bytes=1000, cpu_seconds=7, memory_bytes=2**31),
            seconds=10,
            max_output_bytes=10_000,
        )
        answer = await run_briefly(own.spawner, run)
        os.close(run.source)
        zygote_pid = own.zygote_pid
    found = json.loads(answer.output)
    assert found["session"] == zygote_pid, "one session for all tools, which gives way to the server's as a whole"
    assert found["gives_way"] in {SESSION_NICENESS.decode(), None}  # None: this kernel does not group by session
    assert [found[name] for name in ("inet", "inet6", "unix", "kill")] == [1, 1, 1, 1]  # EPERM
    assert found["queued"] == [1, 1]
    assert found["child"] != 0, "the filter is not inherited"
    assert found["limits"] == {
        "RLIMIT_FSIZE": [1000, 1000],
        "RLIMIT_NOFILE": [256, 256],
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_CPU": [7, 7],
        "RLIMIT_AS": [2**31, 2**31],
    }
    assert (found["nice"], found["oom"], found["leads"]) == (10, 500, True)
    assert found["environment"] == ["HOME", "LANG", "PATH", "TMPDIR"]
    assert found["descriptors"] == [0, 1, 2]
    assert found["folder"] == str(tmp_path)


async def test_nothing_of_our_environment_reaches_a_tool(
    youtube: Spawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REDIS_PASSWORD", "HTTPS_PROXY", "no_proxy", "XDG_CONFIG_HOME", "LD_PRELOAD_NOT", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "hunter2")
    async with running_pipeline(youtube, tmp_path) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.SLOW)))
        await asyncio.sleep(1.2)
        assert len(own.tools) == 2
        for pid in (own.zygote_pid, *own.tools):
            assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert youtube.proxy_url.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        conversion.cancel()
        await asyncio.wait([conversion])


async def test_a_tool_that_ignores_term_is_killed_in_time(youtube: Spawned, tmp_path: Path) -> None:
    tool = script(tmp_path, "trap '' TERM\nwhile :; do sleep 1; done")
    async with running_pipeline(youtube, tmp_path, ffmpeg=tool) as own:
        task = asyncio.create_task(own.convert(video_id(Kind.SHORT)))
        await asyncio.sleep(1.0)
        begun_at = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun_at < 6
        await own.no_tool_is_left()


async def test_a_tool_that_hangs_is_given_up(youtube: Spawned, tmp_path: Path) -> None:
    failure, seconds = await failure_with(youtube, tmp_path, "exec sleep 1000")
    assert failure.code is FailureCode.TOOL_MISSING
    assert seconds < 10


async def test_a_flood_of_complaints_is_neither_kept_nor_in_the_way(youtube: Spawned, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = "head -c 300000000 /dev/zero >&2\nhead -c 20000000 /dev/zero\necho Invalid data found >&2\nexit 1"
    failure, seconds = await failure_with(youtube, tmp_path, body)
    assert failure.code is FailureCode.MEDIA_INVALID
    assert "Invalid data found" in failure.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
    assert seconds < 15


@pytest.mark.parametrize(
    ("start", "number"),  # of its own: another process may be running another of these tests
    [("sleep 1001 &", 1001), ("setsid sleep 1002 &", 1002), ("(trap '' TERM HUP; sleep 1003) &", 1003)],
)
async def test_a_grandchild_that_holds_the_pipes_holds_nobody_up(
    youtube: Spawned, tmp_path: Path, start: str, number: int
) -> None:
    failure, seconds = await failure_with(youtube, tmp_path, f"{start}\nexit 0")
    assert failure.code is FailureCode.MEDIA_INVALID
    assert seconds < 6
    await asyncio.sleep(0.5)
    assert processes_with(f"sleep\x00{number}") == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("exit 0", FailureCode.MEDIA_INVALID),
        (f'{FFMPEG} "$@"\ntruncate -s 30001 /proc/self/fd/3', FailureCode.OUTPUT_TRUNCATED),
        (f'{FFMPEG} -t 1.5 "$@"', FailureCode.OUTPUT_TRUNCATED),
        ("head -c 50000 /dev/urandom >&3", FailureCode.MEDIA_INVALID),
        ("ulimit -t 1; while :; do :; done", FailureCode.TOOL_MISSING),
        ("exit 127", FailureCode.TOOL_MISSING),
        ("echo 'No space left on device' >&2; exit 1", FailureCode.OUTPUT_TRUNCATED),
    ],
)
async def test_no_exit_code_makes_a_track(youtube: Spawned, tmp_path: Path, body: str, code: FailureCode) -> None:
    failure, _ = await failure_with(youtube, tmp_path, body)
    assert failure.code is code, failure.reason


OWNER = """
import asyncio, sys
from pathlib import Path
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.settings import ToolSettings
from ytmp3.core.recipe import DEFAULT_RECIPE
async def main():
    folder = Path(sys.argv[1])
    settings = ToolSettings(ffmpeg_path=None, egress_proxy=sys.argv[2], egress_ca_file=Path(sys.argv[3]),
        cookies_file=None, extract_concurrency=4, encode_concurrency=4)
    pipeline = Pipeline(settings, ConversionLimits(max_duration_seconds=10800, max_file_bytes=2**25), folder)
    await pipeline.open()
    for number, kind in enumerate(("slow___", "stalled", "hang___", "jschall")):
        (folder / kind).mkdir()
        asyncio.create_task(pipeline.convert(f"{kind}000{number}", DEFAULT_RECIPE, folder / kind, lambda _: None))
    await asyncio.sleep(1.5)
    print("running", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_kill_9_of_the_owner_leaves_no_tool(youtube: Spawned, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path), youtube.proxy_url, str(youtube.ca_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"running\n"
        tools = descendants(owner.pid)
        assert len(tools) >= 5
        owner.kill()
        owner.wait()
        deadline = time.monotonic() + 2
        while any(map(is_running, tools)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not [pid for pid in tools if is_running(pid)]


async def test_kill_9_of_the_zygote_fails_what_runs_and_a_new_one_comes(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        task = asyncio.create_task(own.convert(video_id(Kind.SLOW)))
        await asyncio.sleep(1.2)
        tools = own.tools
        assert len(tools) == 2
        os.kill(own.zygote_pid, signal.SIGKILL)
        with pytest.raises(ConversionError) as failure:
            await task
        assert failure.value.code is FailureCode.TOOL_MISSING
        assert failure.value.failure.retryable
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes
        assert not [pid for pid in tools if is_running(pid)]


async def test_a_refused_fork_fails_one_conversion_and_leaves_no_descriptor(youtube: Spawned, tmp_path: Path) -> None:
    full = tmp_path / "no more processes"
    async with running_pipeline(youtube, tmp_path, zygote=(UNFORKABLE, str(full))) as own:
        await no_process_while(own, full, "temporarily unavailable")


async def test_a_child_that_cannot_be_followed_is_ended_and_fails_one_conversion(
    youtube: Spawned, tmp_path: Path
) -> None:
    full = tmp_path / "no more descriptors"
    async with running_pipeline(youtube, tmp_path, zygote=(UNFOLLOWABLE, str(full))) as own:
        await no_process_while(own, full, "Too many open files")
        assert descendants(own.zygote_pid, with_zombies=True) == set()


async def no_process_while(own: RunningPipeline, full: Path, reason: str) -> None:
    """While the file exists no tool starts, and nothing else happens."""
    assert (await own.convert(video_id(Kind.SHORT))).size_bytes
    before = len(os.listdir("/proc/self/fd"))
    zygote_pid = own.zygote_pid
    full.touch()
    for _ in range(3):
        with pytest.raises(NoProcess, match=reason):
            await own.convert(video_id(Kind.SHORT))
    assert len(os.listdir("/proc/self/fd")) == before
    full.unlink()
    assert (await own.convert(video_id(Kind.SHORT))).size_bytes
    assert own.zygote_pid == zygote_pid
    await own.no_tool_is_left()


async def test_a_tool_does_not_run_with_network_where_a_filter_fails(youtube: Spawned, tmp_path: Path) -> None:
    """S06: asked at the start, this kernel takes filters; then one cannot be installed."""
    failing, ran = tmp_path / "no filters", tmp_path / "ran"
    async with running_pipeline(
        youtube,
        tmp_path,
        ffmpeg=script(tmp_path, f'touch {ran}\nexec {FFMPEG} "$@"'),
        zygote=(FILTERLESS, str(failing)),
    ) as own:
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes
        ran.unlink()
        failing.touch()
        with pytest.raises(ConversionError, match="not started: the network filter cannot be installed") as failure:
            await own.convert(video_id(Kind.SHORT))
        assert failure.value.code is FailureCode.TOOL_MISSING
        assert not ran.exists()
        (verdict,) = [check for check in await own.pipeline.check() if check.name == "ffmpeg"]
        assert not verdict.ok
        assert "the network filter cannot be installed" in verdict.detail
        failing.unlink()
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes


async def test_a_kernel_without_filters_serves_and_health_says_so(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, zygote=(UNKNOWN_MACHINE,)) as own:
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes
        (verdict,) = [check for check in await own.pipeline.check() if check.name == "ffmpeg"]
        assert verdict.ok
        assert verdict.detail.endswith("this kernel has no seccomp filters, so ffmpeg is not kept from the network")


@pytest.mark.soak
async def test_mixed_endings_leave_no_process(youtube: Spawned, tmp_path: Path) -> None:
    """P01. In `make soak` twenty times as many."""
    bodies = ["exit 0", "exit 3", "kill -KILL $$", "sleep 0.01 & exit 0", "setsid sleep 100 & exit 0"]
    null = os.open(os.devnull, os.O_RDWR)
    async with running_pipeline(youtube, tmp_path) as own:

        async def one(number: int) -> None:
            run = ShortRun(
                argv=["/bin/sh", "-c", bodies[number % len(bodies)]],
                source=null,
                descriptors=[],
                folder=str(tmp_path),
                limits=ResourceLimits(file_bytes=0, cpu_seconds=5, network=True),
                seconds=5,
                max_output_bytes=10,
            )
            await run_briefly(own.spawner, run)

        for start in range(0, 200 * FUZZ_FACTOR, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))
        await asyncio.sleep(0.5)
        assert descendants(own.zygote_pid, with_zombies=True) == set()
    os.close(null)


def test_the_environment_of_a_tool_is_frozen() -> None:
    assert child_environment("/scratch") == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
    }


def test_the_encoder_command_is_frozen() -> None:
    command = encode_arguments("/ffmpeg", source=FILE, demuxer="matroska", recipe=DEFAULT_RECIPE)
    assert " ".join(command) == (
        "/ffmpeg -hide_banner -nostdin -v error -nostats -stats_period 0.25 -progress pipe:1"
        " -protocol_whitelist fd,pipe -format_whitelist matroska,webm"
        " -codec_whitelist aac,opus,vorbis,mp3,mp3float,flac,alac,pcm_s16le,pcm_s24le,pcm_f32le"
        " -fd 0 -f matroska -i fd: -map 0:a:0 -vn -sn -dn -map_metadata -1 -map_chapters -1"
        " -c:a libmp3lame -b:a 192k -id3v2_version 0 -write_id3v1 0 -f mp3 -fd 3 fd:"
    )
    streamed = encode_arguments("/ffmpeg", source=STREAM, demuxer="mov", recipe=Recipe(quality=Quality.V2))
    assert " -f mov -i pipe:0 " in " ".join(streamed)
    assert " -q:a 2 " in " ".join(streamed)
    assert " -c:a copy " in " ".join(
        encode_arguments("/ffmpeg", source=FILE, demuxer="mp3", recipe=DEFAULT_RECIPE, is_copied=True)
    )


def test_a_thumbnail_is_decoded_after_the_network_is_left(tmp_path: Path) -> None:
    from ytmp3.converter.youtube.downloader import Downloader, options
    from ytmp3.converter.youtube.extractor import VideoDownload

    picture = BytesIO()
    Image.new("RGB", (16, 9)).save(picture, "JPEG")
    scratch, said = tmp_path / "scratch", list[Event]()
    preload = Preload(egress_proxy=None, egress_ca_file=None, deno_path=None)
    extraction = Extraction(
        video_id=VideoId("-"), scratch=str(scratch), cookies_file=None, max_duration_seconds=1, max_file_bytes=1
    )
    fetch = VideoDownload(Downloader(options(preload), None, None), extraction, said.append)
    fetch.make_cover(
        (picture.getvalue(), False), leave_network=scratch.mkdir
    )  # so that a cover made before has no folder to be in
    assert said == [CoverWritten(name="cover")]
    with Image.open(scratch / "cover") as cover:
        assert cover.size == (9, 9)


def test_the_options_of_yt_dlp_are_frozen() -> None:
    from ytmp3.converter.youtube.downloader import FORMAT, options

    preload = Preload(egress_proxy="http://proxy:3128", egress_ca_file=None, deno_path="/deno")
    assert options(preload) == {
        "allowed_extractors": ["^youtube$"],
        "buffersize": 65536,
        "cachedir": False,
        "color": {"stdout": "no_color", "stderr": "no_color"},
        "continuedl": True,
        "cookiefile": None,
        "extractor_retries": 1,
        "fixup": "never",
        "format": FORMAT,
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
