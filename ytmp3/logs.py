"""Logs: one line for each event, as JSON or as text, with the ids of the request and of the conversion.

All log values pass through this module, so it sanitises text from outside. One event stays one line, and control
characters are escaped. Two parts of URLs are removed: the query, because the query of a media URL contains the server's
address and a signature; and the user and password, because those of a proxy or of Redis are secret.
"""

import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The id of the request that this task serves. The middleware sets it."""
conversion_id: Final[ContextVar[str | None]] = ContextVar("conversion_id", default=None)
"""The id of the conversion that this task runs. The worker sets it. Events about a job contain both ids."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Matches a whole URL of any scheme, so that a long text is scanned once. A password may contain quotes.
_LINK: Final = re.compile(r"://(?P<user>[^\s/?#]*@)?(?P<address>[^\s\"'?]*)(?P<query>\?[^\s\"']*)?")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MAX_TEXT_CHARACTERS: Final = 4096
"""Longest value in a line, in characters. The rest is cut off, because yt-dlp or ffmpeg may print a megabyte."""


class Stream(Protocol):
    """What `set_up` needs of a stream."""

    def write(self, text: str, /) -> object:
        """Write an event with the end of its line."""

    def flush(self) -> None:
        """Write what is buffered. Called after each event."""

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""


def set_up(*, style: str, level: str, stream: Stream = sys.stderr) -> bool:
    """Send the events of every logger to `stream`, and return whether they are text. Called once, at the start.

    `style` is json, text or auto, which means text on a terminal and JSON elsewhere.
    """
    as_text = style == "text" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiohttp logs a traceback for each malformed request, which any client can send. The metrics count them.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    return as_text


class JsonFormatter(logging.Formatter):
    """Formats an event as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end. `logging` calls this."""
        return orjson.dumps(_event(record), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """Formats an event for a terminal: time, level, event, then the fields. A traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback. `logging` calls this."""
        event = _event(record)
        head = f"{event.pop('time')[11:19]}Z {event.pop('level'):<7} {event.pop('event')}"
        trace = event.pop("traceback", "")
        fields = " ".join(f"{key}={value}" for key, value in event.items() if key != "logger")
        # `clean` has escaped the line breaks of the traceback, as in every value; here they become line breaks again.
        return f"{head} {fields}".rstrip() + ("\n" + trace.replace("\\n", "\n") if trace else "")


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
            # orjson writes only integers of 64 bits.
            return value if -(2**63) <= value < 2**63 else str(value)
        case Mapping():
            return {clean(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return clean(str(value))


def clean(text: str, *, keep_end: bool = False) -> str:
    """Return `text` as one line of at most MAX_TEXT_CHARACTERS, without the secrets in URLs.

    Control characters, and characters that change the direction of text, are escaped. With `keep_end`, the end of a
    long text is kept and not the beginning, because a traceback ends with the exception.
    """
    text = _LINK.sub(_without_secrets, text)
    text = _UNSAFE.sub(lambda match: _escaped(match[0]), text)
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    return "..." + text[-MAX_TEXT_CHARACTERS:] if keep_end else text[:MAX_TEXT_CHARACTERS] + "..."


def _without_secrets(link: re.Match[str]) -> str:
    return f"://{'...@' if link['user'] else ''}{link['address']}{'?...' if link['query'] else ''}"


def _escaped(character: str) -> str:
    return "\\n" if character == "\n" else f"\\u{ord(character):04x}"
