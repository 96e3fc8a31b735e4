"""Locks, checks and opens the store's file, or refuses it without changing it.

The rule: a file that is damaged, foreign or written by a newer version is never written to. The refusal says in one
line what is wrong. A new file is created under another name and renamed when it is complete, so that a crash never
leaves an incomplete store.

Why there is a lock file besides the locks of SQLite: those are held only during a transaction, and a second service
could run its transactions in between. Each would then adopt the conversions of the other at its start. The lock is on a
file of its own, because `restore` replaces the store: a lock on the replaced file would keep nobody from the new one.
It is a lock of the kernel, so nothing has to be cleaned up after a process that was killed.

Why the log mode (WAL) with `synchronous=FULL`: readers never wait for the writer, and one fsync for each group of
operations makes all of them durable. With `NORMAL`, a power failure could lose jobs that clients have a response for.
"""

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ytmp3.core.errors import StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.jobstore.sqlite.migrations import MIGRATIONS
from ytmp3.jobstore.sqlite.queries import APPLICATION_ID, INSERT_TALLIES, SCHEMA, SCHEMA_VERSION, TABLES

log = logging.getLogger(__name__)

BUSY_SECONDS: Final = 2.0
"""How long a statement waits, in seconds, while another program holds a lock on the file (a backup, an operator's
shell). It is short, because an HTTP request may wait for the statement."""
LOCK_POLL_SECONDS: Final = 0.05
"""Interval, in seconds, at which `lock` tries again."""
HOLDER_BYTES: Final = 512
"""Most bytes that are read of the note in a lock file. The note has a process id and a URL."""


def lock(path: Path, *, wait_seconds: float) -> int:
    """Take the exclusive lock `<file>.lock` and return its descriptor. The lock is released when that is closed.

    The kernel closes it when the process dies. If the holder is shutting down, this waits for it. If the holder is
    serving (`note_holder`), this fails at once.

    Raises:
        StoreUnusable: another process still holds the lock after `wait_seconds`, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(sibling(path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path}: cannot be locked: {error.strerror}") from None
    give_up_at = time.monotonic() + wait_seconds
    is_waiting = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, HOLDER_BYTES, 0).decode("utf-8", "replace")
            if _is_serving(holder) or time.monotonic() >= give_up_at:
                os.close(descriptor)
                what = f"ytmp3 runs already ({holder})" if holder else "another process uses it"
                raise StoreUnusable(f"{path}: {what}") from None
            if not is_waiting:
                is_waiting = True
                log.info("waiting for the process that uses the job store", extra={"seconds": wait_seconds})
            time.sleep(LOCK_POLL_SECONDS)
        else:
            os.ftruncate(descriptor, 0)
            return descriptor


def note_holder(path: Path, url: str) -> None:
    """Write a note into the lock file, for other processes: this one serves at `url`, or stops if `url` is empty."""
    sibling(path, ".lock").write_text(f"pid {os.getpid()}, {url}" if url else "")


def _is_serving(holder: str) -> bool:
    """Return whether the holder of the lock is serving, so that it is useless to wait.

    The note may be out of date: the process may have been killed while its children still hold the lock for a moment.
    In a container, the process id may by now be that of this process, or of another one.
    """
    match = re.match(r"pid ([0-9]+),", holder)
    return match is not None and int(match[1]) != os.getpid() and Path("/proc", match[1]).exists()


def open_for_writing(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Check the file, or create it if there is none, and return the only connection that writes to it.

    Raises:
        StoreUnusable: the file is damaged, foreign or newer. It has not been changed.
        StoreDown, StoreFull: the disk failed, or is full.
    """
    with translated(path):
        if path.exists():
            check(path)
        else:
            _create(path)
        # The file records who has converted what. SQLite gives a new log the mode of the file; the check may have made
        # one.
        for file in (path, sibling(path, "-wal"), sibling(path, "-shm")):
            with contextlib.suppress(OSError):
                file.chmod(0o600)
        connection = connect(path, "rw", busy_seconds)
        # This version can read the records of every older schema. From now on the file may have new records, which an
        # older program cannot read.
        _migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit has reached the disk before it is acknowledged, so a power failure loses nothing.
        connection.execute("PRAGMA synchronous = FULL")
        return _with_open_log(connection)


def open_for_reading(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Return a read-only connection. In WAL mode, its queries never wait for the writer."""
    with translated(path):
        return _with_open_log(connect(path, "ro", busy_seconds))


def files_at(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return the identities (device, inode) of the files at the store's path and at its log's path; None if missing.

    The writer compares them after each commit. If they change, a file in use was removed or replaced.
    """
    return tuple(_identity(file) for file in (path, sibling(path, "-wal")))


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate the errors of SQLite into StoreErrors."""
    try:
        yield
    except sqlite3.Error as error:
        raise translation(path, error) from error


def translation(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the StoreError for an error of SQLite (result codes: sqlite.org/rescode.html)."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"{path}: {error}")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreUnusable(f"{path}: damaged: {error}")
        case _:
            return StoreDown(f"{path}: {error}")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether the error only means that another program holds a lock on the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def connect(path: Path, mode: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Connect to the file without checks. `mode` is ro, rw, or rwc, which creates the file."""
    # The connection is opened in one thread and used in another, but never in two threads at once.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=busy_seconds,
    )


def _with_open_log(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Force SQLite to open the log (WAL) now.

    Otherwise SQLite would open it at the first query, and by then the file at that path may have been replaced.
    """
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and the inode, which another file at the same path does not have; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check(path: Path, *, name: Path | None = None) -> None:
    """Read a store's file, and refuse one that this version must not write to. `name` is shown instead of `path`.

    The version is checked before the tables: those of a newer file may differ, and it must be reported as newer and not
    as damaged, because the operator's remedies are different ones.

    Raises:
        StoreUnusable: the file is damaged, foreign or newer.
        sqlite3.Error: it cannot be read.
    """
    name = name or path
    if path.stat().st_size == 0:
        # SQLite takes an empty file for a new database, so all acknowledged jobs would be lost without an error.
        raise StoreUnusable(f"{name}: damaged: the file is empty")
    with contextlib.closing(connect(path, "ro")) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise StoreUnusable(f"{name}: not a job store of ytmp3")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreUnusable(f"{name}: written by a newer ytmp3 (schema {version}, this one knows {SCHEMA_VERSION})")
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        if path.stat().st_size % page_bytes:
            # SQLite reads the missing end of the last page as zeros; `quick_check` accepts those inside a record.
            raise StoreUnusable(f"{name}: damaged: the file is cut short")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables >= TABLES:
            raise StoreUnusable(f"{name}: damaged: tables are missing: {', '.join(sorted(TABLES - tables))}")
        if (changed := _changed_tables(connection, version)) != "":
            # A column more than expected would refuse every new row.
            raise StoreUnusable(f"{name}: tables were changed by another program: {changed}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreUnusable(f"{name}: damaged: {' '.join(str(verdict).split())}")


def _changed_tables(connection: sqlite3.Connection, version: int) -> str:
    """Return the names of the tables with other columns than this version of the schema has; empty if there is none."""
    steps = "".join(statements for to, statements in sorted(MIGRATIONS.items()) if to <= version)
    with contextlib.closing(sqlite3.connect(":memory:")) as expected:
        expected.executescript(SCHEMA + steps)
        return ", ".join(
            table for table, columns in _columns(expected).items() if _columns(connection).get(table) != columns
        )


def _columns(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """Return the columns of each table, to recognise a file that another program has changed."""
    query = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    columns: dict[str, set[str]] = {}
    for table, column in connection.execute(query):
        columns.setdefault(table, set()).add(column)
    return columns


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the present schema, in one transaction: a crash leaves it at the old one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    steps = "".join(statements for to, statements in sorted(MIGRATIONS.items()) if to > version)
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")


def _create(path: Path) -> None:
    """Make the file under another name, and rename it when it is complete and on the disk.

    So a crash leaves either no file, or a whole one. A leftover of an earlier crash is replaced.
    """
    if sibling(path, "-wal").exists():
        # SQLite would replay the old log into the new file.
        raise StoreUnusable(f"{path}: missing, while its log {path.name}-wal is there: restore it or remove the log")
    draft = sibling(path, ".new")
    for leftover in (draft, sibling(draft, "-journal")):
        leftover.unlink(missing_ok=True)
    with contextlib.closing(connect(draft, "rwc")) as connection:
        connection.executescript(f"BEGIN; {SCHEMA}; {INSERT_TALLIES}; COMMIT")
        _migrate(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    draft.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sibling(path: Path, ending: str) -> Path:
    """Return the path whose name is that of `path` with `ending` appended."""
    return path.with_name(path.name + ending)
