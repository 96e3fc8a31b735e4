"""The tables and drawings that are made from the code are up to date."""

import re
import subprocess
import sys

from tests.documents.pages import PAGES, ROOT


def test_generated_parts_are_as_the_code_makes_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.document_tables", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run make docs: {done.stdout}{done.stderr}"


def test_every_kind_of_part_is_in_some_document() -> None:
    marks = {name for page in PAGES for name in re.findall(r"<!-- (\w+): generated -->", page.text)}
    assert marks == {"settings", "states", "failures", "errors", "routes", "figures"}


def test_every_part_has_an_end_and_is_not_empty() -> None:
    for page in PAGES:
        parts = re.findall(r"<!-- (\w+): generated -->\n(.*?)<!-- end -->", page.text, re.DOTALL)
        assert len(parts) == page.text.count(": generated -->") == page.text.count("<!-- end -->"), page.name
        assert all(text.strip() for _, text in parts), page.name
