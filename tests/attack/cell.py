"""Runs a taken-over tool in one of the four cells, as a program: `python -m tests.attack.cell CELL [options]`.

A process of its own, because it may give up its privileges and Landlock first. It stands for the server: it starts a
real zygote, with secrets of its own around it, and prints what the tool achieved (see `taken_over.attack`) as JSON.
"""

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.attack import taken_over
from tests.stand.processes import descendants
from ytmp3.converter.audio.ffmpeg import MEMORY_BYTES
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.profiles import tool_profile
from ytmp3.converter.sandbox.limits import Kernel
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.short_run import ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.converter.solver.processes import Deno
from ytmp3.converter.tools import youtube_program
from ytmp3.core.errors import ConversionError
from ytmp3.core.ids import VideoId
from ytmp3.core.recipe import DEFAULT_RECIPE

ORDINARY_USER: Final = 10001
CELLS: Final = ("ffmpeg", "deno", "youtube", "picture")
PROXY_PORT: Final = 9
"""The only port that the youtube child may connect to in this test."""

# A zygote whose children are taken over: while they extract, or while they decode the picture.
ZYGOTE: Final = """
import json, os, sys
from tests.attack.taken_over import attack
from ytmp3.converter.youtube import preloaded
from ytmp3.converter.youtube.__main__ import main
cell, targets = sys.argv[1], json.loads(sys.argv[2])
class TakenOver:
    def __init__(self, downloader, extraction, emit, before_extraction):
        self.result = open(extraction.scratch + "/result", "w")
        targets["link"], targets["output"] = extraction.scratch + "/link", self.result.fileno()
    def run(self):
        if cell == "youtube":
            self.write()
    def make_cover(self, thumbnail, leave_everything):
        if cell == "picture":
            leave_everything()
            self.write()
    def write(self):
        self.result.write(json.dumps(attack(targets)))
        self.result.flush()
preloaded.VideoDownload = TakenOver
main()
"""


def without_landlock() -> None:
    """Make Landlock's system calls of this process and its descendants fail as on a kernel without it (ENOSYS)."""
    kernel = Kernel()
    kernel.forbid_new_privileges()
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number of the call
            (0x35, 0, 2, 444),  # below landlock_create_ruleset: allow
            (0x35, 1, 0, 447),  # above landlock_restrict_self: allow
            (0x06, 0, 0, 0x00050026),  # ENOSYS
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    kernel.prctl(22, 2, ctypes.addressof(header))


def become_ordinary() -> None:
    """Give up root: all groups, and both ids."""
    os.setgroups([])
    os.setgid(ORDINARY_USER)
    os.setuid(ORDINARY_USER)


def data_folder(folder: Path) -> Path:
    """Make what a taken-over tool looks for."""
    data = folder / "data"
    for name in ("tracks", "scratch/other"):
        (data / name).mkdir(parents=True)
    for name in ("keys", "cookies", "jobs.sqlite3", "scratch/other/spool"):
        (data / name).write_text("a secret")
    for name in ("other", "first", "second"):
        (data / f"tracks/{name}.mp3").write_text("a track")
    (folder / "outside").write_text("a secret")
    return data


@contextlib.contextmanager
def listeners(folder: Path) -> Iterator[dict[str, Any]]:
    """Listen as other programs of the machine do."""
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        named.bind(str(folder / "socket"))
        abstract.bind(f"\0ytmp3-test-{os.getpid()}")
        named.listen()
        abstract.listen()
        yield {
            "port": port.getsockname()[1],
            "socket": str(folder / "socket"),
            "abstract": f"ytmp3-test-{os.getpid()}",
        }


def targets_of(cell: str, folder: Path, found: dict[str, Any], *, has_port_rules: bool) -> dict[str, Any]:
    """Return the arguments of `taken_over.attack`, without the process id of the zygote."""
    has_network = cell == "youtube"
    return found | {
        "server": os.getpid(),
        "data": str(folder / "data"),
        "outside": str(folder / "outside"),
        "new": str(folder / "new"),
        "link": str(folder / "data/scratch/own/link"),
        "output": 3,
        "program": os.path.realpath(sys.executable) if cell in {"ffmpeg", "deno"} else msgspec.__file__,
        "has_network": has_network,
        "may_connect": has_network and not has_port_rules,
    }


def unconfined(targets: dict[str, Any], output: Path) -> dict[str, Any]:
    """Run the tool as a plain child of this process, to show that its attempts work where nothing prevents them."""
    with subprocess.Popen(["sleep", "60"]) as zygote, output.open("wb") as file:
        try:
            targets |= {"zygote": zygote.pid, "output": file.fileno()}
            argv = [sys.executable, "-I", taken_over.__file__, json.dumps(targets)]
            done = subprocess.run(argv, capture_output=True, check=True, timeout=60, pass_fds=(file.fileno(),))
        finally:
            zygote.kill()
    return dict(json.loads(done.stdout))


async def neighbour(targets: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the tool beside a real service, as another program of its user."""
    settings = {"DATA_DIR": str(folder / "service"), "PORT": "0", "PATH": os.environ["PATH"]}
    command = (sys.executable, "-m", "ytmp3", "serve")
    service = await asyncio.create_subprocess_exec(
        *command,
        env=settings | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert service.stdout is not None
        assert b"http://" in await service.stdout.readline()
        (zygote,) = descendants(service.pid)
        argv = [
            sys.executable,
            "-I",
            taken_over.__file__,
            json.dumps(targets | {"server": service.pid, "zygote": zygote}),
        ]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, check=True, timeout=60)
    finally:
        service.kill()
        await service.wait()
    return dict(json.loads(done.stdout))


async def as_program(cell: str, spawner: Spawner, targets: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run the tool in the place of ffmpeg or deno: with its limits and its profile."""
    await spawner.ready()
    targets["zygote"] = spawner.zygote_pid
    if cell == "deno":
        limits = Deno(spawner=spawner, path=sys.executable, folder=scratch).limits(60)
    else:
        profile = tool_profile(sys.executable)
        limits = ResourceLimits(file_bytes=2**20, cpu_seconds=60, memory_bytes=MEMORY_BYTES, profile=profile)
    assert limits.profile is not None
    # The tool is Python, which reads more than ffmpeg does; and a symbolic link leads to its program.
    more = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), taken_over.__file__)
    programs = (*limits.profile.programs, os.path.realpath(sys.executable))
    profile = msgspec.structs.replace(limits.profile, programs=programs, readable=limits.profile.readable + more)
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(scratch / "encoded", os.O_RDWR | os.O_CREAT, 0o600)
    run = ShortRun(
        argv=[os.path.realpath(sys.executable), "-I", taken_over.__file__, json.dumps(targets)],
        source=null,
        descriptors=[output],
        folder=str(scratch),
        limits=msgspec.structs.replace(limits, profile=profile),
        seconds=120,
        max_output_bytes=2**20,
    )
    completed = await run_briefly(spawner, run)
    assert completed.status == 0, (completed.status, completed.errors)
    return dict(json.loads(completed.output))


async def run(cell: str, *, has_port_rules: bool) -> dict[str, Any]:
    """Run the tool in this cell, with a real pipeline. Returns what it achieved, and the check `sandbox`."""
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-attack-"))
    settings = ToolSettings(
        ffmpeg_path=None,
        egress_proxy=f"http://127.0.0.1:{PROXY_PORT}",
        egress_ca_file=None,
        cookies_file=None,
        extract_concurrency=1,
        encode_concurrency=1,
    )
    try:
        scratch = data_folder(folder) / "scratch/own"
        scratch.mkdir()
        with listeners(folder) as found:
            targets = targets_of(cell, folder, found, has_port_rules=has_port_rules)
            if cell == "none":
                return {"results": unconfined(targets, folder / "output"), "sandbox": ""}
            if cell == "neighbour":
                return {"results": await neighbour(targets, folder), "sandbox": ""}
            # The server does so at its start.
            Kernel().hide_memory()
            program = youtube_program(settings, deno=None)
            if cell in {"youtube", "picture"}:
                # The zygote is the parent of the tool.
                text = ZYGOTE.replace("json.loads(sys.argv[2])", 'json.loads(sys.argv[2]) | {"zygote": os.getpid()}')
                program = msgspec.structs.replace(program, arguments=("-c", text, cell, json.dumps(targets)))
            spawner = Spawner(program)
            limits = ConversionLimits(max_duration_seconds=100, max_file_bytes=2**20)
            pipeline = Pipeline(settings, limits, folder, spawner=spawner)
            try:
                sandbox = next(check.detail for check in await pipeline.check() if check.name == "sandbox")
                if cell in {"ffmpeg", "deno"}:
                    return {"results": await as_program(cell, spawner, targets, scratch), "sandbox": sandbox}
                with contextlib.suppress(ConversionError):
                    await pipeline.convert(VideoId("aaaaaaaaaaa"), DEFAULT_RECIPE, scratch, lambda _: None)
                return {"results": json.loads((scratch / "result").read_text()), "sandbox": sandbox}
            finally:
                await pipeline.close()
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cell", choices=(*CELLS, "none", "neighbour"))
    parser.add_argument("--ordinary", action="store_true", help="give up root first")
    parser.add_argument("--no-landlock", action="store_true", help="behave as on a kernel without Landlock")
    options = parser.parse_args()
    assert platform.system() == "Linux"
    if options.ordinary and os.geteuid() == 0:
        become_ordinary()
    if options.no_landlock:
        without_landlock()
    print(json.dumps(asyncio.run(run(options.cell, has_port_rules=not options.no_landlock))))


if __name__ == "__main__":
    main()
