"""The simulation of many instances runs. No test asserts how much anything costs."""

import re
import subprocess
import sys

from scripts.fleet.figures import Counts, RedisUse, Sample, attempts, figures, full_part, projected
from tests.stand.service_process import ROOT

SMALL = {
    "--instances": "2",
    "--processes": "1",
    "--per-hour": "7200",
    "--seconds": "3",
    "--median-seconds": "0.3",
    "--poll-seconds": "0.3",
    "--idle-seconds": "1",
    "--again": "0.5",
    "--identities": "3",
    "--grace-seconds": "300",
}


def sample(at: float, *, node: float, loops: list[float], conflicts: int) -> Sample:
    counts = [Counts(cpu_seconds=loop + 1.0, loop_seconds=loop, writes=10, conflicts=conflicts) for loop in loops]
    use = RedisUse(cpu_seconds=node, commands=round(node * 100))
    return Sample(at=at, nodes=[use], counts=counts, client_seconds=0.0)


def test_a_small_fleet_loses_no_job_and_converts_each_video_once() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.fleet", *(part for pair in SMALL.items() for part in pair)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", ended.stdout, re.MULTILINE))
    assert rows["jobs"] == "6 accepted, 0 refused, 6 completed, 0 failed"
    assert rows["jobs lost"] == "0"
    links = re.fullmatch(r"(\d) for (\d) links; 0 converted again", rows["conversions"])
    assert links is not None
    assert links[1] == links[2]
    assert int(links[1]) < 6, "a link that was submitted before joins its conversion"


def test_the_figures_name_the_part_that_is_nearest_to_its_limit() -> None:
    before = sample(0.0, node=0.0, loops=[0.0, 0.0], conflicts=0)
    idle = figures(before, sample(10.0, node=0.5, loops=[0.1, 0.1], conflicts=0), instances=2, cores=8)
    busy = figures(before, sample(10.0, node=4.5, loops=[2.0, 3.0], conflicts=0), instances=2, cores=8)
    assert (busy.redis, busy.loop, busy.instance) == (0.45, 0.3, 0.25)
    assert full_part(busy) == "a Redis node"
    assert projected(busy, idle, 1000.0, 2)["Redis node"] == (0.85 - 0.05) / 0.4 * 1000.0
    contended = figures(before, sample(10.0, node=4.5, loops=[2.0, 3.0], conflicts=90), instances=2, cores=8)
    assert full_part(contended) == "the shared states of the identities"


def test_attempts_in_several_processes_are_added() -> None:
    assert attempts([Counts(started={"a": 1, "b": 1}), Counts(started={"a": 1})]) == {"a": 2, "b": 1}
