"""`make update-ytdlp` never leaves a yt-dlp and a challenge solver that do not fit each other."""

import subprocess
import sys
import venv
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest

from scripts.update_ytdlp import update, wanted_solver
from tests.ops.files import ROOT


def wheel(folder: Path, name: str, version: str, *requirements: str) -> None:
    """Make a wheel without code."""
    stem = f"{name.replace('-', '_')}-{version}"
    head = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: default"]
    lines = [f'Requires-Dist: {each}; extra == "default"' for each in requirements]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
        file.writestr(f"{stem}.dist-info/METADATA", "\n".join(head + lines) + "\n")
        file.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{stem}.dist-info/RECORD", "")


def installed(folder: Path) -> set[str]:
    return {path.name.removesuffix(".dist-info") for path in folder.rglob("*.dist-info")}


def test_both_are_installed_in_one_step_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, environment = tmp_path / "wheels", tmp_path / "venv"
    wheels.mkdir()
    venv.create(environment)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    pip = (sys.executable, "-m", "pip", "--python", str(environment / "bin/python"))
    for version in ("0.8.0", "0.9.0", "0.10.0"):
        wheel(wheels, "yt-dlp-ejs", version)
    wheel(wheels, "yt-dlp", "2099.1.1", "brotli", "yt-dlp-ejs==0.9.0")
    # The newest solver is not the one that the newest yt-dlp wants.
    assert update(pip) == "yt-dlp==2099.1.1 and yt-dlp-ejs==0.9.0"
    assert installed(environment) == {"yt_dlp-2099.1.1", "yt_dlp_ejs-0.9.0"}
    # The solver of the next release cannot be had: the pair stays as it was.
    wheel(wheels, "yt-dlp", "2099.2.2.dev0", "yt-dlp-ejs==0.11.0")
    with pytest.raises(subprocess.CalledProcessError):
        update(pip)
    assert installed(environment) == {"yt_dlp-2099.1.1", "yt_dlp_ejs-0.9.0"}


def test_the_solver_is_named_by_the_installed_yt_dlp_and_locked_with_it() -> None:
    wanted = wanted_solver(requires("yt-dlp") or ())
    assert f"\n{wanted} " in (ROOT / "requirements/runtime.txt").read_text()
    with pytest.raises(LookupError):
        wanted_solver(["brotli", "yt-dlp-ejs"])
