"""The Makefile lists its targets, refuses an old Python, and replaces an environment that is not usable."""

import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.ops.files import ROOT

TEXT = (ROOT / "Makefile").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile, locks without a package, and no environment."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    for name in ("runtime", "dev"):
        (tmp_path / f"requirements/{name}.txt").touch()
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, also when the tests themselves were started by make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def fake_python(folder: Path, patch: str) -> Path:
    """A program that runs `python -c CODE` after this line of code, which makes it look like another Python."""
    program = folder / "python3.10"
    program.write_text(f"#!{sys.executable}\nimport platform, sys\n{patch}\nexec(sys.argv[2])\n")
    program.chmod(0o755)
    return program


def test_make_alone_lists_every_target_with_its_purpose(folder: Path) -> None:
    targets = " ".join(re.findall(r"^\.PHONY: (.+)$", TEXT, re.MULTILINE)).split()
    assert len(targets) > 10
    listed = make(folder).stdout
    for target in targets:
        assert re.search(rf"^  {target} +\S", listed, re.MULTILINE), target


def test_an_old_python_is_refused_with_the_version_that_is_needed(folder: Path) -> None:
    python = fake_python(folder, "sys.version_info = (3, 10, 13, 'final', 0)")
    done = make(folder, f"PYTHON={python}", "run")
    assert done.returncode != 0
    assert f"ytmp3 needs Python 3.11 or later; {python} is 3.10.13. Name another one: make PYTHON=" in done.stderr
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(
    ("patch", "system"),
    [
        ("platform.system, platform.libc_ver = lambda: 'Darwin', lambda: ('', '')", "Darwin {machine}"),
        ("platform.libc_ver = lambda: ('', '')", "Linux {machine}"),
        ("platform.machine = lambda: 'armv7l'", "Linux glibc armv7l"),
    ],
)
def test_a_system_without_the_tools_is_refused_before_anything_is_installed(
    folder: Path, patch: str, system: str
) -> None:
    done = make(folder, f"PYTHON={fake_python(folder, patch)}", "run")
    assert done.returncode != 0
    text = f"ytmp3 needs Linux with glibc on x86-64 or arm64; this is {system.format(machine=platform.machine())}."
    assert f"{text} Elsewhere, use the container: see docs/install.md" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_missing_python_is_named(folder: Path) -> None:
    done = make(folder, "PYTHON=no-such-python", "run")
    assert done.returncode != 0
    assert "ytmp3 needs Python 3.11 or later, and there is no no-such-python." in done.stderr


def test_an_environment_without_pip_is_replaced(folder: Path) -> None:
    # Debian's python3 without the package python3-venv leaves such an environment when it fails.
    venv.create(folder / ".venv", with_pip=False)
    (folder / ".venv/left-over").touch()
    done = make(folder, f"PYTHON={sys.executable}", ".venv/.usable")
    assert done.returncode == 0, done.stderr
    assert not (folder / ".venv/left-over").exists()
    subprocess.run([folder / ".venv/bin/python", "-c", "import pip"], check=True)


def test_a_usable_environment_is_kept(folder: Path) -> None:
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    done = make(folder, "PYTHON=no-such-python", ".venv/.usable")
    assert done.returncode == 0, done.stderr
    assert (folder / ".venv/bin/python").is_symlink()


def fake_environment(folder: Path, *, installed: str, locked: str) -> None:
    """An environment whose yt-dlp is `installed`, and is `locked` after any installation."""
    (folder / ".venv/bin").mkdir(parents=True)
    version = folder / "version"
    version.write_text(installed)
    python = folder / ".venv/bin/python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *install*) echo {locked} >{version};; *version\\(*) cat {version};; esac\n'
    )
    python.chmod(0o755)


@pytest.mark.parametrize(
    ("installed", "is_told"), [("2026.11.20.232859.dev0", True), ("2026.10.26", False), ("2026.09.01", False)]
)
def test_a_newer_yt_dlp_is_not_replaced_silently(folder: Path, installed: str, *, is_told: bool) -> None:
    fake_environment(folder, installed=installed, locked="2026.10.26")
    done = make(folder, ".venv/.serves")
    assert done.returncode == 0, done.stderr
    text = f"yt-dlp {installed} was replaced by the tested 2026.10.26. To have the newest: make update-ytdlp"
    assert (text in done.stderr) is is_told
    assert is_told or "replaced" not in done.stderr


def test_no_line_is_longer_than_the_code_may_be() -> None:
    assert max(map(len, TEXT.splitlines())) <= 120
