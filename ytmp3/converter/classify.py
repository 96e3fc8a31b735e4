"""Turns the messages of yt-dlp and ffmpeg into error codes with tables of regular expressions. Pure.

The rows of a table are tried in order, and the first match decides. The tables are in `youtube/messages.py` and
`audio/messages.py`.
"""

import re

from ytmp3.core.errors import FailureCode

Table = tuple[tuple[FailureCode, tuple[str, ...]], ...]
"""Each failure code with the regular expressions of its messages."""

Patterns = tuple[tuple[FailureCode, re.Pattern[str]], ...]


def compiled(table: Table) -> Patterns:
    """Compile a table, one case-insensitive pattern for each row. Called on import of a table's module."""
    return tuple((code, re.compile("|".join(expressions), re.IGNORECASE)) for code, expressions in table)


def first_match(patterns: Patterns, message: str) -> FailureCode | None:
    """Return the code of the first row that matches anywhere in the message, None if no row does."""
    return next((code for code, pattern in patterns if pattern.search(message)), None)
