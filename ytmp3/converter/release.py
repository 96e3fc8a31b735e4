"""The age of a release of yt-dlp, which its version names (2026.10.26, or 2026.10.26.220202.dev0). Pure."""

import datetime as dt
import re

_VERSION = re.compile(r"(\d{4})\.(\d{1,2})\.(\d{1,2})(?:\D|$)", re.ASCII)


def age_days(version: str, today: dt.date) -> int | None:
    """Return how many days ago a release was made; None if its version is no date. Never negative."""
    found = _VERSION.match(version)
    if found is None:
        return None
    try:
        released = dt.date(*map(int, found.groups()))
    except ValueError:
        return None
    return max(0, (today - released).days)
