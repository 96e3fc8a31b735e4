"""Backup and restore of the embedded store: copies are whole, and nothing in use is replaced."""

import os
import sqlite3
from pathlib import Path

import pytest

from tests.contract.harness import Ids, submitted
from tests.contract.sqlite_stores import opened
from ytmp3.core.errors import StoreUnusable
from ytmp3.jobstore.sqlite.backup import back_up, restore
from ytmp3.jobstore.sqlite.file import lock, note_holder


async def test_a_backup_of_a_store_in_use_has_every_acknowledged_job(path: Path, ids: Ids, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path) as store:
        before = ids.submission(1)
        await submitted(store, before)
        assert back_up(path, copy) == copy.stat().st_size
        after = ids.submission(2)
        await submitted(store, after)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.glob("copy*")) == ["copy.db"]
    replaced = restore(copy, path)
    async with opened(path) as store:
        assert await store.get(before.job_id) is not None
        assert await store.get(after.job_id) is None
    assert replaced is not None
    async with opened(replaced) as store:
        assert await store.get(after.job_id) is not None


def test_a_backup_of_no_store_is_refused_and_makes_no_file(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no job store"):
        back_up(path, tmp_path / "copy.db")
    assert list(tmp_path.glob("**/*.db*")) == []


async def test_a_backup_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    async with opened(path):
        with pytest.raises(StoreUnusable, match="exists already"):
            back_up(path, copy)
    assert copy.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\x00" + bytes(8192)])
async def test_a_file_that_is_no_complete_job_store_is_not_restored(
    path: Path, ids: Ids, tmp_path: Path, content: bytes
) -> None:
    async with opened(path) as store:
        submission = ids.submission(1)
        await submitted(store, submission)
    source = tmp_path / "bad.backup"
    source.write_bytes(content)
    with pytest.raises(StoreUnusable, match=r"bad\.backup: (damaged|not a job store)"):
        restore(source, path)
    async with opened(path) as store:
        assert await store.get(submission.job_id) is not None


async def test_another_database_is_not_restored(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "other.db"
    with sqlite3.connect(source) as connection:
        connection.execute("CREATE TABLE jobs (id)")
    with pytest.raises(StoreUnusable, match="not a job store"):
        restore(source, path)
    assert not path.exists()


def test_a_missing_backup_is_not_restored(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no such file"):
        restore(tmp_path / "missing", path)


async def test_a_store_in_use_is_not_replaced(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path):
        back_up(path, copy)
        content = path.read_bytes()
        with pytest.raises(StoreUnusable, match=r"another process uses it\. Stop the service"):
            restore(copy, path)
        with pytest.raises(StoreUnusable, match="is the job store itself"):
            restore(path, path)
        assert path.read_bytes() == content


async def test_the_log_of_a_killed_service_is_kept_with_the_store_that_is_replaced(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path):
        back_up(path, copy)
    path.with_name(path.name + "-wal").write_bytes(b"log")
    replaced = restore(copy, path)
    assert replaced is not None
    assert replaced.with_name(replaced.name + "-wal").read_bytes() == b"log"
    async with opened(path) as store:
        await store.ping()


def test_a_store_whose_holder_serves_is_refused_without_waiting(path: Path) -> None:
    lock(path, wait_seconds=0.0)
    # Process 1 always runs, and is another one than this.
    path.with_name(path.name + ".lock").write_text("pid 1, http://127.0.0.1:8080")
    with pytest.raises(StoreUnusable, match=r"ytmp3 runs already \(pid 1, http://127\.0\.0\.1:8080\)"):
        lock(path, wait_seconds=3600.0)


def test_the_note_of_a_killed_holder_is_removed_by_the_next_one(path: Path) -> None:
    held = lock(path, wait_seconds=0.0)
    note_holder(path, "http://127.0.0.1:8080")
    note = path.with_name(path.name + ".lock")
    assert "http://127.0.0.1:8080" in note.read_text()
    note_holder(path, "")
    assert note.read_text() == ""
    note_holder(path, "http://127.0.0.1:8080")
    os.close(held)
    os.close(lock(path, wait_seconds=0.0))
    assert note.read_text() == ""


async def test_no_other_user_may_read_the_store(path: Path) -> None:
    async with opened(path) as store:
        await store.ping()
        assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    async with opened(path):
        files = [path, *path.parent.glob(path.name + "-*")]
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
