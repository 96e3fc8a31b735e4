"""The package's metadata, its version everywhere, and the lock files."""

import re
import tomllib
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from tests.ops.files import ROOT
from ytmp3 import __version__, cli

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME, DEV = ((ROOT / f"requirements/{name}.txt").read_text() for name in ("runtime", "dev"))
WITH_A_VERSION = ["Dockerfile", "docker-compose.yml", "k8s/api.yaml", ".env.example"]


def packages(text: str) -> list[str]:
    """Return the names of the packages that a lock file pins."""
    return re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==", text, re.MULTILINE)


def normalized(requirement: str) -> str:
    """Return the name of the package that a requirement names, as lock files spell it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_the_command_ytmp3_is_the_command_line() -> None:
    ((name, target),) = PROJECT["project"]["scripts"].items()
    assert name == "ytmp3"
    assert EntryPoint(name, target, "console_scripts").load() is cli.main


def test_the_version_is_written_once_in_the_package() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ytmp3.__version__"}


@pytest.mark.parametrize("name", WITH_A_VERSION)
def test_the_image_is_named_with_the_packages_version(name: str) -> None:
    versions = re.findall(r"(?:ytmp3:|VERSION=)(\d+\.\d+\.\d+)", (ROOT / name).read_text())
    assert set(versions) == {__version__}


def test_the_documents_name_no_other_version_of_the_image() -> None:
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        assert set(re.findall(r"ytmp3:(\d+\.\d+\.\d+)", path.read_text())) <= {__version__}, path


def test_the_package_contains_every_file_that_is_not_a_module() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["ytmp3"]
    packaged = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in (ROOT / "ytmp3").glob(pattern)}
    files = {path for path in (ROOT / "ytmp3").rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert packaged == {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".py"}


def test_the_files_with_full_coverage_exist() -> None:
    for pattern in PROJECT["tool"]["coverage"]["report"]["include"]:
        assert list(ROOT.glob(pattern)), pattern


def test_the_locks_pin_every_dependency_and_repeat_none() -> None:
    # A package may have a line for each range of Python versions.
    runtime, dev = set(packages(RUNTIME)), set(packages(DEV))
    assert not runtime & dev, "both files are installed together"
    assert {normalized(one) for one in PROJECT["project"]["dependencies"]} <= runtime
    assert {normalized(one) for one in PROJECT["dependency-groups"]["dev"]} <= dev | runtime


@pytest.mark.parametrize("text", [RUNTIME, DEV], ids=["runtime", "dev"])
def test_every_package_of_a_lock_has_its_version_and_hashes(text: str) -> None:
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(packages(text))
    for line in lines:
        assert re.match(r"[a-z0-9.\-\[\]]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text, "a lock names no package index"
