"""Reading and checking request bodies."""

import asyncio
import json
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import HttpVersion11, hdrs, web

from ytmp3.http import problems as problem
from ytmp3.http.errors import BodyTimeout, BodyTooLarge, InvalidField, InvalidJson, UnsupportedMediaType
from ytmp3.http.wire import ExtractRequest

MAX_BODY_BYTES: Final = 4096
"""A link has at most 2,048 characters (goal S14)."""


BODY_SECONDS: Final = 5.0


_decode: Final = msgspec.json.Decoder(ExtractRequest).decode


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer an expectation nobody can meet. 100-continue is met later, when the body is wanted."""
    if request.headers[hdrs.EXPECT].lower() == "100-continue":
        return None
    return problem.from_status(HTTPStatus.EXPECTATION_FAILED)


async def _read_body(request: web.Request) -> bytes:
    """Read a small JSON body.

    Raises:
        UnsupportedMediaType, BodyTooLarge, BodyTimeout
    """
    if not _is_json(request.headers.getall(hdrs.CONTENT_TYPE, ())) or hdrs.CONTENT_ENCODING in request.headers:
        raise UnsupportedMediaType
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise BodyTooLarge
    is_awaited = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11
    if is_awaited and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BodyTooLarge
    except TimeoutError:
        raise BodyTimeout from None
    except web.RequestPayloadError:
        raise InvalidJson from None
    return bytes(body)


def _is_json(fields: "tuple[str, ...] | list[str]") -> bool:
    if len(fields) != 1:
        return False
    media_type, *parameters = (part.strip().lower() for part in fields[0].split(";"))
    return media_type == "application/json" and all(
        parameter in {"", "charset=utf-8", 'charset="utf-8"'} for parameter in parameters
    )


def _parse_body(body: bytes) -> ExtractRequest:
    """Decode strictly.

    Raises:
        InvalidJson, InvalidField
    """
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise InvalidJson
    try:
        wanted = _decode(body)
    except msgspec.ValidationError:
        raise InvalidField from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson from None
    # The decoder takes the last of two equal names; another parser on the way may take the first. The body is known
    # to be a flat object of strings by now, so this second reading is cheap.
    names = [name for name, _ in json.loads(body, object_pairs_hook=list)]
    if len(names) != len(set(names)):
        raise InvalidField("A field is given twice.")
    return wanted
