"""Logs: one line per event, JSON for machines or readable for people, always with the request and job at hand.

Everything a line holds passes through here last, so this is where text from outside is made harmless: one event is one
line, control characters are escaped, and links lose their query (a media link's carries the viewer's address) and their
user and password (a proxy's, Redis').
"""

import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The request being served by this task; set by the middleware."""
conversion_id: Final[ContextVar[str | None]] = ContextVar("conversion_id", default=None)
"""The conversion that this task works on; a job's own lines name both its id and this."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# The whole link is matched, so that a long text is gone through once. Of any scheme; a password may hold quotes.
_LINK: Final = re.compile(r"://(?P<user>[^\s/?#]*@)?(?P<address>[^\s\"'?]*)(?P<query>\?[^\s\"']*)?")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MAX_TEXT_CHARACTERS: Final = 4096
"""A longer value is cut: tool output may be a megabyte on one line."""


def set_up(*, style: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send every logger's events to `stream`. `style`: json, text, or auto (text on a terminal)."""
    as_text = style == "text" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp logs a traceback for each garbled request: the error middleware and the access counters say enough.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class JsonFormatter(logging.Formatter):
    """One JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(_event(record), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """Readable on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        event = _event(record)
        head = f"{event.pop('time')[11:19]} {event.pop('level'):<7} {event.pop('event')}"
        trace = event.pop("traceback", "")
        facts = " ".join(f"{key}={value}" for key, value in event.items() if key != "logger")
        # The traceback is escaped as one value: a person wants its lines back.
        return f"{head} {facts}".rstrip() + ("\n" + trace.replace("\\n", "\n") if trace else "")


def _event(record: logging.LogRecord) -> dict[str, Any]:
    event: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": clean(record.getMessage()),
        "logger": record.name,
    }
    for name, variable in (("request_id", request_id), ("conversion_id", conversion_id)):
        if (value := variable.get()) is not None:
            event[name] = value
    event.update((key, _plain(value)) for key, value in vars(record).items() if key not in _STANDARD)
    if record.exc_info:
        event["traceback"] = clean(logging.Formatter().formatException(record.exc_info), keep_end=True)
    return event


def _plain(value: object) -> object:
    match value:
        case bool() | float() | None:
            return value
        case int():
            # A larger one has no place in the encoder.
            return value if -(2**63) <= value < 2**63 else str(value)
        case Mapping():
            return {clean(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return clean(str(value))


def clean(text: str, *, keep_end: bool = False) -> str:
    """Return `text` on one line, without control or direction characters, links bare, at most 4096 long.

    `keep_end`: where it is cut, the end stays (a traceback ends with what matters).
    """
    text = _LINK.sub(_bare, text)
    text = _UNSAFE.sub(lambda match: _escaped(match[0]), text)
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    return "..." + text[-MAX_TEXT_CHARACTERS:] if keep_end else text[:MAX_TEXT_CHARACTERS] + "..."


def _bare(link: re.Match[str]) -> str:
    return f"://{'...@' if link['user'] else ''}{link['address']}{'?...' if link['query'] else ''}"


def _escaped(character: str) -> str:
    return "\\n" if character == "\n" else f"\\u{ord(character):04x}"
