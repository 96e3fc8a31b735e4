"""Unpacks a wheel of yt-dlp or yt-dlp-ejs. Runs in a sandboxed child process; the archive is not trusted.

Only what both packages consist of is accepted: regular files below the package and its metadata. The folder `*.data` of
yt-dlp's wheel (man page, completions) is left out.
"""

import io
import re
import stat
import zipfile
import zlib
from email.parser import BytesParser
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import Ytmp3Error

MAX_UNPACKED_BYTES: Final = 100 * 2**20
"""Largest content of one wheel. That of yt-dlp has 11 MB."""
MAX_FILES: Final = 5_000
"""Most files of one wheel. That of yt-dlp has 1,060."""
MAX_METADATA_BYTES: Final = 2**20

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", re.ASCII)
"""A name of a file or folder in a wheel: no `..`, no leading dot, no separator of another system."""


class WheelError(Ytmp3Error):
    """A wheel cannot be used. The text says why."""


class Metadata(Struct, frozen=True, kw_only=True):
    """What is read of a wheel's metadata."""

    name: str
    version: str
    requirements: tuple[str, ...]
    requires_python: str


class Wheel:
    """One opened wheel of the package `package`, such as `yt_dlp`."""

    def __init__(self, content: bytes, package: str) -> None:
        """Raises WheelError if it is not a wheel of this package."""
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(content))
            members = self._archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise WheelError(f"it is not a wheel: {error}") from None
        if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
            raise WheelError("it is too large")
        self._members = [member for member in members if not member.is_dir() and not _is_extra(member, package)]
        for member in self._members:
            _check(member, package)
        self.metadata = self._metadata()

    def unpack(self, folder: Path) -> None:
        """Write its files below `folder`.

        Raises:
            WheelError: the archive is damaged, or larger than it says.
            OSError: a file cannot be written, such as one that is there twice.
        """
        for member in self._members:
            target = folder / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(self._content(member))

    def _content(self, member: zipfile.ZipInfo) -> bytes:
        try:
            with self._archive.open(member) as source:
                # zipfile stops at the announced size, and then compares the checksum.
                return source.read()
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            ValueError,
            EOFError,
            zlib.error,
        ) as error:
            raise WheelError(f"{member.filename} cannot be unpacked: {error}") from None

    def _metadata(self) -> Metadata:
        found = [member for member in self._members if member.filename.endswith(".dist-info/METADATA")]
        if len(found) != 1 or found[0].file_size > MAX_METADATA_BYTES:
            raise WheelError("it has no metadata")
        message = BytesParser().parsebytes(self._content(found[0]), headersonly=True)
        return Metadata(
            name=str(message.get("Name", "")),
            version=str(message.get("Version", "")),
            requirements=tuple(str(each) for each in message.get_all("Requires-Dist", ())),
            requires_python=str(message.get("Requires-Python", "")),
        )


def _is_extra(member: zipfile.ZipInfo, package: str) -> bool:
    """Return whether a member belongs to the files outside the package: documentation and completions."""
    return re.match(rf"{package}-[^/]*\.data/", member.filename) is not None


def _check(member: zipfile.ZipInfo, package: str) -> None:
    """Raise WheelError if this member must not be unpacked."""
    parts = member.filename.split("/")
    is_ours = parts[0] == package or re.fullmatch(rf"{package}-[^/]*\.dist-info", parts[0])
    if not is_ours or not all(_PART.fullmatch(part) for part in parts):
        raise WheelError(f"it has a file outside its package: {member.filename!r}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise WheelError(f"it has something that is not a file: {member.filename!r}")
    if member.filename.endswith((".so", ".pyd", ".dll", ".pth", ".pyc")):
        raise WheelError(f"it is not pure Python: {member.filename!r}")
