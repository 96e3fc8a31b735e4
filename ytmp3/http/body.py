"""Reads and checks request bodies. A body is small, is JSON, and arrives in time, or the request is refused."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import HttpVersion11, hdrs, web

from ytmp3.core.recipe import Quality
from ytmp3.http import problems
from ytmp3.http.errors import (
    BodyTooLarge,
    InvalidField,
    InvalidJson,
    RequestTimeout,
    UnsupportedMediaType,
)
from ytmp3.http.wire import ExtractRequest

MAX_BODY_BYTES: Final = 4096
"""Largest body. A link has at most 2,048 characters, and the rest of a request is short."""
BODY_SECONDS: Final = 5.0
"""How long a body may take to arrive: 4 kB need a fraction of a second on any connection."""

_decode: Final = msgspec.json.Decoder(ExtractRequest).decode
_FIELD_OF_ERROR: Final = re.compile(r"`\$\.(url|quality)`\Z")
"""How msgspec ends the message of an error in one of our own fields. The rest of the message may repeat the request."""
_HELP_OF_FIELD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "url": "`url` must be text: a link to one YouTube video, such as https://youtu.be/dQw4w9WgXcQ.",
        "quality": f"`quality` must be one of {', '.join(Quality)}.",
    }
)


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Handle an Expect header, before the handler runs.

    `100-continue` is not answered here but in `read_json_body`, once the body is wanted: a request that is refused for
    its headers alone never sends one.
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
    if not _is_json(request.headers.getall(hdrs.CONTENT_TYPE, ())) or hdrs.CONTENT_ENCODING in request.headers:
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
    """Decode the body of `POST /extract` strictly.

    Raises:
        InvalidJson
        InvalidField: a field is missing, unknown, given twice or of the wrong form.
    """
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise InvalidJson
    try:
        decoded = _decode(body)
    except msgspec.ValidationError as error:
        field = _FIELD_OF_ERROR.search(str(error))
        raise InvalidField(_HELP_OF_FIELD[field[1]] if field else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson from None
    # The decoder takes the last of two equal names; a proxy's parser may take the first. By now the body is known to be
    # a flat object of strings, so reading it a second time is cheap.
    names = [name for name, _ in json.loads(body, object_pairs_hook=list)]
    if len(names) != len(set(names)):
        raise InvalidField("A field is given twice.")
    return decoded


def _send_continue(request: web.Request) -> None:
    """Tell a client that waits for it to send the body. An HTTP/1.0 client would take 100 for the response itself."""
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
