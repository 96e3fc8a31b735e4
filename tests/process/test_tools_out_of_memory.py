"""A tool that the kernel kills for want of memory takes nobody with it (P13, F39)."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Pace, Spawned, spawn, video_id, watch_url
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.pipeline import RunningPipeline, running_pipeline
from tests.stand.processes import descendants, descriptor_count
from tests.stand.service_process import ServiceProcess, egress, service_process
from ytmp3.converter.sandbox.limits import ZYGOTE_OOM_SCORE

pytestmark = pytest.mark.soak

RUNS = min(6 * FUZZ_FACTOR, 50)
OWN_SCORE = """
import sys
with open("/proc/self/oom_score_adj", "w") as file:
    file.write(sys.argv[1])
from ytmp3.converter.youtube.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def dripping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    """Clips that take about a second to come, so that both tools are at work for so long."""
    with spawn(
        tmp_path_factory.mktemp("dripping"), prepare=(Kind.CLIP,), pace=Pace(slow_bytes_per_second=250_000)
    ) as it:
        yield it


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def name_of(pid: int) -> str:
    return "encoder" if b"ffmpeg" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0] else "youtube"


async def scores_at_work(own: RunningPipeline) -> dict[str, int]:
    """The scores of a conversion's two tools while both are at work."""
    async with asyncio.timeout(20):
        while True:
            scores = {name_of(pid): oom_score(pid) for pid in own.tools}
            if len(scores) == 2:
                return scores
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("server", "zygote", "tool"), [("0", 250, 500), ("600", 850, 1000)])
async def test_the_kernel_would_rather_kill_a_tool_than_the_zygote_and_that_than_the_server(
    dripping: Spawned, tmp_path: Path, server: str, zygote: int, tool: int
) -> None:
    """Whatever score the server was started with. The zygote begins with the server's."""
    async with running_pipeline(dripping, tmp_path, zygote=(OWN_SCORE, server)) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.SLOW)))
        assert await scores_at_work(own) == {"youtube": tool, "encoder": tool}
        assert oom_score(own.zygote_pid) == zygote
        conversion.cancel()
        await asyncio.wait([conversion])


class Killer:
    """Kills one tool of each conversion as the kernel does, unwarned: by turns a youtube child and an encoder."""

    def __init__(self, service: ServiceProcess, runs: int) -> None:
        self._service = service
        self._runs = runs
        self.killed: dict[str, str] = {}
        """What was killed of each conversion."""

    async def run(self) -> None:
        """Return when all the runs have had theirs."""
        victims: dict[str, str] = {}
        while len(self.killed) < self._runs:
            for pid in descendants(self._service.pid):
                try:
                    conversion = Path(os.readlink(f"/proc/{pid}/cwd")).name.partition("-")[0]
                    name = name_of(pid)
                except OSError:
                    continue
                if len(conversion) != 34 or conversion in self.killed:
                    continue
                if victims.setdefault(conversion, ("youtube", "encoder")[len(victims) % 2]) == name:
                    os.kill(pid, signal.SIGKILL)
                    self.killed[conversion] = name
            await asyncio.sleep(0.01)


async def always_alive(service: ServiceProcess, until: asyncio.Event) -> int:
    """Ask whether the service lives, all the time; return how often it said so."""
    asked = 0
    while not until.is_set():
        status, _ = await service.get("/health/live")
        assert status == 200
        asked += 1
        await asyncio.sleep(0.05)
    return asked


@pytest.mark.timeout(600)  # `make soak` has 50 runs; a busy machine takes ten times as long for one
async def test_tools_and_the_zygote_are_killed_in_mid_work_and_every_job_is_completed(
    dripping: Spawned, tmp_path: Path
) -> None:
    async with service_process(tmp_path, **egress(dripping)) as service:
        _, job = await service.post(watch_url(video_id(Kind.SHORT, 900)))
        await service.until(job["job_id"])
        (zygote,) = descendants(service.pid)
        before = descriptor_count(service.pid), descriptor_count(zygote)
        over = asyncio.Event()
        alive = asyncio.create_task(always_alive(service, over))
        killer = Killer(service, RUNS)
        killing = asyncio.create_task(killer.run())
        jobs = [(await service.post(watch_url(video_id(Kind.SLOW, 900 + n))))[1]["job_id"] for n in range(RUNS)]
        async with asyncio.timeout(15 * RUNS):
            while len(killer.killed) < RUNS // 2 or not (under_it := descendants(zygote)):
                await asyncio.sleep(0.01)
            os.kill(zygote, signal.SIGKILL)
            await killing
        ends = [await service.until(job_id, seconds=60 + 3 * RUNS) for job_id in jobs]
        assert Counter(killer.killed.values()) == {"youtube": RUNS // 2, "encoder": RUNS // 2}
        over.set()
        assert await alive > 20
        assert Counter(job["status"] for job in ends) == {"completed": RUNS}
        assert {job["attempt"] for job in ends} <= {2, 3}
        (successor,) = descendants(service.pid)
        assert successor not in {zygote, *under_it}
        assert oom_score(successor) == oom_score(service.pid) + ZYGOTE_OOM_SCORE
        assert descriptor_count(successor) == before[1]
        await service.client.close()
        async with asyncio.timeout(10):
            while descriptor_count(service.pid) > before[0]:
                await asyncio.sleep(0.05)
        (instance,) = (tmp_path / "data" / "scratch").iterdir()
        assert {path.name for path in instance.iterdir()} <= {".lock", "tools"}
        assert "Traceback" not in service.log()
