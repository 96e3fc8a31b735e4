"""Scripts may use what the tests start; only its own test imports a script, and neither imports a test module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS_OF_SCRIPTS = {
    "tests/browser/test_reference.py": "scripts.route_examples",
    "tests/ops/test_update.py": "scripts.update_ytdlp",
}
"""Tests of functions of a script, with the script."""


def imported_names(path: Path) -> set[str]:
    """Return every imported name with its module, dotted; also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def python_files(*folders: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("name", python_files("ytmp3"))
def test_the_package_imports_neither_tests_nor_scripts(name: str) -> None:
    assert not {
        imported for imported in imported_names(ROOT / name) if imported.partition(".")[0] in {"tests", "scripts"}
    }


@pytest.mark.parametrize("name", python_files("tests"))
def test_no_other_test_imports_a_script(name: str) -> None:
    imported = {one.rpartition(".")[0] for one in imported_names(ROOT / name) if one.startswith("scripts")}
    assert imported <= {TESTS_OF_SCRIPTS.get(name)}


@pytest.mark.parametrize("name", python_files("tests/stand", "tests/fake_youtube", "scripts"))
def test_no_script_and_no_stand_imports_a_test_module(name: str) -> None:
    imported = imported_names(ROOT / name)
    assert not {one for one in imported if any(part.startswith("test_") for part in one.split("."))}
