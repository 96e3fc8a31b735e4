"""The documents speak of the version that the package has."""

import re

from tests.documents.pages import PAGES, README, ROOT, Page
from ytmp3 import __version__

CHANGELOG = Page(ROOT / "CHANGELOG.md")
SECURITY = Page(ROOT / "SECURITY.md")


def test_the_newest_release_in_the_changelog_is_the_version_of_the_package() -> None:
    unreleased, newest, *older = CHANGELOG.headings(2)
    assert unreleased == "[Unreleased]"
    assert newest.startswith(f"[{__version__}] - ")
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", title) for title in (newest, *older))


def test_the_changelog_has_only_the_sections_of_its_form() -> None:
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(CHANGELOG.headings(3)) <= kinds


def test_the_readme_and_the_security_policy_name_the_version() -> None:
    assert f"**Status:** {__version__}." in README.text
    assert f"| {__version__.rpartition('.')[0]}.x | yes |" in SECURITY.text
    assert SECURITY in PAGES
