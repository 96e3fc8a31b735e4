"""A tool's words become one of our codes: two tables, read from the top, first match wins. Pure.

YouTube's reasons reach us through yt-dlp in English (it asks for `hl=en`). The order matters: a reason that names the
video ("This video is private") comes before the general words that YouTube puts around it ("Video unavailable"), and
the words about our address come before those about the video, because they are retried.
"""

import re

from ytmp3.core.errors import FailureCode


def _compiled(
    table: tuple[tuple[FailureCode, tuple[str, ...]], ...],
) -> tuple[tuple[FailureCode, re.Pattern[str]], ...]:
    return tuple((code, re.compile("|".join(words), re.IGNORECASE)) for code, words in table)


def _first(patterns: tuple[tuple[FailureCode, re.Pattern[str]], ...], text: str) -> FailureCode | None:
    return next((code for code, pattern in patterns if pattern.search(text)), None)
