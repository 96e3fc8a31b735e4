"""The kernel kills child processes for lack of memory: the server and the jobs survive."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Pace, Spawned, spawn, video_id, watch_url
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.pipeline import kind_of_child, running_pipeline
from tests.stand.processes import descendants, descriptor_count
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.converter.sandbox.limits import ZYGOTE_OOM_SCORE

pytestmark = pytest.mark.soak

RUNS = min(6 * FUZZ_FACTOR, 50)
VICTIMS = ("downloader", "encoder") if os.geteuid() == 0 else ("encoder", "encoder")
"""Which children are killed in turn. The kernel shows to root only which conversion a downloader works for, because its
process is not dumpable (proc(5))."""
OWN_SCORE = """
import sys
with open("/proc/self/oom_score_adj", "w") as file:
    file.write(sys.argv[1])
from ytmp3.converter.youtube.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def dripping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    """Clips whose download would take minutes: both child processes run until a test has killed one, or hurries."""
    with spawn(
        tmp_path_factory.mktemp("dripping"), prepare=(Kind.CLIP,), pace=Pace(slow_bytes_per_second=20_000)
    ) as it:
        yield it


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.parametrize(("server", "zygote", "child"), [("0", 250, 500), ("600", 850, 1000)])
async def test_the_kernel_prefers_a_child_to_the_zygote_and_the_zygote_to_the_server(
    dripping: Spawned, tmp_path: Path, server: str, zygote: int, child: int
) -> None:
    """So it is for any score with which the server was started: the zygote inherits that."""
    async with running_pipeline(dripping, tmp_path, zygote=(OWN_SCORE, server)) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.SLOW)))
        children = await own.until_both_children_run()
        assert {kind: oom_score(pid) for kind, pid in children.items()} == {"downloader": child, "encoder": child}
        assert oom_score(own.zygote_pid) == zygote
        conversion.cancel()
        await asyncio.wait([conversion])


class Killer:
    """Kills one child process of each conversion with KILL, as the kernel does. VICTIMS says which."""

    def __init__(self, service: ServiceProcess, runs: int) -> None:
        self._service = service
        self._runs = runs
        self.killed: dict[str, str] = {}
        """Which child was killed, by conversion."""

    async def run(self) -> None:
        """Return when a child of every conversion has been killed."""
        victims: dict[str, str] = {}
        while len(self.killed) < self._runs:
            for pid in descendants(self._service.pid):
                try:
                    conversion = Path(os.readlink(f"/proc/{pid}/cwd")).name.partition("-")[0]
                    kind = kind_of_child(pid)
                except OSError:
                    continue
                if len(conversion) != 34 or conversion in self.killed:
                    continue
                if victims.setdefault(conversion, VICTIMS[len(victims) % 2]) == kind:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        self.killed[conversion] = kind
            await asyncio.sleep(0.01)


async def check_liveness(service: ServiceProcess, over: asyncio.Event) -> None:
    """Ask for /health/live again and again until `over` is set; every response must be 200."""
    while not over.is_set():
        status, _ = await service.get("/health/live")
        assert status == 200
        await asyncio.sleep(0.05)


async def test_every_job_is_completed_although_children_and_the_zygote_are_killed(
    dripping: Spawned, tmp_path: Path
) -> None:
    async with service_process(tmp_path, **egress(dripping)) as service:
        _, job = await service.post(watch_url(video_id(Kind.SHORT, 900)))
        await service.until(job["job_id"])
        zygote = await service.only_child()
        before, of_zygote = await service.descriptors(), descriptor_count(zygote)
        over = asyncio.Event()
        liveness = asyncio.create_task(check_liveness(service, over))
        killer = Killer(service, RUNS)
        killing = asyncio.create_task(killer.run())
        jobs = [(await service.post(watch_url(video_id(Kind.SLOW, 900 + n))))[1]["job_id"] for n in range(RUNS)]
        async with asyncio.timeout(PATIENCE_SECONDS + 20 * RUNS):
            while len(killer.killed) < RUNS // 2 or not (its_children := descendants(zygote)):
                await asyncio.sleep(0.01)
            os.kill(zygote, signal.SIGKILL)
            await killing
        dripping.switch(hurried=True)
        ends = [await service.until(job_id) for job_id in jobs]
        assert Counter(killer.killed.values()) == Counter(VICTIMS * (RUNS // 2))
        over.set()
        await liveness
        assert Counter(job["status"] for job in ends) == {"completed": RUNS}
        assert {job["attempt"] for job in ends} <= {2, 3}
        successor = await service.only_child()
        assert successor not in {zygote, *its_children}
        assert oom_score(successor) == oom_score(service.pid) + ZYGOTE_OOM_SCORE
        await until(lambda: descriptor_count(successor) <= of_zygote, "the new zygote holds no more than the first")
        await service.holds_at_most(before)
        (instance,) = (tmp_path / "data" / "scratch").iterdir()
        await until(
            lambda: {path.name for path in instance.iterdir()} <= {".lock", "tools"}, "no file of a conversion is left"
        )
        assert "Traceback" not in service.log()
