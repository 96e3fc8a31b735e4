"""The store's file: locked, judged and opened, or refused untouched.

The rule of this room: a file that is damaged, foreign or newer is never written to; the refusal names it in one line.
A new file is built under another name and renamed when whole, so that a crash in between leaves nothing to judge.
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

APPLICATION_ID: Final = 0x79746D33
"""`ytm3` in ASCII, in the file's header (SQLite file format, offset 68)."""
SCHEMA_VERSION: Final = 2
"""Raised by a change that an older program cannot read or must not write to; a new field in a record is no such change.
Since 2 a record of a conversion has no `quality` any more: the recipe is the last part of its key."""
BUSY_SECONDS: Final = 2.0
"""How long a statement waits for another program's lock on the file (a backup, a curious operator): a request waits
with it."""
LOCK_POLL_SECONDS: Final = 0.05

_SCHEMA: Final = """
CREATE TABLE conversions (
    serial INTEGER PRIMARY KEY,    -- grows in order of creation
    conversion_id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    serving INTEGER NOT NULL,      -- new jobs of this key ride on it
    riders INTEGER NOT NULL,       -- jobs that are not cancelled
    jobs INTEGER NOT NULL,         -- all jobs
    due_at REAL,                   -- NULL once ended
    expires_at REAL,               -- NULL while live
    record BLOB NOT NULL           -- JSON: job.Conversion
) STRICT;
CREATE UNIQUE INDEX conversions_serving ON conversions (key) WHERE serving = 1;
CREATE INDEX conversions_due ON conversions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX conversions_expiry ON conversions (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    serial INTEGER NOT NULL,       -- of its conversion
    record BLOB NOT NULL           -- JSON: job.Job
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_conversion ON jobs (serial);
CREATE TABLE tallies (
    state TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tallies VALUES ('queued', 0), ('running', 0), ('done', 0), ('failed', 0), ('cancelled', 0);
"""
_TABLES: Final = frozenset({"conversions", "jobs", "tallies"})


def lock(path: Path, *, wait_seconds: float) -> int:
    """Take the exclusive lock `<file>.lock` and return its descriptor; closing it (or dying) lets go.

    Raises:
        StoreUnusable: another process holds it, still after `wait_seconds`; or the folder cannot be written.
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


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Judge the file, or make it if there is none, and return the one connection that writes.

    Raises:
        StoreUnusable: the file is damaged, foreign or newer; it has not been changed.
        StoreDown, StoreFull: the disk did not play along.
    """
    with translated(path):
        if path.exists():
            _judge(path)
        else:
            _create(path)
        connection = _connect(path, "rw")
        # Records of schema 1 are read as they are; once new ones may follow, an older program must refuse the file.
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit has reached the disk before it is acknowledged, so a power cut loses nothing.
        connection.execute("PRAGMA synchronous = FULL")
        return _at_work(connection)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a read-only connection; in WAL mode it never waits for the writer."""
    with translated(path):
        return _at_work(_connect(path, "ro"))


def files_at(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return which files are now known by the store's name and its log's: None where there is none."""
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


def is_locked_out(error: sqlite3.Error) -> bool:
    """Whether another program holds the file, and nothing is wrong with it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # The connection is opened in one thread and used in another, never in two at once.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_SECONDS,
    )


def _at_work(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Make it open the log now: SQLite does so at the first read, and may find another one by then."""
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _judge(path: Path) -> None:
    if path.stat().st_size == 0:
        # SQLite would take it for a new one and start afresh: every acknowledged job gone without a word.
        raise StoreUnusable(f"{path}: damaged: the file is empty")
    with contextlib.closing(_connect(path, "ro")) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise StoreUnusable(f"{path}: not a job store of ytmp3")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreUnusable(f"{path}: written by a newer ytmp3 (schema {version}, this one knows {SCHEMA_VERSION})")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables >= _TABLES:
            raise StoreUnusable(f"{path}: damaged: tables are missing: {', '.join(sorted(_TABLES - tables))}")
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
        connection.executescript(f"BEGIN; {_SCHEMA}; COMMIT")
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
