"""The checks of the tools name the cause, and where there is one the remedy."""

import signal

import pytest

from ytmp3.converter.check import failure_of, solver_check
from ytmp3.converter.sandbox.short_run import Completed
from ytmp3.converter.youtube.events import Versions


@pytest.mark.parametrize(
    ("installed", "wanted", "ok", "detail"),
    [
        ("0.8.0", "0.8.0", True, "fits yt-dlp"),
        ("0.8.1", "0.8.0", True, "fits yt-dlp"),
        ("0.8.0", None, True, "fits yt-dlp"),
        ("0.7.0", "0.8.0", False, "yt-dlp wants 0.8.0: pip install yt-dlp-ejs==0.8.0"),
        (None, "0.8.0", False, "yt-dlp wants 0.8.0: pip install yt-dlp-ejs==0.8.0"),
        (None, None, False, "yt-dlp wants a solver: pip install yt-dlp-ejs"),
    ],
)
def test_a_solver_of_another_version_is_reported_with_its_remedy(
    installed: str | None, wanted: str | None, *, ok: bool, detail: str
) -> None:
    check = solver_check(Versions(yt_dlp="2026.10.26", yt_dlp_ejs=installed, ejs_wanted=wanted, deno="2.9.8"))
    assert (check.ok, check.detail) == (ok, detail)


@pytest.mark.parametrize(
    ("status", "errors", "text"),
    [
        (-signal.SIGILL, "", "ended with SIGILL: this processor lacks instructions that the program uses"),
        (-signal.SIGSEGV, "", "status -11: no error text"),
        (1, "\nUnknown encoder\nmore\n", "status 1: Unknown encoder"),
    ],
)
def test_a_program_that_fails_is_reported_with_its_cause(status: int, errors: str, text: str) -> None:
    assert failure_of(Completed(status=status, output=b"", errors=errors)).startswith(text)
