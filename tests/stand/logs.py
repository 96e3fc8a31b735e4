"""Logs of started programs, shown where a test fails: without them a failure on another machine leaves no hint."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SHOWN_LINES: Final = 40
"""How many lines of each log are shown, counted from its end: enough for the last conversions' events."""


@contextmanager
def showing_logs(*paths: Path) -> Iterator[None]:
    """Add the ends of the logs at `paths` as notes to an exception that passes; tracebacks and pytest print notes.

    Print them if the block is cancelled: after a timeout of a whole test, pytest shows another exception.
    """
    try:
        yield
    except Exception as error:
        for note in _ends(paths):
            error.add_note(note)
        raise
    except asyncio.CancelledError:
        print(*_ends(paths), sep="\n")
        raise


def _ends(paths: Iterable[Path]) -> list[str]:
    return [f"--- end of {path} ---\n{last_lines(path)}" for path in paths]


def last_lines(path: Path, count: int = SHOWN_LINES) -> str:
    """Return the last `count` lines of a log, or why it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, maxlen=count)) or "(empty)"
    except OSError as error:
        return f"({error})"
