"""Copies and restores the embedded store for an operator: `ytmp3 backup` and `ytmp3 restore`.

The rule: no file is overwritten. A copy gets its final name only when it is complete, checked and flushed to the disk.
`restore` keeps the replaced store next to the new one.

Both functions copy through SQLite, and not the file alone: the newest commits are in the log, and a file that is copied
while it is written may mix old and new pages. `restore` copies, too, instead of moving the backup: so the backup stays
as it is, and the copy has been checked before the old store is touched.
"""

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from ytmp3.core.errors import StoreUnusable
from ytmp3.jobstore.sqlite.file import check, connect, lock, sibling, sync, translated

PAGES_AT_ONCE: Final = 1000
"""Number of pages of 4 KiB that one step of a backup copies. A running service may write between two steps, and then
SQLite copies the changed pages again. With 4 MB a step, the backup ends soon even on a slow disk."""


def back_up(path: Path, target: Path) -> int:
    """Write a consistent copy of the store at `path` to `target`, also while a service uses it. Returns its size.

    Raises:
        StoreUnusable: there is no store, it is damaged, or `target` exists. Nothing is left at `target`.
        StoreDown, StoreFull: the disk failed, or is full.
        OSError: `target` cannot be written.
    """
    if not path.exists():
        raise StoreUnusable(f"{path}: there is no job store; DATA_DIR names its folder")
    if target.exists():
        raise StoreUnusable(f"{target}: exists already; a backup overwrites nothing")
    draft = _copy(path, target)
    draft.rename(target)
    sync(target.parent)
    return target.stat().st_size


def restore(source: Path, path: Path) -> Path | None:
    """Put a copy of the backup `source` in place of the store at `path`. Returns where the replaced store is now.

    At every moment `path` is the old store, the new one, or an empty file, which a service refuses: a crash cannot make
    a service begin with an empty store.

    Raises:
        StoreUnusable: a service uses the store, or `source` is not a complete job store. The store is unchanged.
        StoreDown, StoreFull: the disk failed, or is full. The store is unchanged.
        OSError: a file cannot be written.
    """
    if not source.is_file():
        raise StoreUnusable(f"{source}: there is no such file")
    if path.exists() and source.samefile(path):
        raise StoreUnusable(f"{source}: is the job store itself")
    try:
        held = lock(path, wait_seconds=0.0)
    except StoreUnusable as error:
        raise StoreUnusable(f"{error}. Stop the service before you restore") from None
    try:
        draft = _copy(source, path)
        replaced = _set_aside(path) if path.exists() or sibling(path, "-wal").exists() else None
        draft.replace(path)
        sync(path.parent)
    finally:
        os.close(held)
    return replaced


def _set_aside(path: Path) -> Path:
    """Rename the store and its log, and leave an empty file, which a service refuses, in the store's place."""
    kept = sibling(path, f".before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    placeholder = sibling(path, ".placeholder")
    placeholder.touch(mode=0o600)
    if path.exists():
        os.link(path, kept)
    placeholder.replace(path)
    log = sibling(path, "-wal")
    if log.exists():
        log.rename(sibling(kept, "-wal"))
    sibling(path, "-shm").unlink(missing_ok=True)
    return kept


def _copy(source: Path, target: Path) -> Path:
    """Copy a store to a draft next to `target`, check the copy, and flush it to the disk. Returns the draft's path."""
    draft = sibling(target, ".partial")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with translated(source):
            with (
                contextlib.closing(connect(source, "ro")) as reader,
                contextlib.closing(connect(draft, "rw")) as writer,
            ):
                reader.backup(writer, pages=PAGES_AT_ONCE)
                # The copy has the mode of its original. A backup is one file, so it must not need a log.
                writer.execute("PRAGMA journal_mode = DELETE")
            check(draft, name=source)
            _check_wholly(draft, name=source)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(draft)
    return draft


def _check_wholly(path: Path, *, name: Path) -> None:
    """Check the whole file, including indexes against tables. This takes too long for a start of the service."""
    with contextlib.closing(connect(path, "ro")) as connection:
        try:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            verdict = error
    if verdict != "ok":
        raise StoreUnusable(f"{name}: damaged: {' '.join(str(verdict).split())}")
