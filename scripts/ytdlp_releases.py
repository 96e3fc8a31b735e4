"""`make ytdlp-releases`: run the tests of everything that yt-dlp is used for with each of its latest releases.

Each release is installed from pip's configured index, together with the yt-dlp-ejs that it names, into a folder of its
own below a temporary folder. That folder comes first in the PYTHONPATH of the tests, so the environment of the checkout
stays as it is. Prints one line for each release; exits with 1 if the tests of any fail.

Releases up to 2026.9.27 have no television client among their default clients. So with them, videos that only such a
client can serve fail: some cases of test_ladder and test_every_kind.
"""

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

DAYS: Final = 92
"""Three months: an operator who updates more rarely than that has no working YouTube anyway."""

TESTS: Final = (
    "tests/core/test_verdict.py",
    "tests/process/test_yt_dlp_patches.py",
    "tests/process/test_downloading_child.py",
    "tests/process/test_extraction.py",
    "tests/process/test_ladder.py",
    "tests/process/test_right_sound.py",
    "tests/process/test_solver.py",
    "tests/process/test_every_kind.py",
)
"""The places where yt-dlp is changed, its options, the ladder, the choice of the format, the solver, and each kind of
video. The tests of the fake YouTube itself are left out: they describe what the locked release says."""

_VERSION: Final = re.compile(r"\b(\d{4})\.(\d{1,2})\.(\d{1,2})[\w.]*")
_SOLVER: Final = re.compile(r"(yt-dlp-ejs==[\w.]+)")
_ROOT: Final = Path(__file__).resolve().parents[1]


def main() -> int:
    """Test the releases; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.ytdlp_releases", description=__doc__)
    parser.add_argument("versions", nargs="*", help="instead of all releases of the last days")
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--tests", nargs="+", default=TESTS, help="other tests than the usual ones")
    parser.add_argument("--list", action="store_true", help="print the versions, and test nothing")
    options = parser.parse_args()
    today = dt.datetime.now(dt.UTC).date()
    versions = options.versions or list(since(released(), today - dt.timedelta(days=options.days)))
    if options.list:
        print("\n".join(versions))
        return 0
    failed = []
    for version in versions:
        with tempfile.TemporaryDirectory(prefix="ytmp3-release-") as folder:
            if not passes(version, Path(folder), options.tests):
                failed.append(version)
    print(f"{len(versions) - len(failed)} of {len(versions)} releases pass")
    return 1 if failed else 0


def released() -> list[str]:
    """Return all versions of yt-dlp that pip's index has, nightly builds included."""
    output = pip("index", "versions", "--pre", "yt-dlp")
    listed = next(line for line in output.splitlines() if line.startswith("Available versions:"))
    return [version.strip() for version in listed.partition(":")[2].split(",")]


def since(versions: Iterable[str], first: dt.date) -> Iterator[str]:
    """Yield the versions that were released since a day: yt-dlp's version begins with its date."""
    for version in versions:
        date = _VERSION.fullmatch(version)
        if date is not None and dt.date(*map(int, date.groups())) >= first:
            yield version


def passes(version: str, folder: Path, tests: Sequence[str]) -> bool:
    """Install a release and run the tests with it. Prints the result."""
    solver = install(version, folder)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    loaded = subprocess.run(
        [sys.executable, "-c", "import yt_dlp.version as v, yt_dlp_ejs; print(v.__file__, yt_dlp_ejs.__file__)"],
        cwd=_ROOT, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert loaded.count(str(folder)) == 2, loaded
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=line", *tests]
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines() or [done.stderr[-500:]]
    print(f"yt-dlp {version}, {solver}: {lines[-1]}", flush=True)
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"    {line}", flush=True)
    return done.returncode == 0


def install(version: str, folder: Path) -> str:
    """Install a release, and the solver that it names, into a folder. Returns the solver's requirement."""
    pip("install", "--no-deps", "--target", str(folder), f"yt-dlp=={version}")
    (distribution,) = metadata.distributions(name="yt-dlp", path=[str(folder)])
    solvers = {found[1] for each in distribution.requires or () if (found := _SOLVER.match(each))}
    if not solvers:
        return "no yt-dlp-ejs"
    (solver,) = solvers
    pip("install", "--no-deps", "--target", str(folder), solver)
    return solver


def pip(*arguments: str) -> str:
    """Run pip and return its output."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
