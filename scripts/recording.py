"""A terminal session that can be kept: prints lines as they come, and draws them as an animated SVG afterwards.

The picture shows each line at the moment at which it was printed. A viewer without animation, or a reader who asked for
reduced motion, sees the whole session at once: visible is the default, and the animation only hides lines before their
time. The file needs no script and no font of its own, so it can be shown by an `<img>` tag.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Final

COLUMNS: Final = 100
"""Width of the drawn terminal. A longer line continues on the next row, as in a real terminal."""
CHARACTER_WIDTH: Final = 7.8
"""Pixels. Every line is stretched to a multiple of it, so that columns meet whatever monospaced font the viewer has."""
ROW_HEIGHT: Final = 18
MARGIN: Final = 18
BAR_HEIGHT: Final = 26
"""Pixels of the window's title bar, with its three buttons."""
_BUTTONS: Final = ("#ff5f57", "#febc2e", "#28c840")
_CSS: Final = """
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d6deeb;
           white-space: pre; }
    .command { fill: #addb67; }
    @keyframes appear { from { opacity: 0 } to { opacity: 1 } }
    .row { animation: appear 1ms both; }
    @media (prefers-reduced-motion: reduce) { .row { animation: none; } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One printed line, without its newline."""

    seconds: float
    """When it was printed, counted from the first line."""
    text: str
    is_command: bool = False
    """Whether it shows what a user types, as opposed to what a program prints."""


@dataclass(slots=True)
class Terminal:
    """Prints, and remembers what it printed and when."""

    write: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    lines: list[Line] = field(default_factory=list)
    _started_at: float | None = None

    def show(self, text: str) -> None:
        """Print `text`, which may be several lines. A text that begins with `$ ` is a command."""
        now = self.clock()
        if self._started_at is None:
            self._started_at = now
        for line in text.split("\n"):
            self.write(line)
            self.lines.append(Line(seconds=now - self._started_at, text=line, is_command=text.startswith("$ ")))


def draw(lines: Sequence[Line], *, title: str, description: str) -> str:
    """Return the session as an SVG document. `description` is for readers who cannot see the picture."""
    rows = [row for line in lines for row in _wrapped(line)]
    width = round(COLUMNS * CHARACTER_WIDTH + 2 * MARGIN)
    height = BAR_HEIGHT + 2 * MARGIN + len(rows) * ROW_HEIGHT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    names = 'role="img" aria-labelledby="title description"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" {size} {names}>',
        f'  <title id="title">{escape(title)}</title>',
        f'  <desc id="description">{escape(description)}</desc>',
        f"  <style>{_CSS}  </style>",
        f'  <rect width="{width}" height="{height}" rx="8" fill="#011627"/>',
    ]
    parts += [
        f'  <circle cx="{MARGIN + 4 + 20 * number}" cy="{BAR_HEIGHT // 2 + 4}" r="6" fill="{colour}"/>'
        for number, colour in enumerate(_BUTTONS)
    ]
    top = BAR_HEIGHT + MARGIN
    parts += [_drawn(row, top + (number + 1) * ROW_HEIGHT) for number, row in enumerate(rows) if row.text.strip()]
    return "\n".join([*parts, "</svg>", ""])


def _wrapped(line: Line) -> list[Line]:
    pieces = [line.text[start : start + COLUMNS] for start in range(0, len(line.text), COLUMNS)] or [""]
    return [replace(line, text=piece) for piece in pieces]


def _drawn(row: Line, y: int) -> str:
    kind = "row command" if row.is_command else "row"
    indent = len(row.text) - len(row.text.lstrip(" "))
    text = row.text.strip(" ")
    return (
        f'  <text class="{kind}" style="animation-delay:{row.seconds:.2f}s" x="{MARGIN + indent * CHARACTER_WIDTH:.1f}"'
        f' y="{y}" textLength="{len(text) * CHARACTER_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
    )
