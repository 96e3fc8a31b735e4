"""A taken-over tool reaches nothing: in the place of ffmpeg, deno, the youtube child and its picture decoder."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.attack.cell import CELLS, ORDINARY_USER

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.attack, pytest.mark.xdist_group("cells")]

LOOKS = (  # beginnings of the names of attempts
    "read the environment of",
    "read the memory of",
    "write the memory of",
    "see the memory map of",
    "see the descriptors of",
    "open a file through",
    "trace",
    "take a descriptor of",
)

USERS = ("root", "ordinary user") if os.geteuid() == 0 else ("ordinary user",)

UNUSABLE_HERE = {
    "write into the program": "the program is running",
    "grow a file beyond its limit": "this process has no limit",
    "open a file by its handle": "needs a real handle",
    "use bpf": "needs real arguments",
    "use perf_event_open": "needs real arguments",
    "use a call that is newer than the filter": "the kernel may be older",
    "clone into a user namespace": "some kernels refuse it",
    "make a user namespace": "some kernels refuse it",
    "use userfaultfd": "some kernels refuse it",
    "use io_uring": "some kernels refuse it",
}
"""Attempts that need not succeed even where nothing prevents them."""


def python_for(user: str) -> str:
    """Return a Python that the user may execute: an ordinary user may not reach that of root."""
    if user == "root" or os.geteuid() != 0:
        return sys.executable
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [program, "-c", "import ctypes, msgspec"],
                user=ORDINARY_USER,
                group=ORDINARY_USER,
                extra_groups=[],
                env={"PYTHONPATH": sysconfig.get_path("purelib")},
                cwd="/",
                capture_output=True,
                check=True,
            )
            return program
    raise AssertionError(f"an ordinary user can run no {version}: run the tests as an ordinary user, too")


@functools.cache
def results_of(place: str, user: str, *, has_landlock: bool = True) -> dict[str, Any]:
    """Run the attacks in a process of their own, once for all tests that look at them."""
    options = ([] if has_landlock else ["--no-landlock"]) + (["--ordinary"] if user == "ordinary user" else [])
    done = subprocess.run(
        [python_for(user), "-m", "tests.attack.cell", place, *options],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "A_SECRET": "hunter2",
        },
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("landlock", ["Landlock", "no Landlock"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_taken_over_tool_is_refused_everything(cell: str, user: str, landlock: str) -> None:
    found = results_of("cells", user, has_landlock=landlock == "Landlock")
    results: dict[str, str] = found[cell]
    assert len(results) > 80
    assert {name: result for name, result in results.items() if not result.startswith("refused: ")} == {}
    assert "MISSING" not in found["sandbox"], "this system cannot hide files: see the text"
    assert ("Landlock (ABI" in found["sandbox"]) == (landlock == "Landlock")


@pytest.mark.parametrize("user", USERS)
def test_the_attacks_succeed_where_nothing_prevents_them(user: str) -> None:
    """Otherwise the refusals above would prove nothing."""
    results: dict[str, str] = results_of("none", user)["none"]
    refused = {name for name, result in results.items() if not result.startswith("DONE: ")}
    allowed = set(UNUSABLE_HERE) | {name for name in results if "process_vm_readv" in name}
    if user != "root":
        # A process that has given up root hides its memory already, so only the other one can be looked into. And some
        # kernels let nobody trace others (Yama).
        allowed |= {"write a kernel setting"} | {name for name in results if name.endswith(" server")}
        allowed |= {name for name in results if name.startswith(("trace the", "take a descriptor", "compare with"))}
    assert refused <= allowed, {name: results[name] for name in refused - allowed}


def test_a_program_of_the_same_user_cannot_look_into_server_and_zygote() -> None:
    """Not even one that is outside of the sandbox: both hide their memory (PR_SET_DUMPABLE)."""
    results: dict[str, str] = results_of("neighbour", "ordinary user")["neighbour"]
    looks = {name: result for name, result in results.items() if name.startswith(LOOKS)}
    assert len(looks) >= 2 * len(LOOKS)
    assert {name: result for name, result in looks.items() if not result.startswith("refused: ")} == {}
