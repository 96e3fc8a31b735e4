"""Evaluates conditional and partial GET requests (RFC 9110, sections 13 and 14). Pure.

aiohttp's FileResponse gets several of these wrong. For example, it sends a 206 for a stale If-Range, so a resumed
download becomes a mixture of two files. Therefore the service evaluates the request here, and sends what this module
decides.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_RANGE: Final = re.compile(
    r"bytes=[ \t]*(?:(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+))[ \t]*", re.ASCII | re.IGNORECASE
)
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_HTTP_DATE: Final = re.compile(
    f"{_DAY}, [0-9]{{2}} {_MONTH} [0-9]{{4}} {_TIME} GMT"
    f"|{_LONG_DAY}, [0-9]{{2}}-{_MONTH}-[0-9]{{2}} {_TIME} GMT"
    f"|{_DAY} {_MONTH} (?: [0-9]|[0-9]{{2}}) {_TIME} [0-9]{{4}}"
)
"""The three date formats of RFC 9110, section 5.6.7. `email.utils` alone would also accept any time zone, or none."""
MAX_DIGITS: Final = 19
"""Most digits of a number that is converted. A longer number exceeds every file size, and int() would be slow."""
_LARGER_THAN_ANY_FILE: Final = 10**MAX_DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """The facts about a file that requests are evaluated against."""

    etag: str
    """A strong entity tag, quotes included."""
    modified_at: int
    """Whole seconds since 1970."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """The header fields of the request that are evaluated; None if absent. `ranges` has all received Range fields."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None
    ranges: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """200: send the whole file."""


@dataclass(frozen=True, slots=True)
class Part:
    """206: send the bytes `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: the client already has this file."""


@dataclass(frozen=True, slots=True)
class Failed:
    """412: a precondition of the client does not hold."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416: the range lies outside the file."""


Decision = Whole | Part | NotModified | Failed | Unsatisfiable


def evaluate(representation: Representation, preconditions: Preconditions, *, is_get: bool) -> Decision:
    """Decide in the order of RFC 9110, section 13.2.2. A field that cannot be parsed is ignored."""
    etag, modified_at = representation.etag, representation.modified_at
    if preconditions.if_match is not None:
        if not _matches(preconditions.if_match, etag, weak=False):
            return Failed()
    elif (limit := _date(preconditions.if_unmodified_since)) is not None and modified_at > limit:
        return Failed()
    if preconditions.if_none_match is not None:
        if _matches(preconditions.if_none_match, etag, weak=True):
            return NotModified()
    elif (limit := _date(preconditions.if_modified_since)) is not None and modified_at <= limit:
        return NotModified()
    if not is_get or len(preconditions.ranges) != 1 or not _range_applies(preconditions.if_range, representation):
        return Whole()
    return _select(preconditions.ranges[0], representation.size_bytes)


def _select(field: str, size_bytes: int) -> Decision:
    """Return the part that a Range field selects.

    Only a single byte range is served. Several ranges, another unit or a malformed field mean the whole file, which
    section 14.2 allows.
    """
    match = _RANGE.fullmatch(field)
    if match is None:
        return Whole()
    if match["suffix"] is not None:
        length = min(_number(match["suffix"]), size_bytes)
        return Unsatisfiable() if length == 0 else Part(size_bytes - length, size_bytes - 1)
    first = _number(match["first"])
    last = _number(match["last"]) if match["last"] else _LARGER_THAN_ANY_FILE
    if last < first:
        return Whole()
    return Unsatisfiable() if first >= size_bytes else Part(first, min(last, size_bytes - 1))


def _number(digits: str) -> int:
    """Return the number, or `_LARGER_THAN_ANY_FILE` if it has too many digits."""
    digits = digits.lstrip("0") or "0"
    return _LARGER_THAN_ANY_FILE if len(digits) > MAX_DIGITS else int(digits)


def _range_applies(if_range: str | None, representation: Representation) -> bool:
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == representation.etag
    # A date counts only if it is exactly the last modification (section 13.1.5).
    return _date(if_range) == representation.modified_at


def _matches(field: str, etag: str, *, weak: bool) -> bool:
    if field.strip() == "*":
        return True
    tags = _ENTITY_TAG.findall(field)
    return any((tag.removeprefix("W/") if weak else tag) == etag for tag in tags)


def _date(field: str | None) -> int | None:
    if field is None or _HTTP_DATE.fullmatch(field) is None:
        return None
    try:
        moment = parsedate_to_datetime(field)
        # The asctime format names no zone, and every HTTP date is in GMT (section 5.6.7).
        return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        return None  # for example the 31st of February
