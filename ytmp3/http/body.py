"""Reads and checks request bodies. A body that is too large, too slow or not JSON is refused."""

import asyncio
import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import HttpVersion11, hdrs, web

from ytmp3.core.loudness import MAX_TARGET, MIN_TARGET, LoudnessMode
from ytmp3.core.recipe import Format, Quality, parse_format, parse_quality
from ytmp3.core.tag_edits import MAX_TEXT_CHARACTERS, MAX_TRACK_NUMBER
from ytmp3.http import problems
from ytmp3.http.errors import (
    BodyTooLarge,
    InvalidField,
    InvalidJson,
    RequestTimeout,
    UnsupportedMediaType,
)
from ytmp3.http.request_bodies import (
    OF_LINK,
    TEXT_OF_MISFIT,
    BatchMetadataRequest,
    BatchRequest,
    ExtractRequest,
    LinkRequest,
    MetadataRequest,
    MisfitError,
    ProbeRequest,
)

MAX_BODY_BYTES: Final = 12 * 1024
"""Largest body, in bytes. A link has at most 2,048 characters, and three texts for tags have 200 each, of up to 12
bytes in JSON. The rest of a request is short."""
BODY_SECONDS: Final = 5.0
"""Longest time, in seconds, for a body to arrive. 12 kB need a fraction of a second on any connection."""

MAX_BATCH_BODY_BYTES: Final = 256 * 1024
"""Largest body of a batch, in bytes: 1,000 links of 250 characters. Links copied from a playlist have about 100."""
MAX_BATCH_SECONDS: Final = 20.0
"""Longest time, in seconds, for the body of a batch to arrive: 13 kB/s for the largest one."""

MAX_GUESSED_CHARACTERS: Final = 20
"""Number of characters of an unknown field's name that are compared with the known names. Comparing long names would be
slow."""

Wanted = TypeVar("Wanted", ExtractRequest, BatchRequest, ProbeRequest)
_DECODERS: Final[Mapping[type, msgspec.json.Decoder[Any]]] = MappingProxyType(
    {kind: msgspec.json.Decoder(kind) for kind in (ExtractRequest, BatchRequest, ProbeRequest)}
)
_POSITIONS: Final = 'seconds such as 90 or 90.5, or text such as "1:30" or "1:02:03.5", below 100 hours'
_HELP_OF_FIELD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "url": "`url` must be text: a link to one YouTube video, such as https://youtu.be/dQw4w9WgXcQ.",
        "urls": "`urls` must be a list of links to YouTube videos, with one at least. Each is text, or an object with "
        "`url` and `metadata` for tags of its own.",
        "quality": f"`quality` must be one of {', '.join(Quality)}.",
        "format": f"`format` must be one of {', '.join(Format)}.",
        "start": f'`start` must be {_POSITIONS}; in POST /extract also "{OF_LINK}", for the time in the link (`t=`).',
        "end": f"`end` must be {_POSITIONS}, and at least 0.1 s after `start`.",
        "language": "`language` must be original, or the BCP 47 tag of a language, such as de, en-US or zh-Hans.",
        "loudness": f"`loudness` must be {', '.join(LoudnessMode)}, or a target such as -14, "
        f"in LUFS from {MIN_TARGET:g} to {MAX_TARGET:g}.",
        "playlist": "`playlist` must be text: a link to a playlist, an album or a channel of YouTube.",
        "chapters": "`chapters` must be text: a link to one YouTube video, each chapter of which becomes a track.",
        "metadata": "`metadata` must be an object with texts for the tags of the track, such as `artist` and `album`, "
        "and `cover`: false for a track without a picture. Each field may be left out.",
        "webhook": "`webhook` must be text: an https:// URL to which the finished job is sent.",
    }
)
_HELP_OF_TAG: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            name: f"`metadata.{name}` must be text of 1 to {MAX_TEXT_CHARACTERS} characters in one line, without "
            "control characters and invisible ones."
            for name in ("title", "artist", "album")
        },
        "cover": "`metadata.cover` must be true or false.",
        "track_number": f"`metadata.track_number` must be an integer from 1 to {MAX_TRACK_NUMBER}.",
        "track_total": f"`metadata.track_total` must be an integer from 1 to {MAX_TRACK_NUMBER}, and not less than "
        "`track_number`, which it needs.",
        "track_numbers": "`metadata.track_numbers` must be true or false: whether each track of the batch is numbered.",
    }
)
_OTHER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "link": "url",
        "uri": "url",
        "href": "url",
        "video": "url",
        "video_url": "url",
        "callback": "webhook",
        "callback_url": "webhook",
        "webhook_url": "webhook",
        "links": "urls",
        "videos": "urls",
        "items": "urls",
        "bitrate": "quality",
        "codec": "format",
        "audio_format": "format",
        "filetype": "format",
        "lang": "language",
        "audio_language": "language",
        "from": "start",
        "begin": "start",
        "start_time": "start",
        "start_seconds": "start",
        "to": "end",
        "stop": "end",
        "end_time": "end",
        "end_seconds": "end",
        "normalize": "loudness",
        "lufs": "loudness",
        "tags": "metadata",
        "split": "chapters",
        "split_chapters": "chapters",
        "chapters_of": "chapters",
    }
)
"""Names that other services use for our fields."""
_EXAMPLES: Final[Mapping[str, object]] = MappingProxyType({"url": "https://youtu.be/dQw4w9WgXcQ"})
"""A valid value of each field that must be given."""


_SPELLINGS: Final[Mapping[str, Callable[[object], object]]] = MappingProxyType(
    {
        "quality": parse_quality,
        "format": parse_format,
    }
)
"""Fields with more spellings than the enumerations of their schemas list. For other values, the functions return what
is not valid."""
_SYNTAX_ERRORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Expecting property name": "a name in double quotes is expected",
        "Illegal trailing comma": "there is a comma too many",
        "Expecting ',' delimiter": "a comma or a closing brace is expected",
        "Expecting ':' delimiter": "a colon is expected",
        "Expecting value": "a value is expected, such as text in double quotes",
        "Unterminated string": "a text begins that does not end",
        "Invalid control character": "a line break or another control character stands within a text",
        "Extra data": "something follows the object",
    }
)
"""The text for the client, by the beginning of the error message of Python's JSON parser. The rest of that message may
repeat the request, so it is not shown."""


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Handle an Expect header, before the handler runs.

    `read_json_body` replies to `100-continue`, when it is about to read the body. So the client of a request that is
    refused because of its headers never sends the body.
    """
    if request.headers[hdrs.EXPECT].lower() == "100-continue":
        return None
    return problems.response_of_status(HTTPStatus.EXPECTATION_FAILED)


async def read_json_body(
    request: web.Request, *, max_bytes: int = MAX_BODY_BYTES, seconds: float = BODY_SECONDS
) -> bytes:
    """Read a small JSON body.

    Raises:
        UnsupportedMediaType, BodyTooLarge
        RequestTimeout: the body did not arrive within `seconds`.
        InvalidJson: the transfer encoding is broken.
    """
    if not _is_json(request.headers.getall(hdrs.CONTENT_TYPE, ())):
        raise UnsupportedMediaType
    return await read_body(request, max_bytes=max_bytes, seconds=seconds)


async def read_body(request: web.Request, *, max_bytes: int, seconds: float = BODY_SECONDS) -> bytes:
    """Read a body of any media type.

    Raises:
        UnsupportedMediaType: the body is compressed.
        BodyTooLarge
        RequestTimeout: the body did not arrive within `seconds`.
        InvalidJson: the transfer encoding is broken.
    """
    if hdrs.CONTENT_ENCODING in request.headers:
        raise UnsupportedMediaType
    if (request.content_length or 0) > max_bytes:
        raise BodyTooLarge
    _send_continue(request)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise BodyTooLarge
    except TimeoutError:
        raise RequestTimeout from None
    except web.RequestPayloadError:
        raise InvalidJson from None
    return bytes(body)


def parse_extract_request(body: bytes) -> ExtractRequest:
    """Decode the body of `POST /extract`; see `_parse`."""
    return _parse(body, ExtractRequest)


def extract_request(fields: Mapping[str, object]) -> ExtractRequest:
    """Return the request with these fields, which a form has instead of a body.

    Raises:
        InvalidField
    """
    return _lenient(fields, ExtractRequest)


def parse_batch_request(body: bytes) -> BatchRequest:
    """Decode the body of `POST /batches`; see `_parse`."""
    return _parse(body, BatchRequest)


def parse_probe_request(body: bytes) -> ProbeRequest:
    """Decode the body of `POST /probe`; see `_parse`."""
    return _parse(body, ProbeRequest)


def _parse(body: bytes, kind: type[Wanted]) -> Wanted:
    """Decode a body strictly, except that values of `quality` and `format` may be spelled in several ways.

    Raises:
        InvalidJson: the text says at which character the body is not valid JSON.
        InvalidField: a field is missing, unknown, given twice or of the wrong form. The text says what is accepted.
    """
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise InvalidJson
    try:
        decoded: Wanted | None = _DECODERS[kind].decode(body)
    except msgspec.ValidationError:
        decoded = None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson(_syntax_error(body)) from None
    # If a name occurs twice, the decoder takes the last value; a proxy's parser may take the first. Bodies are small,
    # so parsing one a second time is cheap.
    fields = _fields(body)
    return _lenient(fields, kind) if decoded is None else decoded


def _fields(body: bytes) -> dict[str, object]:
    """Return the fields of a JSON object.

    Raises:
        InvalidJson
        InvalidField: a field is given twice, in this object or in one within it.
    """
    try:
        fields: dict[str, object] = json.loads(body, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise InvalidJson(_syntax_error(body)) from None
    return fields


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidField("A field is given twice.")
    return fields


def _lenient(fields: Mapping[str, object], kind: type[Wanted]) -> Wanted:
    """Parse fields that the decoder has refused: accept other spellings of values, or raise for the wrong field."""
    infos = msgspec.structs.fields(kind)
    known = tuple(info.name for info in infos)
    for name in fields:
        if name not in known:
            raise _unknown_field(name, known)
    given = {name: _SPELLINGS[name](value) if name in _SPELLINGS else value for name, value in fields.items()}
    examples = {info.name: _EXAMPLES[info.name] for info in infos if info.required}
    for name in known:
        if name not in given and name not in examples:
            continue
        try:
            msgspec.convert({**examples, name: given.get(name)}, kind)
        except msgspec.ValidationError:
            raise _invalid_value(name, given.get(name), kind) from None
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        # Each value is valid by itself, so the error is that two of them cannot be combined.
        cause = error.__cause__
        if not isinstance(cause, MisfitError):
            raise
        raise InvalidField(TEXT_OF_MISFIT[cause.field], field=cause.field) from None


def _invalid(name: str) -> InvalidField:
    return InvalidField(_HELP_OF_FIELD[name], field=name)


def _invalid_value(name: str, value: object, kind: type[Wanted]) -> InvalidField:
    """Return the error for a wrong value of a field. It names the field within it that is wrong."""
    if name == "metadata":
        return _invalid_tag(value, BatchMetadataRequest if kind is BatchRequest else MetadataRequest)
    if name == "urls" and isinstance(value, list):
        for index, each in enumerate(value):
            try:
                msgspec.convert(each, str | LinkRequest)
            except msgspec.ValidationError:
                return _invalid_link(each, f"urls.{index}")
    return _invalid(name)


def _invalid_link(value: object, place: str) -> InvalidField:
    """Return the error for a wrong entry of `urls`; `place` is where it stands in the body."""
    if isinstance(value, dict) and value.keys() == {"url", "metadata"} and isinstance(value["url"], str):
        return _invalid_tag(value["metadata"], MetadataRequest, f"{place}.")
    return InvalidField(_HELP_OF_FIELD["urls"], field=place)


def _invalid_tag(
    metadata: object, kind: type[MetadataRequest] | type[BatchMetadataRequest], place: str = ""
) -> InvalidField:
    """Return the error for a wrong value of `metadata`; `place` is where it stands in the body."""
    if not isinstance(metadata, dict):
        return InvalidField(_HELP_OF_FIELD["metadata"], field=f"{place}metadata")
    known = [info.name for info in msgspec.structs.fields(kind)]
    # The total is checked last: it needs the number, so a wrong number must be found before.
    for name, value in sorted(metadata.items(), key=lambda each: each[0] == "track_total"):
        if name not in known:
            accepted = ", ".join(f"`{field}`" for field in known)
            return InvalidField(
                f"`metadata` has an unknown field. Its fields are: {accepted}.", field=f"{place}metadata"
            )
        try:
            number = {"track_number": metadata.get("track_number")} if name == "track_total" else {}
            msgspec.convert({**number, name: value}, kind)
        except msgspec.ValidationError:
            return InvalidField(_HELP_OF_TAG[name], field=f"{place}metadata.{name}")
    return InvalidField(_HELP_OF_FIELD["metadata"], field=f"{place}metadata")


def _unknown_field(name: str, known: tuple[str, ...]) -> InvalidField:
    """Return the error for an unknown field. The text names the field that was probably meant, not the unknown one."""
    name = name[:MAX_GUESSED_CHARACTERS].strip().lower()
    close = difflib.get_close_matches(name, (*known, *_OTHER_NAMES), n=1)
    meant = _OTHER_NAMES.get(close[0], close[0]) if close else None
    if meant not in known:
        meant = None
    question = f" Did you mean `{meant}`?" if meant else ""
    accepted = ", ".join(f"`{field}`" for field in known)
    return InvalidField(f"The body has an unknown field.{question} The fields are: {accepted}.", field=meant)


def _syntax_error(body: bytes) -> str | None:
    """Return the position and the kind of a JSON error, or None if a text about it would repeat the body."""
    try:
        json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"The body is not UTF-8: see byte {error.start + 1}."
    except json.JSONDecodeError as error:
        for beginning, text in _SYNTAX_ERRORS.items():
            if error.msg.startswith(beginning):
                return f"The body is not JSON: at character {error.pos + 1}, {text}."
    except (ValueError, RecursionError):
        pass
    return None


def _send_continue(request: web.Request) -> None:
    """Send `100 Continue` to a client that waits for it. An HTTP/1.0 client would take it for the final response."""
    is_waiting = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11
    if is_waiting and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _is_json(content_types: Sequence[str]) -> bool:
    if len(content_types) != 1:
        return False
    media_type, *parameters = (part.strip().lower() for part in content_types[0].split(";"))
    return media_type == "application/json" and all(
        parameter in {"", "charset=utf-8", 'charset="utf-8"'} for parameter in parameters
    )
