"""The age of yt-dlp comes from its version, and a solver fits that yt-dlp itself accepts."""

import math

import pytest
from yt_dlp.extractor.youtube.jsc._builtin import ejs
from yt_dlp.utils import version_tuple

from ytmp3.core.release import MEANINGS, Ended, age_days, fits, is_newer, is_stable, newest, normalized, pinned_solver

NOON = 1_795_694_400.0
"""26 November 2026, 12:00 UTC."""


@pytest.mark.parametrize(
    ("version", "days"),
    [
        ("2026.10.26", 31),
        ("2026.10.26.220202.dev0", 31),
        ("2026.11.26", 0),
        ("2026.11.27", 0),
        ("2026.13.26", math.nan),
        ("2026.10.0", math.nan),
        ("2026.10", math.nan),
        ("2026.10.261", math.nan),
        ("unknown", math.nan),
        (None, math.nan),
    ],
)
def test_the_age_of_a_release_comes_from_its_version(version: str | None, days: float) -> None:
    assert age_days(version, NOON) == pytest.approx(days, nan_ok=True)


@pytest.mark.parametrize("solver", ["0.8.0", "0.8.1", "0.8", "0.7.9", "0.9.0", "1.8.0", "0.80.0"])
def test_a_solver_fits_that_yt_dlp_accepts(solver: str) -> None:
    """`ejs.py` compares the first two parts of the version; a difference in the third is accepted."""
    wanted = ejs.EJSBaseJCP._SCRIPT_VERSION
    is_accepted = version_tuple(solver, lenient=True)[:2] == version_tuple(wanted, lenient=True)[:2]
    assert fits(solver, wanted) == is_accepted


def test_a_version_has_one_form() -> None:
    assert normalized("2026.08.19") == normalized("2026.8.19") == "2026.8.19"
    assert normalized("2026.10.26.220202.dev0") == "2026.10.26.220202.dev0"
    for text in ("", "2026.8", "2026.8.19-1", "../2026.8.19", "2026.8.19/", "2026.8.19.dev", "stable"):
        assert normalized(text) is None


def test_the_newest_version_is_that_of_the_last_day_and_time() -> None:
    versions = ["2026.9.27.232945.dev0", "2026.10.26", "2026.10.26.220202.dev0", "2026.10.9", "no version"]
    assert newest(versions) == "2026.10.26.220202.dev0"
    assert newest(filter(is_stable, versions)) == "2026.10.26"
    assert newest([]) is None


def test_the_solver_is_the_one_that_yt_dlp_pins() -> None:
    requirements = ["brotli; extra == 'default'", "yt-dlp-ejs==0.8.0; extra == 'default'", "yt-dlp-ejs==0.9.0"]
    assert pinned_solver(requirements) == "0.8.0"
    assert pinned_solver(["yt-dlp-ejs>=0.8", "yt-dlp-ejs-more==1.0", "yt-dlp-ejs==0.8.*"]) is None


def test_every_exit_code_of_the_extractor_command_is_explained() -> None:
    assert set(MEANINGS) == set(Ended)


def test_a_release_is_newer_by_its_date_whatever_the_form_of_its_version() -> None:
    assert is_newer("2026.10.26", "2026.8.19")
    assert is_newer("2026.10.26.220202.dev0", "2026.10.26")
    assert not is_newer("2026.08.19", "2026.8.19")
    assert not is_newer("2026.8.19", "2026.10.26")
    assert is_newer("2026.8.19", "unknown")
    assert not is_newer("unknown", "2026.8.19")
