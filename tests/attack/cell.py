"""Runs a taken-over tool, as a program: `python -m tests.attack.cell PLACE [options]`.

A process of its own, because it may give up its privileges and Landlock first. It stands for the server: it starts a
real zygote, with secrets of its own around it, and prints what the tool achieved in each place (see
`taken_over.attack`) as JSON.
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
from tests.stand.waiting import until
from tests.stand.zygote import until_ready
from ytmp3.converter import Observer
from ytmp3.converter.audio.ffmpeg import MEMORY_BYTES
from ytmp3.converter.live_sound import LiveSound
from ytmp3.converter.pipeline import Pipeline
from ytmp3.converter.profiles import tool_profile
from ytmp3.converter.sandbox.limits import Kernel
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.report import report_of
from ytmp3.converter.sandbox.short_run import ShortRun, run_briefly
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.converter.solver.processes import Deno
from ytmp3.converter.tools import youtube_program
from ytmp3.core.errors import ConversionError
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.recipe import DEFAULT_RECIPE

ORDINARY_USER: Final = 10001
CELLS: Final = ("ffmpeg", "deno", "youtube", "picture")
PROXY_PORT: Final = 9
"""The only port that the youtube child may connect to in this test."""

# A zygote whose children are taken over: while they extract, or while they decode the picture, as the video's id says.
ZYGOTE: Final = """
import json, os, sys
from tests.attack.taken_over import attack
from ytmp3.converter.youtube import preloaded
from ytmp3.converter.youtube.__main__ import main
targets = {name: json.loads(text) for name, text in zip(("youtube", "picture"), sys.argv[1:])}
class TakenOver:
    def __init__(self, downloader, extraction, emit, **_):
        self.cell = extraction.video_id.rstrip("_")
        self.result = open(extraction.scratch + "/result", "w")
        self.targets = targets[self.cell] | {"zygote": os.getppid(), "output": self.result.fileno()}
        self.targets["link"] = extraction.scratch + "/link"
    def run(self):
        if self.cell == "youtube":
            self.write()
    def make_cover(self, thumbnail, leave_everything):
        if self.cell == "picture":
            leave_everything()
            self.write()
    def write(self):
        self.result.write(json.dumps(attack(self.targets)))
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


def data_folder(folder: Path) -> None:
    """Make what a taken-over tool looks for."""
    data = folder / "data"
    for name in ("tracks", "scratch/other"):
        (data / name).mkdir(parents=True)
    for name in ("keys", "cookies", "jobs.sqlite3", "scratch/other/spool"):
        (data / name).write_text("a secret")
    for name in ("other", "first", "second"):
        (data / f"tracks/{name}.mp3").write_text("a track")
    (folder / "outside").write_text("a secret")


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
        "link": str(folder / "link"),
        "output": 3,
        "program": os.path.realpath(sys.executable) if cell in {"ffmpeg", "deno"} else msgspec.__file__,
        "has_network": has_network,
        "may_connect": has_network and not has_port_rules,
    }


def unconfined(targets: dict[str, Any], output: Path) -> dict[str, Any]:
    """Run the tool as a plain child of this process, to show that its attempts work where nothing prevents them."""
    with subprocess.Popen(["sleep", "3600"]) as zygote, output.open("wb") as file:
        try:
            targets |= {"zygote": zygote.pid, "output": file.fileno()}
            argv = [sys.executable, "-I", taken_over.__file__, json.dumps(targets)]
            done = subprocess.run(argv, capture_output=True, check=True, timeout=600, pass_fds=(file.fileno(),))
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

        def children() -> list[int]:
            return [pid for pid in descendants(service.pid) if _parent_of(pid) == service.pid]

        await until(lambda: len(children()) == 1, "the zygote is the only child of the service")
        (zygote,) = children()
        argv = [
            sys.executable,
            "-I",
            taken_over.__file__,
            json.dumps(targets | {"server": service.pid, "zygote": zygote}),
        ]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, check=True, timeout=600)
    finally:
        service.kill()
        await service.wait()
    return dict(json.loads(done.stdout))


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


async def as_program(cell: str, spawner: Spawner, targets: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run the tool in the place of ffmpeg or deno: with its limits and its profile."""
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
        seconds=600,
        max_output_bytes=2**20,
    )
    completed = await run_briefly(spawner, run)
    assert completed.status == 0, (completed.status, completed.errors)
    return dict(json.loads(completed.output))


async def in_cells(folder: Path, targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run the tool in all four places, with a real zygote and pipeline. `sandbox` is the text in `/health`."""
    settings = ToolSettings(
        ffmpeg_path=None,
        egress_proxy=f"http://127.0.0.1:{PROXY_PORT}",
        egress_ca_file=None,
        cookies_file=None,
        extract_concurrency=1,
        encode_concurrency=1,
    )
    program = youtube_program(settings, deno=None)
    texts = [json.dumps(targets[cell]) for cell in ("youtube", "picture")]
    spawner = Spawner(msgspec.structs.replace(program, arguments=("-c", ZYGOTE, *texts)))
    limits = ConversionLimits(max_duration_seconds=100, max_file_bytes=2**20, extract_seconds=600)
    pipeline = Pipeline(settings, limits, folder, spawner=spawner)
    try:
        ready = await until_ready(spawner)
        found: dict[str, Any] = {"sandbox": report_of(ready.protections, ffmpeg_is_script=False).text}
        for cell in CELLS:
            scratch = folder / "data/scratch" / cell
            scratch.mkdir()
            if cell in {"ffmpeg", "deno"}:
                found[cell] = await as_program(cell, spawner, targets[cell], scratch)
            else:
                with contextlib.suppress(ConversionError):
                    video_id, client = VideoId(cell.ljust(11, "_")), ClientId("a")
                    await pipeline.convert(
                        video_id, DEFAULT_RECIPE, client, scratch, Observer(lambda _: None, LiveSound())
                    )
                found[cell] = json.loads((scratch / "result").read_text())
        return found
    finally:
        await pipeline.close()


async def run(place: str, *, has_port_rules: bool) -> dict[str, Any]:
    """Run the tool in this place. Returns what it achieved, by the name of the place."""
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-attack-"))
    try:
        data_folder(folder)
        with listeners(folder) as found:
            targets = {
                cell: targets_of(cell, folder, found, has_port_rules=has_port_rules) for cell in (*CELLS, "none")
            }
            if place == "none":
                return {place: unconfined(targets["none"], folder / "output")}
            if place == "neighbour":
                return {place: await neighbour(targets["none"], folder)}
            # The server does so at its start.
            Kernel().hide_memory()
            return await in_cells(folder, targets)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", choices=("cells", "none", "neighbour"))
    parser.add_argument("--ordinary", action="store_true", help="give up root first")
    parser.add_argument("--no-landlock", action="store_true", help="behave as on a kernel without Landlock")
    options = parser.parse_args()
    assert platform.system() == "Linux"
    if options.ordinary and os.geteuid() == 0:
        become_ordinary()
    if options.no_landlock:
        without_landlock()
    print(json.dumps(asyncio.run(run(options.place, has_port_rules=not options.no_landlock))))


if __name__ == "__main__":
    main()
