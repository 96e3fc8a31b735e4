"""docs/architecture.md draws the packages, states and words as they are."""

import re

from tests.core.test_imports import LAYERS
from tests.documents.pages import DOCS, ROOT, rows
from ytmp3.core.states import Transition

PAGE = DOCS["architecture"]


def test_the_drawing_of_the_imports_is_the_order_that_a_test_enforces() -> None:
    (drawing,) = (block.text for block in PAGE.blocks if "jobstore  storage" in block.text)
    drawn = [frozenset(line.split("   ")[0].split()) for line in drawing.splitlines()]
    assert drawn == list(reversed([layer for layer in LAYERS if layer != {"__main__"}]))


def test_every_package_is_explained() -> None:
    named = {name.strip("`/") for row in rows(PAGE.section("Packages")) for name in re.findall(r"`\w+/?`", row[0])}
    packages = {path.name for path in (ROOT / "ytmp3").iterdir() if (path / "__init__.py").exists()}
    assert packages <= named


def test_every_module_that_the_page_points_to_exists() -> None:
    named = re.findall(r"`(\w[\w/]*(?:\.py|/))`", PAGE.section("Where to look"))
    assert len(named) > 20
    for name in named:
        assert (ROOT / "ytmp3" / name).exists(), name


def test_every_transition_of_a_conversion_is_explained() -> None:
    section = PAGE.section("States of a conversion")
    assert all(f"**{transition}**" in section for transition in Transition)


def test_the_words_are_explained_once() -> None:
    words = [row[0] for row in rows(PAGE.section("Words"))]
    assert len(words) == len(set(words)) >= 20
