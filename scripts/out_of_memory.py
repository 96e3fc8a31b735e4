"""A service in a memory cgroup that is too small for its child processes, so that the kernel's OOM killer ends some.

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
from tests.stand.waiting import until

JOBS: Final = 50
LIMIT_BYTES: Final = 180 * 2**20
APPETITE_BYTES: Final = 24 * 2**20
"""What the first encoder of each conversion allocates. It is less than the server uses: by size alone, the kernel would
end the server.
"""

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
    """No memory cgroup can be made here: there is no memory controller, or no permission."""


class MemoryGroup:
    """A memory cgroup with a limit."""

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
    """Make a memory cgroup below that of this process, and remove it at the end.

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
            with contextlib.suppress(OSError):  # its last processes are still ending
                folder.rmdir()
            time.sleep(0.05)


async def starve(youtube: Spawned, folder: Path) -> dict[str, object]:
    """Convert with encoders that need more memory than there is; returns how many were killed and how jobs ended."""
    folder.mkdir()
    encoder = folder / "ffmpeg"
    encoder.write_text(HUNGRY)
    encoder.chmod(0o755)
    settings = {"FFMPEG_PATH": str(encoder), "ENCODE_CONCURRENCY": "8"} | egress(youtube)
    with memory_group() as group:  # removed when the service, which runs in it, has ended
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
            await until(lambda: descendants(pid) == {zygote}, "no process of a conversion is left")
            codes = Counter(job["error"]["code"] if job["error"] else job["status"] for job in ends)
            assert set(codes) <= {"completed", "tool_missing"}, codes
            assert "Traceback" not in service.log()
            return {"kills": kills, "ends": dict(codes), "attempts": dict(Counter(job["attempt"] for job in ends))}


async def main() -> None:
    """Run this part of `make soak` by itself."""
    with tempfile.TemporaryDirectory(prefix="ytmp3-oom-") as name:
        folder = Path(name)
        with spawn(folder / "youtube", prepare=(Kind.SHORT,)) as youtube:
            print(await starve(youtube, folder / "starved"), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
