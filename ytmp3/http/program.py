"""`GET /ytmp3.pyz`: the command-line client as one file, which Python 3.11 or later runs without an installation.

The file is a zipapp (PEP 441): a line that names the interpreter, and a ZIP archive of the modules. Python's own
`zipapp` would copy the time and the mode of each file; the archive is written here without them, so that all instances
of one version serve the same bytes with the same ETag.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import cached_property
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from ytmp3.http import headers
from ytmp3.http.conditional import is_known

_INTERPRETER: Final = b"#!/usr/bin/env python3\n"
_MAIN: Final = """\
import os
import sys

if sys.version_info < (3, 11):
    sys.exit("ytmp3 needs Python 3.11 or later")
{default}
from ytmp3.client.__main__ import main

main()
"""
_DEFAULT_SERVER: Final = """os.environ.setdefault("YTMP3_SERVER", {server!r})"""
_MODE: Final = 0o644 << 16
"""The mode of each file in the archive, as ZIP stores it."""


def program(public_url: str = "") -> bytes:
    """Return the file. With a `public_url`, it uses the service at this address unless the user names another one."""
    default = _DEFAULT_SERVER.format(server=public_url) if public_url else ""
    content = io.BytesIO()
    content.write(_INTERPRETER)
    # Not compressed: the result of compression differs between versions of zlib.
    with zipfile.ZipFile(content, "a") as archive:
        for name, body in [("__main__.py", _MAIN.format(default=default).encode()), *_modules()]:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = _MODE
            archive.writestr(entry, body)
    return content.getvalue()


def _modules() -> Iterator[tuple[str, bytes]]:
    package = files("ytmp3")
    yield "ytmp3/__init__.py", package.joinpath("__init__.py").read_bytes()
    for module in sorted(package.joinpath("client").iterdir(), key=lambda entry: entry.name):
        if module.name.endswith(".py"):
            yield f"ytmp3/client/{module.name}", module.read_bytes()


class ProgramHandlers:
    """Serves the file. It is made at the first request."""

    def __init__(self, *, public_url: str) -> None:
        self._public_url = public_url

    @cached_property
    def _program(self) -> tuple[bytes, str]:
        """The file and its ETag."""
        body = program(self._public_url)
        return body, f'"{hashlib.sha256(body).hexdigest()}"'

    async def program(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD /ytmp3.pyz."""
        body, etag = self._program
        more: dict[str, str] = {hdrs.ETAG: etag}
        if is_known(request, etag):
            return web.Response(status=304, headers=headers.extended(headers.PROGRAM_UNCHANGED, more))
        more[hdrs.CONTENT_DISPOSITION] = 'attachment; filename="ytmp3.pyz"'
        return web.Response(body=body, headers=headers.extended(headers.PROGRAM, more))
