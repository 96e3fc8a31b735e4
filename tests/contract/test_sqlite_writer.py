"""The writer of the embedded store: groups of operations, and a file that is full, locked or taken away."""

import asyncio
import contextlib
import shutil
import sqlite3
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from tests.contract.harness import POLICY, UNKNOWN_LEASE, Ids, submitted
from tests.contract.sqlite_stores import opened, store_at
from tests.fakes import Clock
from ytmp3.core.errors import LeaseLost, StoreDown, StoreFull, StoreUnusable
from ytmp3.core.ids import InstanceId
from ytmp3.jobstore.sqlite.file import open_for_writing
from ytmp3.jobstore.sqlite.ledger import Ledger
from ytmp3.jobstore.sqlite.writer import Writer


class WriterHarness:
    """A writer that is started by `run`: all operations that are queued before form one group."""

    def __init__(self, path: Path) -> None:
        self.connection = open_for_writing(path)
        self.ledger = Ledger(connection=self.connection, policy=POLICY, instance=InstanceId("a"), clock=Clock())
        self.writer = Writer(
            path,
            self.connection,
            take_changed=frozenset,
            on_changed=lambda _: None,
        )

    async def run(self, *operations: Callable[[], object]) -> list[object]:
        tasks = [asyncio.create_task(self.writer.run(operation)) for operation in operations]
        await asyncio.sleep(0)
        self.writer.start()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await self.writer.stop()
        return results

    def rows(self) -> int:
        (count,) = self.connection.execute("SELECT count(*) FROM conversions").fetchone()
        return int(count)


@pytest.fixture
async def writer_harness(path: Path) -> AsyncIterator[WriterHarness]:
    harness = WriterHarness(path)
    yield harness
    harness.connection.close()


async def test_a_failing_operation_does_not_affect_the_others_of_its_group(
    writer_harness: WriterHarness, ids: Ids
) -> None:
    def submit(video: int) -> Callable[[], object]:
        submission = ids.submission(video)
        return lambda: writer_harness.ledger.submit(submission, may_create=True)

    def broken() -> None:
        writer_harness.ledger.submit(ids.submission(90), may_create=True)
        raise ZeroDivisionError

    def refused() -> None:
        writer_harness.connection.execute("INSERT INTO tallies VALUES ('queued', 1)")

    def stale() -> object:
        return writer_harness.ledger.claim(UNKNOWN_LEASE)

    results = await writer_harness.run(submit(1), broken, submit(2), refused, submit(3), stale, submit(4))
    assert isinstance(results[1], ZeroDivisionError)
    assert isinstance(results[3], StoreDown)
    assert isinstance(results[5], LeaseLost)
    assert not any(isinstance(results[place], Exception) for place in (0, 2, 4, 6))
    assert writer_harness.rows() == 4
    assert writer_harness.connection.execute("SELECT jobs FROM tallies WHERE state = 'queued'").fetchone() == (4,)


async def test_a_full_disk_refuses_submissions_and_keeps_those_that_fit(
    writer_harness: WriterHarness, ids: Ids
) -> None:
    (pages,) = writer_harness.connection.execute("PRAGMA page_count").fetchone()
    writer_harness.connection.execute(f"PRAGMA max_page_count = {pages + 12}")

    def submit(video: int) -> Callable[[], object]:
        submission = ids.submission(video)
        return lambda: writer_harness.ledger.submit(submission, may_create=True)

    results = await writer_harness.run(*(submit(video) for video in range(200)))
    refused = [result for result in results if isinstance(result, Exception)]
    assert 0 < len(refused) < 200
    assert all(isinstance(error, StoreFull) for error in refused)
    assert writer_harness.rows() == 200 - len(refused)
    assert writer_harness.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_while_another_program_locks_the_file_all_operations_fail_together(path: Path, ids: Ids) -> None:
    busy_seconds = 3.0
    async with opened(path, busy_seconds=busy_seconds) as store:
        kept = ids.submission(0)
        await submitted(store, kept)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            begun_at = time.monotonic()
            calls = (submitted(store, ids.submission(video)) for video in range(1, 1001))
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {StoreDown}
            # If each group of operations waited for the full time, that would be four times as long. The bound is only
            # a little lower, because a busy machine needs time for the thousand calls, too.
            assert time.monotonic() - begun_at < 3.5 * busy_seconds
            begun_at = time.monotonic()
            for _ in range(3):
                with pytest.raises(StoreDown, match="locked"):
                    await store.ping()
            assert time.monotonic() - begun_at < 2.5 * busy_seconds, "only the first group waits for the full time"
            assert await store.get(kept.job_id) is not None
            other.execute("ROLLBACK")
        await store.ping()
        assert (await store.counts()).pending == 1
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            # A short lock is waited for again, now that the long one is over.
            other.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(0.2, other.execute, "ROLLBACK")
            await submitted(store, ids.submission(1))


@pytest.mark.parametrize("gone", ["jobs.db-wal", "jobs.db"])
async def test_a_file_removed_under_a_running_store_is_noticed_before_anything_more_is_acknowledged(
    path: Path, ids: Ids, gone: str
) -> None:
    async with opened(path) as store:
        kept = [ids.submission(video) for video in range(20)]
        for submission in kept:
            await submitted(store, submission)
        path.with_name(gone).unlink()
        for call in (lambda: submitted(store, ids.submission(99)), store.ping):
            with pytest.raises(StoreUnusable, match="removed or replaced while in use"):
                await cast("Callable[[], Awaitable[object]]", call)()
        assert await store.get(kept[0].job_id) is not None
        if gone == "jobs.db":
            return
        # Everything acknowledged is in the file itself by now, so a kill at this moment would lose nothing.
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
    async with opened(copy) as store:
        assert None not in [await store.get(submission.job_id) for submission in kept]


async def test_a_cancelled_caller_does_not_disturb_its_operation(writer_harness: WriterHarness, ids: Ids) -> None:
    gone = asyncio.create_task(
        writer_harness.writer.run(lambda: writer_harness.ledger.submit(ids.submission(1), may_create=True))
    )
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await writer_harness.run(lambda: 7) == [7]
    assert writer_harness.rows() == 1


FULL_DISK = textwrap.dedent("""
    import asyncio, resource, sys
    from pathlib import Path
    from tests.contract.harness import POLICY, UNKNOWN_LEASE, Ids, created, submitted
    from ytmp3.core.errors import StoreDown, StoreFull
    from ytmp3.core.ids import InstanceId
    from ytmp3.jobstore.sqlite import SqliteJobStore

    async def main():
        ids = Ids()
        store = SqliteJobStore(Path(sys.argv[1]), POLICY, InstanceId("a"))
        await store.open()
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        stored, refused = [], 0
        for video in range(600):
            submission = ids.submission(video)
            try:
                await submitted(store, submission)
                stored.append(submission.job_id)
            except (StoreDown, StoreFull):
                refused += 1
        assert refused > 0 and stored, (refused, len(stored))
        # An empty transaction succeeds on any disk: it does not show that this one works again.
        assert await store.adopt(10) == []
        try:
            await store.ping()
        except (StoreDown, StoreFull):
            pass
        else:
            raise SystemExit("the ping found nothing wrong")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.ping()
        await created(store, ids.submission(999))
        for job_id in stored:
            assert await store.get(job_id) is not None
        await store.close()

    asyncio.run(main())
""")


async def test_a_store_recovers_from_a_disk_that_refused_writes(path: Path) -> None:
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_DISK, str(path), cwd=root, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_closing_finishes_the_queued_operations(path: Path, ids: Ids) -> None:
    store = store_at(path)
    await store.open()
    submissions = [ids.submission(video) for video in range(100)]
    tasks = [asyncio.create_task(submitted(store, submission)) for submission in submissions]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*tasks)
    async with opened(path) as again:
        assert (await again.counts()).pending == 100
