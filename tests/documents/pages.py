"""The documents as the tests read them: text, headings, links, and the blocks between triple backquotes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_BLOCK: Final = re.compile(r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```", re.DOTALL | re.MULTILINE)
_HEADING: Final = re.compile(r"^(?P<level>#{1,4}) (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code, with the language that follows its backquotes."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown document."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _BLOCK.sub("", self.text)

    @property
    def blocks(self) -> list[Block]:
        return [Block(language=match["language"], text=match["text"]) for match in _BLOCK.finditer(self.text)]

    def headings(self, *levels: int) -> list[str]:
        """Return the titles, of these levels if any are given."""
        found = _HEADING.finditer(self.prose)
        return [match["title"] for match in found if not levels or len(match["level"]) in levels]

    @property
    def anchors(self) -> set[str]:
        """The names under which GitHub makes the headings reachable."""
        return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in self.headings()}

    @property
    def links(self) -> Iterator[str]:
        """The targets of all links and pictures that are no web addresses."""
        for target in re.findall(r"\]\(([^)\s]+)\)", self.prose):
            if "://" not in target:
                yield target

    def section(self, title: str) -> str:
        """Return the text from one heading to the next of its level or above."""
        start = re.search(rf"^(#+) {re.escape(title)}$", self.text, re.MULTILINE)
        assert start is not None, f"{self.name} has no section {title!r}"
        rest = self.text[start.end() :]
        end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest


README: Final = Page(ROOT / "README.md")
DOCS: Final = {path.stem: Page(path) for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES: Final = [
    README,
    *DOCS.values(),
    *(Page(ROOT / f"{name}.md") for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY")),
]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table in `text`, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines[2:]]
