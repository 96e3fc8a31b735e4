"""The simulation of many instances runs. No test asserts how much anything costs."""

import re
import subprocess
import sys

from tests.stand.service_process import ROOT

SMALL = {
    "--instances": "2",
    "--seconds": "3",
    "--median-seconds": "0.3",
    "--poll-seconds": "0.3",
    "--idle-seconds": "1",
    "--again": "0.5",
    "--identities": "3",
    "--grace-seconds": "300",
}


def run_fleet(*arguments: str) -> dict[str, str]:
    """Run a small fleet, and return the rows of its table."""
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.fleet", *(part for pair in SMALL.items() for part in pair), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return dict(re.findall(r"^\| (.+?) \| (.+) \|$", ended.stdout, re.MULTILINE))


def check_conversions(row: str) -> int:
    """Check that each link was converted once; return their number."""
    links = re.fullmatch(r"(\d+) for (\d+) links; 0 converted again", row)
    assert links is not None
    assert links[1] == links[2]
    return int(links[1])


def test_a_small_fleet_loses_no_job_and_converts_each_video_once() -> None:
    rows = run_fleet("--processes", "1", "--per-hour", "7200", "--warm-seconds", "2")
    # On a busy machine, the store may be too late for a request, which is then refused.
    jobs = re.fullmatch(r"(\d+) accepted, (\d+)(?: {.*})? refused, (\d+) completed, 0 failed", rows["jobs"])
    assert jobs is not None, rows["jobs"]
    accepted, refused, completed = map(int, jobs.groups())
    assert (accepted + refused, completed) == (10, accepted)
    assert rows["jobs lost"] == "0"
    assert check_conversions(rows["conversions"]) <= accepted, "a link that was submitted before joins its conversion"


def test_steps_on_virtual_time_grow_with_the_rate_and_use_all_nodes_of_a_cluster() -> None:
    rows = run_fleet(
        *("--virtual", "--grow", "--primaries", "2", "--exchange-ms", "30"),
        *("--per-hour", "7200", "14400", "--warm-seconds", "1"),
    )
    assert rows["conversions an hour"] == "7,200 | 14,400"
    assert rows["instances"] == "2 | 4"
    assert rows["jobs"].split(" | ") == [f"{jobs} accepted, 0 refused, {jobs} completed, 0 failed" for jobs in (8, 16)]
    assert rows["jobs lost"] == "0 | 0"
    for column in rows["conversions"].split(" | "):
        check_conversions(column)
    assert "least busy node" in rows["Redis, share of a core"]
    assert rows["POST to start, p50 / p99"].startswith("30.0 / "), "a start takes one exchange with the store"
