"""What a conditional or partial GET of a track must be answered with (RFC 9110, sections 13 and 14). Pure.

aiohttp's own FileResponse answers several of these wrongly (a stale If-Range with 206: two files mixed by a resume), so
the service judges first and sends exactly what was judged.
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
"""The three forms of section 5.6.7. The library reads all that ever stood in a mail, in any zone or none."""
MAX_DIGITS: Final = 19
"""A longer number is larger than any file; int() of a very long one is slow."""
_HUGE: Final = 10**MAX_DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """The track as HTTP sees it."""

    etag: str
    """A strong entity tag, quotes included."""
    modified_at: int
    """Whole seconds since 1970."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The request's header fields that bear on it; None where absent. `ranges` has every Range field received."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None
    ranges: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """200: all of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """206: `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """304."""


@dataclass(frozen=True, slots=True)
class Failed:
    """412."""


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416."""


Verdict = Whole | Part | Unchanged | Failed | Unsatisfiable


def judge(entity: Entity, conditions: Conditions, *, is_get: bool) -> Verdict:
    """Decide in the order of RFC 9110, section 13.2.2. A field that cannot be parsed is ignored."""
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, entity.etag, weak=False):
            return Failed()
    elif (limit := _date(conditions.if_unmodified_since)) is not None and entity.modified_at > limit:
        return Failed()
    if conditions.if_none_match is not None:
        if _matches(conditions.if_none_match, entity.etag, weak=True):
            return Unchanged()
    elif (limit := _date(conditions.if_modified_since)) is not None and entity.modified_at <= limit:
        return Unchanged()
    if not is_get or len(conditions.ranges) != 1 or not _range_applies(conditions.if_range, entity):
        return Whole()
    return _select(conditions.ranges[0], entity.size_bytes)


def _select(field: str, size_bytes: int) -> Verdict:
    """One byte range is served. Several, another unit or a malformed one are ignored (allowed by section 14.2)."""
    match = _RANGE.fullmatch(field)
    if match is None:
        return Whole()
    if match["suffix"] is not None:
        length = min(_number(match["suffix"]), size_bytes)
        return Unsatisfiable() if length == 0 else Part(size_bytes - length, size_bytes - 1)
    first = _number(match["first"])
    last = _number(match["last"]) if match["last"] else _HUGE
    if last < first:
        return Whole()
    return Unsatisfiable() if first >= size_bytes else Part(first, min(last, size_bytes - 1))


def _number(digits: str) -> int:
    """The number, or one larger than any file."""
    digits = digits.lstrip("0") or "0"
    return _HUGE if len(digits) > MAX_DIGITS else int(digits)


def _range_applies(if_range: str | None, entity: Entity) -> bool:
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == entity.etag
    # Only an exact date is a validator here (section 13.1.5).
    return _date(if_range) == entity.modified_at


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
        # The asctime form names no zone: every HTTP-date is in GMT (section 5.6.7).
        return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        return None  # the 31st of February
