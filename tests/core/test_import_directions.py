"""Scripts may use what the tests start; only its own test imports a script, and neither imports a test module."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS_OF_SCRIPTS = {
    "tests/core/test_capacity_model.py": {"scripts.bench.capacity_model"},
    "tests/core/test_fleet_steps.py": {"scripts.fleet.figures", "scripts.fleet.load", "scripts.fleet.steps"},
    "tests/browser/test_reference.py": {"scripts.route_examples"},
    "tests/ops/test_update.py": {"scripts.update_ytdlp"},
    "tests/system/test_cluster_chaos.py": {"scripts.cluster_chaos.__main__"},
}
"""Tests of functions of a script, with its modules."""


@cache
def imported_names(name: str) -> frozenset[str]:
    """Return every imported name with its module, dotted; also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def python_files(*folders: str) -> list[str]:
    """Return the names of the files below some folders; there is at least one."""
    found = sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_the_package_imports_neither_tests_nor_scripts() -> None:
    for name in python_files("ytmp3"):
        assert not {one for one in imported_names(name) if one.partition(".")[0] in {"tests", "scripts"}}, name


def test_no_other_test_imports_a_script() -> None:
    for name in python_files("tests"):
        imported = {one.rpartition(".")[0] for one in imported_names(name) if one.startswith("scripts")}
        assert imported <= TESTS_OF_SCRIPTS.get(name, set()), name


def test_no_script_and_no_stand_imports_a_test_module() -> None:
    for name in python_files("tests/stand", "tests/fake_youtube", "scripts"):
        imported = imported_names(name)
        assert not {one for one in imported if any(part.startswith("test_") for part in one.split("."))}, name
