"""Links, tables of contents and file names in the documents lead to something that exists."""

import re

import pytest

from tests.documents.pages import DOCS, PAGES, README, ROOT, Page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Page) -> None:
    for target in page.links:
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.is_relative_to(ROOT), target
        assert path.exists(), target
        if anchor:
            assert anchor in Page(path).anchors, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Page) -> None:
    folders = "docs|k8s|monitoring|nginx|requirements|scripts|tests|ytmp3"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.prose):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["api", "architecture", "operating", "runbook"])
def test_the_contents_of_a_long_page_name_every_section(name: str) -> None:
    page = DOCS[name]
    listed = set(re.findall(r"\]\(#([\w-]+)\)", page.text.partition("\n## ")[0]))
    assert listed == {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in page.headings(2)}


def test_the_readme_links_every_other_document() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in README.links}
    assert {page.path for page in PAGES if page is not README} | {ROOT / "LICENSE"} <= linked


def test_the_readme_says_first_that_users_need_the_right_to_convert() -> None:
    assert "You need the right to convert what you convert." in README.text.partition("\n## ")[0]
