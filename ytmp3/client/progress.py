"""Progress output: on a terminal a bar for each running job, otherwise a line for each change of stage."""

import os
import shutil
import sys
import time
import unicodedata
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO

MAX_BARS: Final = 10
"""Most bars at once; further jobs are counted in one line."""
REDRAW_SECONDS: Final = 0.1
"""Shortest time, in seconds, between two redraws of the bars."""
BAR_COLUMNS: Final = 24
_FINAL: Final = frozenset({"done", "failed", "cancelled"})


@dataclass(slots=True)
class Line:
    """The displayed state of one link."""

    name: str
    """The title, or the link until it is known."""
    stage: str = "waiting"
    share: float = 0.0
    """From 0 to 1."""
    note: str = ""


class Progress(Protocol):
    """Shows the state of each link, and messages that stay on the screen."""

    def show(self, line: Line) -> None:
        """Show the current state of a line."""

    def say(self, text: str) -> None:
        """Print a message that stays on the screen."""

    def close(self) -> None:
        """Remove everything but the messages."""


def progress_for(stream: TextIO | None = None, *, is_quiet: bool = False) -> Progress:
    """Return bars if the stream is a terminal, and lines otherwise. The environment may set NO_COLOR or TERM=dumb."""
    stream = sys.stderr if stream is None else stream
    if is_quiet:
        return Quiet(stream)
    return Bars(stream) if stream.isatty() and os.environ.get("TERM") != "dumb" else Lines(stream)


@dataclass(slots=True)
class Quiet:
    """Shows messages only."""

    stream: TextIO

    def show(self, line: Line) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Print a message."""
        _write(self.stream, printable(text))

    def close(self) -> None:
        """Nothing is left to remove."""


@dataclass(slots=True)
class Lines:
    """One line for each change of a stage."""

    stream: TextIO
    _shown: dict[int, str] = field(default_factory=dict)

    def show(self, line: Line) -> None:
        """Print a line if its stage has changed."""
        if self._shown.get(id(line)) != line.stage:
            self._shown[id(line)] = line.stage
            _write(self.stream, printable(f"{line.name}: {_stage(line)}"))

    def say(self, text: str) -> None:
        """Print a message."""
        _write(self.stream, printable(text))

    def close(self) -> None:
        """Nothing is left to remove."""


@dataclass(slots=True)
class Bars:
    """Bars below the messages, redrawn in place."""

    stream: TextIO
    _lines: dict[int, Line] = field(default_factory=dict)
    _drawn: int = 0
    _drawn_at: float = 0.0

    def show(self, line: Line) -> None:
        """Draw the bars again, but not too often. A line that has ended disappears."""
        is_final = line.stage in _FINAL
        if is_final:
            self._lines.pop(id(line), None)
        else:
            self._lines[id(line)] = line
        if is_final or time.monotonic() - self._drawn_at >= REDRAW_SECONDS:
            self._draw()

    def say(self, text: str) -> None:
        """Print a message above the bars."""
        self._erase()
        _write(self.stream, printable(text))
        self._draw()

    def close(self) -> None:
        """Remove the bars."""
        self._erase()
        self.stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        columns, rows = shutil.get_terminal_size()
        room = max(1, min(MAX_BARS, rows - 2))
        # Running jobs are shown before waiting ones.
        lines = sorted(self._lines.values(), key=lambda line: -line.share)
        pictures = [picture(line, columns - 1) for line in lines[:room]]
        if len(lines) > room:
            pictures.append(f"... and {len(lines) - room} more")
        self._erase()
        self.stream.write("".join(f"{each}\n" for each in pictures))
        self.stream.flush()
        self._drawn, self._drawn_at = len(pictures), time.monotonic()


def picture(line: Line, columns: int) -> str:
    """Return a line as exactly one row of text: name, bar and stage."""
    full = round(BAR_COLUMNS * min(1.0, max(0.0, line.share)))
    rest = f" [{'#' * full}{'.' * (BAR_COLUMNS - full)}] {100 * line.share:3.0f} % {_stage(line)}"
    room = columns - len(rest)
    if room < 8:
        return fitted(f"{100 * line.share:3.0f} % {line.name}", columns)
    return fitted(line.name, room) + rest


def printable(text: str) -> str:
    """Return the text without control characters: a title must not move the cursor."""
    return "".join(character for character in text if unicodedata.category(character) not in {"Cc", "Cf", "Cs"})


def fitted(text: str, columns: int) -> str:
    """Return the text at a width of exactly this many terminal columns: truncated, or padded with spaces.

    A character of East Asian scripts takes two columns, and a combining one none.
    """
    kept, width = "", 0
    for character in printable(text):
        wide = 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in {"W", "F"})
        if width + wide > columns:
            break
        kept, width = kept + character, width + wide
    return kept + " " * (columns - width)


def _write(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def _stage(line: Line) -> str:
    return f"{line.stage} {line.note}".rstrip()
