"""Resource limits and the network filter of child processes, tried from inside a child and without filters."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import FFMPEG, fake_encoder, running_pipeline
from ytmp3.converter import SandboxIncompleteError
from ytmp3.converter.sandbox.limits import SESSION_NICENESS
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.short_run import ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import child_environment
from ytmp3.core.errors import ConversionError, FailureCode

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
    "queued signals": [called(queue, os.getppid(), 0), called(queue_thread, os.getppid(), os.getppid(), 0)],
    "status of a child with a socket": subprocess.run(ask_a_child, stderr=subprocess.DEVNULL).returncode,
    "limits": limits,
    "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    "oom score": int(open("/proc/self/oom_score_adj").read()),
    "leads its group": os.getpgid(0) == os.getpid(),
    "session": os.getsid(0),
    "niceness of the session":
        open("/proc/self/autogroup").read().split()[-1] if os.path.exists("/proc/self/autogroup") else None,
    "environment": sorted(name for name in os.environ if name != "LC_CTYPE"),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "folder": os.getcwd(),
}))
"""

FAILING_FILTER = """
import os, sys
from ytmp3.converter.sandbox import limits, zygote
from ytmp3.converter.youtube.__main__ import main
class Kernel(limits.Kernel):
    def prctl(self, option, value, more=0):
        if option == 22 and os.path.exists(sys.argv[1]):  # PR_SET_SECCOMP
            raise OSError(22, "refused")
        return super().prctl(option, value, more)
zygote.Kernel = Kernel
main()
"""

UNKNOWN_ARCHITECTURE = """
import platform
platform.machine = lambda: "riscv64"
from ytmp3.converter.youtube.__main__ import main
main()
"""


async def test_a_child_process_has_every_limit(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        run = ShortRun(
            argv=[sys.executable, "-I", "-c", PROBE],
            source=os.open(os.devnull, os.O_RDONLY),
            descriptors=[],
            folder=str(tmp_path),
            limits=ResourceLimits(file_bytes=1000, cpu_seconds=7, memory_bytes=2**31, profile=None),
            seconds=600,
            max_output_bytes=10_000,
        )
        completed = await run_briefly(own.spawner, run)
        os.close(run.source)
        zygote_pid = own.zygote_pid
    assert completed.status == 0, completed.errors
    found = json.loads(completed.output)
    assert found["session"] == zygote_pid, "all children share one session, whose priority is lower than the server's"
    assert found["niceness of the session"] in {SESSION_NICENESS.decode(), None}  # None: a kernel without autogroups
    assert [found[name] for name in ("inet", "inet6", "unix", "kill")] == [1, 1, 1, 1]  # EPERM
    assert found["queued signals"] == [1, 1]
    assert found["status of a child with a socket"] != 0, "the filter is not inherited"
    assert found["limits"] == {
        "RLIMIT_FSIZE": [1000, 1000],
        "RLIMIT_NOFILE": [256, 256],
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_CPU": [7, 7],
        "RLIMIT_AS": [2**31, 2**31],
    }
    assert (found["niceness"], found["oom score"], found["leads its group"]) == (10, 500, True)
    assert found["environment"] == ["DENO_DIR", "HOME", "LANG", "PATH", "TMPDIR"]
    assert found["descriptors"] == [0, 1, 2]
    assert found["folder"] == str(tmp_path)


def environment_of(pid: int) -> bytes:
    """Read the environment of a process. All but root are refused: the processes hide it."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        assert os.geteuid() != 0
        return b""


async def test_no_child_process_gets_the_environment_of_the_server(
    youtube: Spawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REDIS_PASSWORD", "HTTPS_PROXY", "no_proxy", "XDG_CONFIG_HOME", "LD_PRELOAD_NOT", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "hunter2")
    async with running_pipeline(youtube, tmp_path, is_kept=False) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.STALLED)))
        children = await own.until_both_children_run()
        for pid in (own.zygote_pid, *children.values()):
            assert b"hunter2" not in environment_of(pid)
            assert youtube.proxy_url.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        conversion.cancel()
        await asyncio.wait([conversion])


def test_the_environment_of_a_child_process_is_fixed() -> None:
    assert child_environment("/scratch") == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "DENO_DIR": "/dev/null/deno",
    }


async def test_no_child_starts_where_installing_the_filter_fails(youtube: Spawned, tmp_path: Path) -> None:
    """At the start this kernel accepts the filter; later it refuses to install one."""
    failing, ran = tmp_path / "no filters", tmp_path / "ran"
    encoder = fake_encoder(tmp_path, f'touch {ran}\nexec {FFMPEG} "$@"')
    async with running_pipeline(youtube, tmp_path, ffmpeg=encoder, zygote=(FAILING_FILTER, str(failing))) as own:
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes
        ran.unlink()
        failing.touch()
        with pytest.raises(ConversionError, match="the youtube child ended with 127") as failure:
            await own.convert(video_id(Kind.SHORT))
        assert failure.value.code is FailureCode.TOOL_MISSING
        assert not ran.exists()
        (result,) = [check for check in await own.pipeline.check() if check.name == "ffmpeg"]
        assert not result.ok
        assert "not started: the system call filter cannot be installed" in result.detail
        failing.unlink()
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes


async def test_a_kernel_without_filters_converts_and_the_health_check_says_so(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, zygote=(UNKNOWN_ARCHITECTURE,)) as own:
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes
        (result,) = [check for check in await own.pipeline.check() if check.name == "sandbox"]
        assert result.ok
        assert "MISSING: this kernel has no seccomp filters, so ffmpeg and deno are not kept from" in result.detail


async def test_a_required_sandbox_refuses_to_start_where_something_is_missing(youtube: Spawned, tmp_path: Path) -> None:
    script = fake_encoder(tmp_path, "exit 0")
    with pytest.raises(SandboxIncompleteError, match="FFMPEG_PATH is a script"):
        async with running_pipeline(youtube, tmp_path, ffmpeg=script, requires_sandbox=True):
            pass
    with pytest.raises(SandboxIncompleteError, match="no seccomp filters"):
        async with running_pipeline(youtube, tmp_path, zygote=(UNKNOWN_ARCHITECTURE,), requires_sandbox=True):
            pass
    async with running_pipeline(youtube, tmp_path, requires_sandbox=True) as own:
        assert (await own.convert(video_id(Kind.SHORT))).size_bytes


def test_a_service_with_an_incomplete_sandbox_names_the_setting_and_ends(tmp_path: Path) -> None:
    settings = {"SANDBOX": "required", "FFMPEG_PATH": str(fake_encoder(tmp_path, "exit 0")), "PORT": "0"}
    command = [sys.executable, "-m", "ytmp3", "serve"]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "data")} | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ytmp3: SANDBOX: required, but FFMPEG_PATH is a script" in done.stderr
