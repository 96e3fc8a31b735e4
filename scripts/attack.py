"""`make attack`: attacks this service as a taken-over tool, a hostile client or a failing part would; prints a table.

It runs every test with the marker `attack`, in its long form. `make test` runs the same tests in their short form. To
add a row, mark a test: its module's docstring is the heading, and its name is the row.

The exit code is 0 if the service withstood everything. A row that this machine cannot run is shown as NOT RUN.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).resolve().parents[1]

FACTOR: Final = "20"
"""How many times as many rounds as in `make test`: the value of FUZZ_FACTOR for `make soak` too."""

EXPRESSION: Final = "attack and not redis_cluster"
"""Selects the tests. `make redis-cluster-test` runs the same ones on a Redis Cluster."""

TEST_SECONDS: Final = 1800
"""Longest time, in seconds, of one test. The longest takes a few minutes on two cores."""

ROW_CHARACTERS: Final = 100
"""Longest text of a row, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one test."""

    group: str
    attack: str
    result: str
    seconds: float


def run(arguments: list[str], *, is_short: bool) -> tuple[int, list[Row]]:
    """Run the tests, and return pytest's exit code and a row for each test."""
    with tempfile.TemporaryDirectory(prefix="ytmp3-attack-") as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", EXPRESSION, f"--timeout={TEST_SECONDS}", *arguments]
        environment = os.environ | {"FUZZ_FACTOR": "1" if is_short else os.environ.get("FUZZ_FACTOR", FACTOR)}
        status = subprocess.run([*command, f"--junit-xml={report}"], cwd=ROOT, env=environment, check=False).returncode
        return status, list(rows(report)) if report.exists() else []


def rows(report: Path) -> Iterator[Row]:
    """Read pytest's report (JUnit XML)."""
    for case in ET.parse(report).iter("testcase"):
        yield Row(
            group=heading_of(case.get("classname", "")),
            attack=sentence(case.get("name", "")),
            result=result_of(case),
            seconds=float(case.get("time", "0")),
        )


def heading_of(module: str) -> str:
    """Return the first line of a test module's docstring."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
    return (text or module).splitlines()[0]


def sentence(name: str) -> str:
    """Return the name of a test as a sentence, with its parameters in brackets."""
    test, bracket, parameters = name.removeprefix("test_").partition("[")
    return (test.replace("_", " ") + (f" [{parameters}" if bracket else ""))[:ROW_CHARACTERS]


def result_of(case: ET.Element) -> str:
    """Return the last column: what became of the attack."""
    for kind, result in (("failure", "FAILED"), ("error", "FAILED"), ("skipped", "NOT RUN")):
        if (found := case.find(kind)) is not None:
            reason = re.sub(r"\s+", " ", found.get("message") or "")
            return f"{result}: {reason[:ROW_CHARACTERS]}" if kind == "skipped" else result
    return "held"


def table(found: list[Row]) -> str:
    """Return the rows, one group after the other, and a line with the totals."""
    width = max([len(row.attack) for row in found], default=0)
    lines = []
    group = ""
    for row in found:
        if row.group != group:
            group = row.group
            lines += ["", group]
        lines.append(f"  {row.attack:<{width}}  {row.seconds:7.1f} s  {row.result}")
    held, failed = (sum(row.result == result for row in found) for result in ("held", "FAILED"))
    lines += ["", f"{held} held, {failed} failed, {len(found) - held - failed} not run"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.attack", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the short form, as in `make test`")
    options, arguments = parser.parse_known_args()
    status, found = run(arguments, is_short=options.short)
    print(table(found), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
