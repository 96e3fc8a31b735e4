"""The file of the embedded store: damaged, foreign, newer or incomplete ones are refused, and not touched."""

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from tests.contract.harness import Ids, submitted
from tests.contract.sqlite_stores import opened, store_at
from ytmp3.core.errors import StoreError, StoreUnusable
from ytmp3.jobstore.sqlite.file import open_for_writing
from ytmp3.jobstore.sqlite.queries import APPLICATION_ID, SCHEMA_VERSION


async def filled(path: Path, ids: Ids, count: int = 300) -> list[str]:
    """Make a file with some jobs in it, and no log beside it."""
    async with opened(path) as store:
        submissions = [ids.submission(video) for video in range(count)]
        await asyncio.gather(*(submitted(store, submission) for submission in submissions))
    assert not path.with_name("jobs.db-wal").exists()
    return [submission.job_id for submission in submissions]


async def assert_refused_and_not_touched(path: Path, *, saying: str) -> None:
    before = contents(path.parent)
    with pytest.raises(StoreUnusable, match=saying) as refusal:
        await store_at(path).open()
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    after = contents(path.parent)
    if "jobs.db-wal" not in before and after.get("jobs.db-wal") == b"":
        del after["jobs.db-wal"]
    assert after == before


def contents(folder: Path) -> dict[str, bytes]:
    """Return what the files hold, but for the lock and SQLite's shared memory, which hold no records."""
    files = (file for file in folder.iterdir() if not file.name.endswith(("-shm", ".lock")))
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"SQLite format 3\x00", b"not a database\n" * 500, bytes(range(256)) * 80]
)
async def test_a_file_of_garbage_is_refused_and_not_touched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    await assert_refused_and_not_touched(path, saying="damaged|not a job store")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.3, 0.5, 0.9, 0.999])
async def test_a_file_cut_short_is_refused_and_not_touched(path: Path, ids: Ids, kept: float) -> None:
    await filled(path, ids)
    os.truncate(path, int(path.stat().st_size * kept))
    await assert_refused_and_not_touched(path, saying="damaged|not a job store")


@pytest.mark.parametrize("missing_bytes", [1, 7, 300, 4095])
async def test_a_file_without_the_end_of_its_last_page_is_refused(path: Path, ids: Ids, missing_bytes: int) -> None:
    await filled(path, ids)
    os.truncate(path, path.stat().st_size - missing_bytes)
    await assert_refused_and_not_touched(path, saying="damaged")


async def test_a_page_of_garbage_is_refused_and_not_touched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)
    await assert_refused_and_not_touched(path, saying="damaged")


async def test_a_newer_schema_is_refused_and_not_touched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    await assert_refused_and_not_touched(path, saying=f"newer ytmp3 .schema {SCHEMA_VERSION + 1}")


async def test_another_programs_database_is_refused_and_not_touched(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
    await assert_refused_and_not_touched(path, saying="not a job store")


async def test_a_missing_table_is_refused_and_not_touched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE tallies")
    await assert_refused_and_not_touched(path, saying="tables are missing: tallies")


async def test_a_table_with_a_column_more_is_refused_and_not_touched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT ''")
    await assert_refused_and_not_touched(path, saying="tables were changed by another program: jobs")


async def test_a_log_without_its_file_is_refused_and_not_touched(path: Path) -> None:
    path.with_name("jobs.db-wal").write_bytes(b"the log of a file that was removed")
    await assert_refused_and_not_touched(path, saying="missing")


async def test_a_refusal_releases_the_lock(path: Path) -> None:
    path.write_bytes(b"garbage" * 100)
    with pytest.raises(StoreUnusable):
        await store_at(path).open()
    path.unlink()
    async with opened(path) as store:
        await store.ping()


async def test_leftovers_of_a_crash_while_the_file_was_made_are_replaced(path: Path) -> None:
    path.with_name("jobs.db.new").write_bytes(b"half a file")
    path.with_name("jobs.db.new-journal").write_bytes(b"half a journal")
    async with opened(path) as store:
        await store.ping()
    assert not path.with_name("jobs.db.new").exists()


async def test_a_folder_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="file"):
        await store_at(tmp_path / "file" / "jobs.db").open()


async def test_every_refusal_is_a_store_error(path: Path) -> None:
    path.write_bytes(b"x")
    with pytest.raises(StoreError):
        await store_at(path).open()


def test_the_file_carries_our_application_id_and_is_synced_on_each_commit(path: Path) -> None:
    with contextlib.closing(open_for_writing(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert path.read_bytes()[68:72] == b"ytm3"
