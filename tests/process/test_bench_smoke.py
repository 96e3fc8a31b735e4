"""The bench runs. No test asserts how fast anything is: `make bench` measures that."""

import subprocess
import sys

from tests.stand.service_process import ROOT


def test_a_quick_bench_prints_its_table() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.bench", "--quick", "--rows", "start,one_clip"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("| ")]
    assert rows[0] == "| what | measured | goal | reached | note |"
    assert [row.split(" | ")[0].strip("| ") for row in rows[1:]] == [
        "start to first healthy answer",
        "idle memory (PSS)",
        "one clip, idle server: over ffmpeg alone",
    ]
