"""The files of the page, read once. Their addresses contain a hash of the content, so that browsers may cache them.

The modules import each other by plain names ("./api.js"), so all files of one version are in one folder whose name is
the hash of all of them: `/page/HASH/app.js`.
"""

import gzip
import hashlib
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from msgspec import Struct

HASH_CHARACTERS: Final = 16
"""Length of the hash in addresses, in hexadecimal characters. It only has to differ between versions."""
_MEDIA_TYPES: Final = MappingProxyType(
    {
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
)
"""Types of the files that browsers load. The other files are templates, which `markup` fills in."""


class PageFile(Struct, frozen=True):
    """One file as it is sent."""

    body: bytes
    gzipped: bytes
    media_type: str


class PageFiles:
    """All files of the page.

    `folder` is the part of their addresses below `/page/`, and `templates` has the texts of the other files by name.
    """

    def __init__(self) -> None:
        contents = {
            entry.name: entry.read_bytes()
            for entry in sorted(files("ytmp3.http.page").joinpath("static").iterdir(), key=lambda entry: entry.name)
            if entry.is_file()
        }
        digest = hashlib.sha256()
        for name, body in contents.items():
            digest.update(b"%s\0%d\0%s" % (name.encode(), len(body), body))
        self.folder = digest.hexdigest()[:HASH_CHARACTERS]
        self._files: dict[str, PageFile] = {}
        self.templates: dict[str, str] = {}
        for name, body in contents.items():
            media_type = _MEDIA_TYPES.get(name.rpartition(".")[2])
            if media_type is None:
                self.templates[name] = body.decode()
            else:
                self._files[name] = PageFile(body, gzip.compress(body, mtime=0), media_type)

    def find(self, folder: str, name: str) -> PageFile | None:
        """Return the file at the address `/page/FOLDER/NAME`; None if this version has no such file."""
        return self._files.get(name) if folder == self.folder else None
