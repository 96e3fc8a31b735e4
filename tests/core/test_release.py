"""The age of yt-dlp comes from its version, and a solver fits that yt-dlp itself accepts."""

import math

import pytest
from yt_dlp.extractor.youtube.jsc._builtin import ejs
from yt_dlp.utils import version_tuple

from ytmp3.core.release import age_days, fits

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
