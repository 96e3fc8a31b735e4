"""The cookies of an account at YouTube: copies for the conversions that need them, and renewed ones written back.

Cookies are used last, for videos that YouTube refuses to guests (`accounts`), because YouTube may block an account that
is used by a program. YouTube renews a few cookies of a session while it is used, and ends a session that still uses old
ones. So a conversion gets a copy of the file. When it has succeeded, the renewed cookies are taken from its copy:

* This is done only if the copy was made of the present cookies. If several conversions run at once, the first one that
  succeeds renews the cookies, and what the others bring back is dropped.
* The file is replaced as a whole, by a rename, and only its owner may read it. A file that the operator or another
  instance has changed meanwhile is left alone. Where it cannot be written, such as on a read-only mount, the renewed
  cookies stay in memory.
* The child with the copy is not trusted: only cookies that YouTube renews are taken from it, and only while the account
  is logged in.

Methods that use files block.
"""

import contextlib
import fcntl
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.file_sync import sync_folder

REFUSED_SECONDS: Final = 600.0
"""How long, in seconds, refused cookies are not used, unless the file changes: each use costs an extraction."""
MAX_COPY_BYTES: Final = 1_000_000
"""Largest copy that is read back, in bytes. The cookies of a browser profile have less than 100 kB."""

RENEWED: Final = re.compile(rb"(?:__Secure-[13]P)?SIDCC|__Secure-[13]PSIDTS|LOGIN_INFO")
"""Names of the cookies that YouTube renews. The others keep their values for the life of a session."""
HEADER: Final = b"# Netscape HTTP Cookie File"
_COOKIE: Final = re.compile(
    rb"(?:#HttpOnly_)?[^#\s][^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t(?:[0-9]+(?:\.[0-9]+)?)?\t[^\t]*\t[^\t]*"
)
"""A line with a cookie of any site, as yt-dlp accepts it."""
_LINE: Final = re.compile(
    rb"(?:#HttpOnly_)?(?P<domain>\.?(?:www\.)?(?:youtube|google)\.com)\t(?:TRUE|FALSE)\t(?P<path>/[^\t]*)\t(?:TRUE|FALSE)"
    rb"\t[0-9]{0,15}(?:\.[0-9]{1,9})?\t(?P<name>[^\t;=\s]{1,100})\t(?P<value>[^\t;\s]{1,4000})"
)
_ACCOUNT: Final = frozenset({b"SAPISID", b"__Secure-1PAPISID", b"__Secure-3PAPISID"})

_Key = tuple[bytes, bytes, bytes]

logger = logging.getLogger(__name__)


class Cookies:
    """The cookies of one file. `clock` is in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed: tuple[bytes, bytes] | None = None
        """A content of the file, and the content with renewed cookies that replaces it."""
        self._refused: bytes | None = None
        """The content that YouTube has refused."""
        self._refused_until = 0.0
        self._has_warned = False

    def copy_to(self, target: Path) -> bytes:
        """Write a copy of all well-formed cookies for one conversion. Returns the content of the file.

        Raises:
            ConversionError: the file is gone or cannot be read: a fault of the settings, not of the disk or of YouTube.
        """
        try:
            content = self._current()
        except OSError as error:
            raise ConversionError(FailureCode.EGRESS_MISCONFIGURED, f"COOKIES_FILE: {error.strerror}") from None
        target.write_bytes(well_formed(content))
        return content

    def are_usable(self) -> bool:
        """Whether YouTube has not refused these cookies lately."""
        with contextlib.suppress(OSError):
            return self._current() != self._refused or self._clock() >= self._refused_until
        return False

    def accepted(self, given: bytes, copy: Path) -> None:
        """Record that a conversion with a copy of the content `given` has succeeded, and take what was renewed."""
        with self._lock, contextlib.suppress(OSError):
            content = self._path.read_bytes()
            if given != self._current():
                return
            self._refused = None
            # The child wrote the copy and may be compromised, so a link is not followed, and a pipe does not block.
            descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                renewed = with_renewed(given, file.read(MAX_COPY_BYTES))
            if renewed != given:
                self._renewed = content, renewed
                self._write(content, renewed)

    def refused(self, given: bytes) -> bool:
        """Record that YouTube has refused a copy of the content `given`. Returns False if that was known.

        The refusal of an older copy is ignored, because it shows nothing about the present cookies.
        """
        with self._lock, contextlib.suppress(OSError):
            if given == self._current():
                is_first = self._refused != given
                self._refused, self._refused_until = given, self._clock() + REFUSED_SECONDS
                return is_first
        return False

    def state(self) -> str:
        """Return the state of the cookies in words, for the operator."""
        try:
            content = self._current()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if content == self._refused:
            return "refused by YouTube: export them again"
        return "with a login" if has_login(content) else "without a login: export them from a signed-in browser"

    def _current(self) -> bytes:
        content = self._path.read_bytes()
        return self._renewed[1] if self._renewed is not None and self._renewed[0] == content else content

    def _write(self, old: bytes, new: bytes) -> None:
        try:
            if replace_file(self._path.resolve(), old, new):
                self._renewed = new, new
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                reason = f"{error.strerror}"
                logger.warning("renewed cookies not written to the file: kept in memory", extra={"reason": reason})


def well_formed(content: bytes) -> bytes:
    """Return a file with the same cookies that yt-dlp accepts.

    It refuses a whole file without the first line, or with a line of JSON, and so would fail each conversion.
    """
    return b"\n".join([HEADER, *filter(_COOKIE.fullmatch, content.splitlines()), b""])


def has_login(content: bytes) -> bool:
    """Return whether the cookies belong to an account that is logged in. The rule is that of yt-dlp."""
    names = {name for _, _, name in _lines(content)}
    return b"LOGIN_INFO" in names and not names.isdisjoint(_ACCOUNT)


def with_renewed(given: bytes, returned: bytes) -> bytes:
    """Return the content `given` with the cookies that were renewed in `returned`.

    Cookies are neither removed nor, if their names are not RENEWED, changed. If the account is not logged in any more,
    nothing is.
    """
    if not has_login(returned):
        return given
    known, after = _lines(given), _lines(returned)
    renewed = {
        key: line
        for key, line in after.items()
        if RENEWED.fullmatch(key[2]) and _value(line) != _value(known.get(key, b""))
    }
    if not renewed:
        return given
    lines = [line if (key := _key(line)) is None else renewed.get(key, line) for line in given.splitlines()]
    lines += [line for key, line in renewed.items() if key not in known]
    return b"\n".join(lines) + b"\n"


def replace_file(path: Path, old: bytes, new: bytes) -> bool:
    """Replace a file whose content is still `old`, at once and durably. Returns False if it is not, or is in use.

    `path` is no symbolic link. After a crash, there is the old or the new content, and perhaps a file `.NAME.new`.

    Raises:
        OSError: it cannot be written.
    """
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # If another process replaced the file before this lock was taken, the lock is that of the old file.
        if os.fstat(file.fileno()).st_ino != path.stat().st_ino or file.read() != old:
            return False
        new_path = path.with_name(f".{path.name}.new")
        new_path.unlink(missing_ok=True)
        descriptor = os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as target:
                target.write(new)
                target.flush()
                os.fsync(descriptor)
            new_path.replace(path)
        except OSError:
            new_path.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)
    return True


def _opened(path: Path) -> BinaryIO:
    """Open a file to lock it. On NFS, an exclusive lock needs a file that is open for writing (flock(2))."""
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")


def _lines(content: bytes) -> dict[_Key, bytes]:
    return {key: line for line in content.splitlines() if (key := _key(line)) is not None}


def _key(line: bytes) -> _Key | None:
    """Return the domain, path and name of a cookie; None: the line is not a cookie of YouTube or Google."""
    match = _LINE.fullmatch(line)
    return None if match is None else (match["domain"], match["path"], match["name"])


def _value(line: bytes) -> bytes:
    return line.rsplit(b"\t", 1)[-1]
