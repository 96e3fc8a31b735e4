"""A service in a memory cgroup that is too small for its tools: the kernel's own OOM killer, not a signal like it.

Part of `make soak`. Needs root and a writable memory cgroup (v1 or v2); says so where there is none.
"""

import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import imageio_ffmpeg

from tests.fake_youtube import Kind, Spawned, spawn, video_id, watch_url
from tests.stand.processes import descendants
from tests.stand.service_process import egress, service_process

JOBS: Final = 50
LIMIT_BYTES: Final = 180 * 2**20
APPETITE_BYTES: Final = 24 * 2**20
"""Of each first encoder: less than the server has, so that size alone would make the server the kernel's choice."""

HUNGRY: Final = f"""#!{sys.executable} -I
import os, sys, time
real, eaten = {imageio_ffmpeg.get_ffmpeg_exe()!r}, "../ate-" + os.path.basename(os.getcwd()).partition("-")[0]
if os.path.basename(os.getcwd()) != "tools" and not os.path.exists(eaten):
    open(eaten, "w").close()
    food = b"x" * {APPETITE_BYTES}
    time.sleep(2)
os.execv(real, [real, *sys.argv[1:]])
"""


class NoMemoryGroupError(Exception):
    """None can be made here: no right to, or no such controller."""


class MemoryGroup:
    """A cgroup of our own with a limit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        is_v1 = (folder / "memory.limit_in_bytes").exists()
        (folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(LIMIT_BYTES))
        self._events = folder / ("memory.oom_control" if is_v1 else "memory.events")

    def add(self, pid: int) -> None:
        (self._folder / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        found = re.search(r"^oom_kill (\d+)$", self._events.read_text(), re.MULTILINE)
        assert found, "this kernel does not count its kills"
        return int(found[1])


@contextlib.contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """Make one below our own, and remove it.

    Raises:
        NoMemoryGroupError
    """
    own = {
        line.split(":")[1]: line.strip().split(":")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()
    }
    parent = Path("/sys/fs/cgroup/memory" + own["memory"]) if "memory" in own else Path("/sys/fs/cgroup" + own[""])
    folder = parent / f"ytmp3-{os.getpid()}"
    try:
        folder.mkdir()
        group = MemoryGroup(folder)
    except OSError as error:
        raise NoMemoryGroupError(str(error)) from error
    try:
        yield group
    finally:
        deadline = time.monotonic() + 5
        while folder.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # what ran in it is still on its way out
                folder.rmdir()
            time.sleep(0.05)


async def starve(youtube: Spawned, folder: Path) -> dict[str, object]:
    """Convert with encoders that want more than there is; returns what came of it."""
    folder.mkdir()
    encoder = folder / "ffmpeg"
    encoder.write_text(HUNGRY)
    encoder.chmod(0o755)
    settings = {"FFMPEG_PATH": str(encoder), "ENCODE_CONCURRENCY": "8"} | egress(youtube)
    with memory_group() as group:  # removed after the service, which runs in it
        async with service_process(folder / "service", **settings) as service:
            pid = service.pid
            (zygote,) = descendants(pid)
            for each in (pid, zygote):
                group.add(each)
            jobs = [(await service.post(watch_url(video_id(Kind.SHORT, n))))[1]["job_id"] for n in range(JOBS)]
            ends = []
            for job_id in jobs:
                ends.append(await service.until(job_id, seconds=300))
                assert (await service.get("/health/live"))[0] == 200
            kills = group.kills
            assert kills >= JOBS // 5, f"the kernel killed only {kills}"
            assert service.pid == pid
            async with asyncio.timeout(20):
                while descendants(pid) != {zygote}:  # noqa: ASYNC110  /proc sends no events
                    await asyncio.sleep(0.1)
            codes = Counter(job["error"]["code"] if job["error"] else job["status"] for job in ends)
            assert set(codes) <= {"completed", "tool_missing"}, codes
            assert "Traceback" not in service.log()
            return {"kills": kills, "ends": dict(codes), "attempts": dict(Counter(job["attempt"] for job in ends))}


async def main() -> None:
    """Run it alone."""
    with tempfile.TemporaryDirectory(prefix="ytmp3-oom-") as name:
        folder = Path(name)
        with spawn(folder / "youtube", prepare=(Kind.SHORT,)) as youtube:
            print(await starve(youtube, folder / "starved"), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
