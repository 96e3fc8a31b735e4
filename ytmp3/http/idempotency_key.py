"""Reads the header `Idempotency-Key`."""

import re
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from ytmp3.engine.idempotency import Idempotency
from ytmp3.http.errors import InvalidIdempotencyKey
from ytmp3.http.request_bodies import BatchRequest, ExtractRequest

HEADER: Final = "Idempotency-Key"
_BARE: Final = re.compile(r"[!-~]{1,255}", re.ASCII)
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
"""A string of structured fields (RFC 9651, section 3.3.3), which the draft prescribes. Most clients send it bare."""


def idempotency_of(request: web.Request, body: ExtractRequest | BatchRequest) -> Idempotency | None:
    """Return the key of a request with its decoded body, or None if the request has no key.

    Raises:
        InvalidIdempotencyKey
    """
    key = parse_idempotency_key(request.headers.getall(HEADER, ()))
    return None if key is None else Idempotency(key=key, request=body.fingerprint)


def parse_idempotency_key(values: Sequence[str]) -> str | None:
    """Return the key of a request, or None if it has none. A quoted key and a bare one with the same text are equal.

    Raises:
        InvalidIdempotencyKey: it is empty, too long, given twice, or has other characters than visible ASCII.
    """
    if not values:
        return None
    value = values[0].strip(" \t")
    quoted = _QUOTED.fullmatch(value)
    key = value if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    if len(values) > 1 or not _BARE.fullmatch(key):
        raise InvalidIdempotencyKey
    return key
