"""Tables in the documents are whole: a row that is wrapped over two lines is no row any more where it is shown."""

import re

import pytest

from tests.documents.pages import PAGES, Page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_has_as_many_cells_as_the_heading_of_its_table(page: Page) -> None:
    cells: int | None = None
    is_code = False
    for line in page.path.read_text(encoding="utf-8").splitlines():
        is_code ^= line.startswith("```")
        if is_code or not line.startswith("|"):
            cells = None
            continue
        assert line.rstrip().endswith("|"), line
        # A bar in code or behind a backslash is text.
        found = re.sub(r"`[^`]*`|\\\|", "", line).count("|") - 1
        assert cells in {None, found}, line
        cells = found
