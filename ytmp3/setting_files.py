"""Parsers of settings that name a file. They check the file's content, so that a wrong one is noticed at the start.

Every parser raises ValueError if the text does not name a file of the expected form.
"""

import base64
import os
import re
from pathlib import Path
from typing import Final

MAX_COOKIES_BYTES: Final = 10_000_000
"""Largest file of cookies, in bytes: that of a whole browser profile has less than a megabyte."""
_PEM: Final = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END ")
_COOKIE: Final = re.compile(r"(#HttpOnly_)?[^#\s][^\t]*\t(TRUE|FALSE)\t[^\t]*\t(TRUE|FALSE)\t[0-9.]*\t[^\t]*\t[^\t]*")
"""A line with a cookie: domain, whether for subdomains, path, whether for TLS only, expiry, name, value."""


def file(text: str) -> Path | None:
    """Return a file that exists and can be read; None for an empty text."""
    if not text:
        return None
    path = Path(text).absolute()
    try:
        is_readable = path.is_file() and os.access(path, os.R_OK)
    except OSError:  # such as a folder that this user may not search, or a name that is too long
        is_readable = False
    if not is_readable:
        raise ValueError
    return path


def certificates(text: str) -> Path | None:
    """Return a file with at least one certificate in PEM form; None for an empty text."""
    path = file(text)
    if path is not None:
        found = _PEM.search(path.read_bytes())
        if found is None or not _is_whole_sequence(base64.b64decode(found[1])):
            raise ValueError
    return path


def _is_whole_sequence(der: bytes) -> bool:
    """Return whether the bytes are one ASN.1 sequence, as a certificate is: 0x30, the length, and so many bytes.

    The module `ssl` could tell more, but loading it would slow every command down.
    """
    count = der[1] & 0x7F if len(der) > 1 and der[1] & 0x80 else 0
    return der[:1] == b"\x30" and count > 0 and len(der) == 2 + count + int.from_bytes(der[2 : 2 + count], "big")


def cookies(text: str) -> Path | None:
    """Return a file with at least one cookie in Netscape format; None for an empty text. yt-dlp skips other lines."""
    path = file(text)
    if path is not None:
        if path.stat().st_size > MAX_COOKIES_BYTES:
            raise ValueError
        if not any(_COOKIE.fullmatch(line) for line in path.read_text("utf-8").splitlines()):
            raise ValueError
    return path


def program(text: str) -> Path | None:
    """Return a file that can be executed; None for an empty text."""
    path = file(text)
    if path is not None and not os.access(path, os.X_OK):
        raise ValueError
    return path
