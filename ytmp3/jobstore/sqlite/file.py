"""The store's file: lock it, check it, and open it, or refuse it without touching it.

The rule: a file that is damaged, foreign or written by a newer version is never written to. The refusal says in one
line what is wrong with it. A new file is built under another name and renamed when it is complete, so that a crash in
between leaves nothing that has to be checked.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ytmp3.core.errors import StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.jobstore.sqlite.queries import APPLICATION_ID, INSERT_TALLIES, SCHEMA, SCHEMA_VERSION, TABLES

BUSY_SECONDS: Final = 2.0
"""How long a statement waits while another program holds a lock on the file (a backup, an operator's shell). An HTTP
request waits with it."""
LOCK_POLL_SECONDS: Final = 0.05
"""How often `lock` tries again."""


def lock(path: Path, *, wait_seconds: float) -> int:
    """Take the exclusive lock `<file>.lock` and return its descriptor. Closing it, or dying, releases the lock.

    Raises:
        StoreUnusable: another process still holds it after `wait_seconds`, or the folder cannot be written.
    """
    name = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path}: cannot be locked: {error.strerror}") from None
    give_up_at = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                raise StoreUnusable(f"{path}: another process uses it") from None
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return descriptor


def open_for_writing(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Check the file, or create it if there is none, and return the only connection that writes to it.

    Raises:
        StoreUnusable: the file is damaged, foreign or newer; it has not been changed.
        StoreDown, StoreFull: the disk failed, or is full.
    """
    with translated(path):
        if path.exists():
            _check(path)
        else:
            _create(path)
        connection = _connect(path, "rw", busy_seconds)
        # Records of schema 1 are read as they are. New ones may follow from now on, which an older program cannot read.
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit has reached the disk before it is acknowledged, so a power cut loses nothing.
        connection.execute("PRAGMA synchronous = FULL")
        return _with_open_log(connection)


def open_for_reading(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Return a read-only connection. In WAL mode it never waits for the writer."""
    with translated(path):
        return _with_open_log(_connect(path, "ro", busy_seconds))


def files_at(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return the identities (device, inode) of the files that now have the store's name and its log's; None if missing.

    The writer compares them after each commit: if they change, somebody has removed or replaced a file in use.
    """
    return tuple(_identity(file) for file in (path, _sibling(path, "-wal")))


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the store's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translation(path, error) from error


def translation(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the store's error for one of SQLite's (result codes: sqlite.org/rescode.html)."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"{path}: {error}")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreUnusable(f"{path}: damaged: {error}")
        case _:
            return StoreDown(f"{path}: {error}")


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the only thing wrong is that another program holds a lock on the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _connect(path: Path, mode: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    # The connection is opened in one thread and used in another, never in two at once.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=busy_seconds,
    )


def _with_open_log(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Force SQLite to open the log (WAL) now.

    Otherwise it opens the log at the first query, by which time the file with that name may be another one.
    """
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check(path: Path) -> None:
    if path.stat().st_size == 0:
        # SQLite takes an empty file for a new database and starts afresh: every acknowledged job would silently be
        # gone.
        raise StoreUnusable(f"{path}: damaged: the file is empty")
    with contextlib.closing(_connect(path, "ro")) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise StoreUnusable(f"{path}: not a job store of ytmp3")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreUnusable(f"{path}: written by a newer ytmp3 (schema {version}, this one knows {SCHEMA_VERSION})")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables >= TABLES:
            raise StoreUnusable(f"{path}: damaged: tables are missing: {', '.join(sorted(TABLES - tables))}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreUnusable(f"{path}: damaged: {' '.join(str(verdict).split())}")


def _create(path: Path) -> None:
    if _sibling(path, "-wal").exists():
        # SQLite would replay the old log into the new file.
        raise StoreUnusable(f"{path}: missing, while its log {path.name}-wal is there: restore it or remove the log")
    draft = _sibling(path, ".new")
    for leftover in (draft, _sibling(draft, "-journal")):
        leftover.unlink(missing_ok=True)
    with contextlib.closing(_connect(draft, "rwc")) as connection:
        connection.executescript(f"BEGIN; {SCHEMA}; {INSERT_TALLIES}; COMMIT")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    draft.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
