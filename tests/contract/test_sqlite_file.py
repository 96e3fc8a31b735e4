"""The store's file: damaged, foreign, newer, locked, killed, full; and the group in which writes are committed."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from tests.contract.stands import POLICY, Ids, created, done, running, submitted
from tests.fakes import Clock
from ytmp3.core.errors import FailureCode, LeaseLost, StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Lease
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.jobstore.sqlite.file import BUSY_SECONDS, open_for_writing
from ytmp3.jobstore.sqlite.ledger import Ledger
from ytmp3.jobstore.sqlite.queries import APPLICATION_ID, SCHEMA_VERSION
from ytmp3.jobstore.sqlite.store import anchored_clock
from ytmp3.jobstore.sqlite.writer import Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def store_at(path: Path, clock: Clock | None = None, *, busy_seconds: float = BUSY_SECONDS) -> SqliteJobStore:
    return SqliteJobStore(path, POLICY, InstanceId("a"), clock=clock, lock_wait_seconds=0.0, busy_seconds=busy_seconds)


@contextlib.asynccontextmanager
async def opened(
    path: Path, clock: Clock | None = None, *, busy_seconds: float = BUSY_SECONDS
) -> AsyncIterator[SqliteJobStore]:
    store = store_at(path, clock, busy_seconds=busy_seconds)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def filled(path: Path, ids: Ids, count: int = 300) -> list[str]:
    """Make a file with some jobs in it, and no log beside it."""
    async with opened(path) as store:
        submissions = [ids.submission(video) for video in range(count)]
        await asyncio.gather(*(submitted(store, submission) for submission in submissions))
    assert not path.with_name("jobs.db-wal").exists()
    return [submission.job_id for submission in submissions]


async def assert_refused_untouched(path: Path, *, saying: str) -> None:
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


# what is no good is refused, untouched


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"SQLite format 3\x00", b"not a database\n" * 500, bytes(range(256)) * 80]
)
async def test_garbage_is_refused_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    await assert_refused_untouched(path, saying="damaged|not a job store")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.3, 0.5, 0.9, 0.999])
async def test_a_file_cut_short_is_refused_untouched(path: Path, ids: Ids, kept: float) -> None:
    await filled(path, ids)
    os.truncate(path, int(path.stat().st_size * kept))
    await assert_refused_untouched(path, saying="damaged|not a job store")


async def test_a_page_of_garbage_is_refused_untouched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)
    await assert_refused_untouched(path, saying="damaged")


async def test_a_newer_schema_is_refused_untouched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    await assert_refused_untouched(path, saying=f"newer ytmp3 .schema {SCHEMA_VERSION + 1}")


async def test_another_programs_database_is_refused_untouched(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
    await assert_refused_untouched(path, saying="not a job store")


async def test_a_missing_table_is_refused_untouched(path: Path, ids: Ids) -> None:
    await filled(path, ids)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE tallies")
    await assert_refused_untouched(path, saying="tables are missing: tallies")


async def test_a_log_without_its_file_is_refused_untouched(path: Path) -> None:
    path.with_name("jobs.db-wal").write_bytes(b"the log of a file that was removed")
    await assert_refused_untouched(path, saying="missing")


async def test_a_refusal_lets_go_of_the_lock(path: Path) -> None:
    path.write_bytes(b"garbage" * 100)
    with pytest.raises(StoreUnusable):
        await store_at(path).open()
    path.unlink()
    async with opened(path) as store:
        await store.ping()


async def test_a_crash_while_the_file_is_made_leaves_nothing_in_the_way(path: Path) -> None:
    path.with_name("jobs.db.new").write_bytes(b"half a file")
    path.with_name("jobs.db.new-journal").write_bytes(b"half a journal")
    async with opened(path) as store:
        await store.ping()
    assert not path.with_name("jobs.db.new").exists()


async def test_a_folder_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="file"):
        await store_at(tmp_path / "file" / "jobs.db").open()


# one process at a time


async def test_a_second_store_on_the_same_file_is_refused(path: Path) -> None:
    async with opened(path):
        with pytest.raises(StoreUnusable, match="another process uses it"):
            await store_at(path).open()
    async with opened(path):
        pass


async def test_a_store_waits_for_its_predecessor_to_go(path: Path) -> None:
    first = store_at(path)
    await first.open()
    second = SqliteJobStore(path, POLICY, InstanceId("b"), lock_wait_seconds=5.0)
    opening = asyncio.create_task(second.open())
    await asyncio.sleep(0.1)
    assert not opening.done()
    await first.close()
    await opening
    await second.close()


WRITER = textwrap.dedent("""
    import asyncio, os, sys
    from pathlib import Path
    from tests.contract.stands import POLICY
    from ytmp3.core.ids import InstanceId, new_conversion_id, new_job_id
    from ytmp3.core.recipe import DEFAULT_RECIPE, conversion_key
    from ytmp3.jobstore import Submission
    from ytmp3.jobstore.sqlite import SqliteJobStore

    async def main():
        store = SqliteJobStore(Path(sys.argv[1]), POLICY, "writer")
        await store.open()

        async def submit():
            while True:
                video_id = f"v{os.urandom(5).hex()}"
                key = conversion_key(video_id, DEFAULT_RECIPE)
                job_id = new_job_id(key, os.urandom(16))
                await store.submit(Submission(job_id=job_id, video_id=video_id,
                    conversion_id=new_conversion_id(key, os.urandom(16)), recipe=DEFAULT_RECIPE,
                    client="addr:192.0.2.1"), may_create=True)
                os.write(1, job_id.encode() + b"\\n")

        await asyncio.gather(*(submit() for _ in range(20)))

    asyncio.run(main())
""")


def start_writer(path: Path) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=root)


async def test_a_second_process_is_refused_and_a_killed_one_loses_nothing_acknowledged(path: Path) -> None:
    acknowledged: list[JobId] = []
    for round_number in range(4):
        process = start_writer(path)
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(20 + 100 * round_number)]
            with pytest.raises(StoreUnusable, match="another process uses it"):
                await store_at(path).open()
        finally:
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()
            process.wait()
            process.stdout.close()
        lines += rest.splitlines(keepends=True)
        acknowledged += [JobId(line.decode().strip()) for line in lines if line.endswith(b"\n")]
        async with opened(path) as store:
            for job_id in acknowledged:
                assert await store.get(job_id) is not None
            counted = await store.counts()
            assert counted.pending >= len(acknowledged)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# restart


async def test_what_the_dead_process_held_is_due_at_once_in_the_order_of_its_creation(
    path: Path, clock: Clock, ids: Ids
) -> None:
    async with opened(path, clock) as store:
        first = await created(store, ids.submission(1))
        clock.advance(1)
        second = await running(store, ids.submission(2))
        clock.advance(1)
        third = await created(store, ids.submission(3))
        waiting = await running(store, ids.submission(4))
        await store.retry(waiting.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=20)
    async with opened(path, clock) as store:
        adopted = await store.adopt(10)
        assert [each.conversion_id for each in adopted] == [each.conversion_id for each in (first, second, third)]
        assert [each.crashes for each in adopted] == [0, 1, 0]
        clock.advance(20)
        assert [each.conversion_id for each in await store.adopt(10)] == [waiting.conversion_id]


async def test_a_wall_clock_set_back_between_two_processes_delays_nothing(path: Path, clock: Clock, ids: Ids) -> None:
    async with opened(path, clock) as store:
        held = await created(store, ids.submission(1))
        waiting = await running(store, ids.submission(2))
        await store.retry(waiting.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=20)
    clock.advance(-365 * 86_400)
    async with opened(path, clock) as store:
        assert [each.conversion_id for each in await store.adopt(10)] == [held.conversion_id]
        clock.advance(60)
        assert waiting.conversion_id in [each.conversion_id for each in await store.adopt(10)]


def test_a_step_of_the_wall_clock_moves_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = anchored_clock()
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= clock() < before + 5


async def test_a_field_of_a_newer_version_survives_a_rewrite(path: Path, ids: Ids) -> None:
    submission = ids.submission()
    async with opened(path) as store:
        await created(store, submission)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        (record,) = connection.execute("SELECT record FROM conversions").fetchone()
        newer = json.dumps({**json.loads(record), "chapters": [{"title": "ü"}]}).encode()
        connection.execute("UPDATE conversions SET record = ?", (newer,))
    async with opened(path) as store:
        (adopted,) = await store.adopt(1)
        await store.claim(adopted.lease)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (record,) = connection.execute("SELECT record FROM conversions").fetchone()
    assert json.loads(record)["chapters"] == [{"title": "ü"}]
    assert json.loads(record)["state"] == "running"


async def test_a_record_that_is_none_is_reported_not_hidden(path: Path, ids: Ids) -> None:
    submission = ids.submission()
    async with opened(path) as store:
        await created(store, submission)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE conversions SET record = ?", (b"{}",))
        with pytest.raises(StoreUnusable, match="cannot be read"):
            await store.get(submission.job_id)
        await created(store, ids.submission(2))


# the group


class Bench:
    """A writer that has not been started: what is ordered meanwhile is one group."""

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
async def bench(path: Path) -> AsyncIterator[Bench]:
    bench = Bench(path)
    yield bench
    bench.connection.close()


async def test_a_failing_operation_does_not_disturb_its_neighbours(bench: Bench, ids: Ids) -> None:
    def submit(video: int) -> Callable[[], object]:
        submission = ids.submission(video)
        return lambda: bench.ledger.submit(submission, may_create=True)

    def broken() -> None:
        bench.ledger.submit(ids.submission(90), may_create=True)
        raise ZeroDivisionError

    def refused() -> None:
        bench.connection.execute("INSERT INTO tallies VALUES ('queued', 1)")

    def stale() -> object:
        return bench.ledger.claim(Lease(conversion_id=ConversionId("0" * 34), token=1))

    results = await bench.run(submit(1), broken, submit(2), refused, submit(3), stale, submit(4))
    assert isinstance(results[1], ZeroDivisionError)
    assert isinstance(results[3], StoreDown)
    assert isinstance(results[5], LeaseLost)
    assert not any(isinstance(results[place], Exception) for place in (0, 2, 4, 6))
    assert bench.rows() == 4
    assert bench.connection.execute("SELECT jobs FROM tallies WHERE state = 'queued'").fetchone() == (4,)


async def test_a_full_disk_refuses_what_does_not_fit_and_keeps_what_does(bench: Bench, ids: Ids) -> None:
    (pages,) = bench.connection.execute("PRAGMA page_count").fetchone()
    bench.connection.execute(f"PRAGMA max_page_count = {pages + 12}")

    def submit(video: int) -> Callable[[], object]:
        submission = ids.submission(video)
        return lambda: bench.ledger.submit(submission, may_create=True)

    results = await bench.run(*(submit(video) for video in range(200)))
    refused = [result for result in results if isinstance(result, Exception)]
    assert 0 < len(refused) < 200
    assert all(isinstance(error, StoreFull) for error in refused)
    assert bench.rows() == 200 - len(refused)
    assert bench.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_while_another_program_holds_the_file_all_fail_together_and_soon(path: Path, ids: Ids) -> None:
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
            # If each group of operations waited for the full time, it would be four times this long.
            assert time.monotonic() - begun_at < 2 * busy_seconds
            begun_at = time.monotonic()
            for _ in range(3):
                with pytest.raises(StoreDown, match="locked"):
                    await store.ping()
            assert time.monotonic() - begun_at < busy_seconds, "the first group has waited for all that follow"
            assert await store.get(kept.job_id) is not None
            other.execute("ROLLBACK")
        await store.ping()
        assert (await store.counts()).pending == 1
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            # A short lock is waited for, also after a long one.
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
        # What was acknowledged is in the file by now, as a kill would find it.
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
    async with opened(copy) as store:
        assert None not in [await store.get(submission.job_id) for submission in kept]


async def test_one_who_went_away_is_not_missed(bench: Bench, ids: Ids) -> None:
    gone = asyncio.create_task(bench.writer.run(lambda: bench.ledger.submit(ids.submission(1), may_create=True)))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await bench.run(lambda: 7) == [7]
    assert bench.rows() == 1


FULL_DISK = textwrap.dedent("""
    import asyncio, resource, sys
    from pathlib import Path
    from tests.contract.stands import POLICY, Ids, created, submitted
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


# life and cost


async def test_a_store_that_is_not_open_is_down(path: Path, ids: Ids) -> None:
    store = store_at(path)
    for call in (
        store.ping,
        store.counts,
        lambda: store.get(JobId("0" * 34)),
        lambda: submitted(store, ids.submission()),
    ):
        with pytest.raises(StoreDown):
            await call()
    await store.close()


async def test_closing_finishes_what_was_ordered(path: Path, ids: Ids) -> None:
    store = store_at(path)
    await store.open()
    submissions = [ids.submission(video) for video in range(100)]
    tasks = [asyncio.create_task(submitted(store, submission)) for submission in submissions]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*tasks)
    async with opened(path) as again:
        assert (await again.counts()).pending == 100


async def test_no_operation_scans_a_table(path: Path, ids: Ids) -> None:
    async with opened(path) as store:
        await done(store, ids.submission())
    queries: list[str] = []

    with contextlib.closing(open_for_writing(path)) as connection:
        ledger = Ledger(connection=connection, policy=POLICY, instance=InstanceId("a"), clock=Clock())
        connection.set_trace_callback(queries.append)
        submission = ids.submission(2)
        result = ledger.submit(submission, may_create=True)
        assert result is not None
        ledger.submit(ids.submission(2), may_create=True)
        conversion = ledger.claim(result.ticket.conversion.lease)
        ledger.fail(conversion.lease, FailureCode.PRIVATE)
        ledger.cancel(submission.job_id)
        ledger.adopt(10)
        ledger.expire(10)
        connection.set_trace_callback(None)
        plans = [
            str(step)
            for query in queries
            for (*_, step) in connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        ]
    assert len(queries) > 15
    assert [step for step in plans if "SCAN" in step or "TEMP B-TREE" in step] == []


def test_one_step_of_expiry_takes_so_many_jobs_and_keeps_the_tallies(path: Path, ids: Ids) -> None:
    clock = Clock()
    policy = replace(POLICY, jobs_at_once=2)
    with contextlib.closing(open_for_writing(path)) as connection:
        ledger = Ledger(connection=connection, policy=policy, instance=InstanceId("a"), clock=clock)
        results = [ledger.submit(ids.submission(), may_create=True) for _ in range(5)]
        assert results[0] is not None
        for result in results[2:4]:
            assert result is not None
            ledger.cancel(result.ticket.job.job_id)
        ledger.fail(ledger.claim(results[0].ticket.conversion.lease).lease, FailureCode.PRIVATE)
        clock.advance(POLICY.retention_seconds)
        for left, step in ((3, ([], True)), (1, ([], True)), (0, ([None], False)), (0, ([], False))):
            assert ledger.expire(10) == step
            ((jobs,),) = connection.execute("SELECT count(*) FROM jobs").fetchall()
            ((tallied,),) = connection.execute("SELECT sum(jobs) FROM tallies").fetchall()
            assert (jobs, tallied) == (left, left)


def test_the_file_says_what_it_is(path: Path) -> None:
    with contextlib.closing(open_for_writing(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert path.read_bytes()[68:72] == b"ytm3"


async def test_every_refusal_is_a_store_error(path: Path) -> None:
    path.write_bytes(b"x")
    with pytest.raises(StoreError):
        await store_at(path).open()


async def test_a_file_of_schema_1_is_read_and_then_refused_by_older_programs(path: Path, ids: Ids) -> None:
    submission = ids.submission()
    async with opened(path) as store:
        await created(store, submission)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        (record,) = connection.execute("SELECT record FROM conversions").fetchone()
        of_schema_1 = {**json.loads(record), "quality": "192k"}
        connection.execute("UPDATE conversions SET record = ?", (json.dumps(of_schema_1).encode(),))
        connection.execute("PRAGMA user_version = 1")
    async with opened(path) as store:
        ticket = await store.get(submission.job_id)
        assert ticket is not None
        assert ticket.conversion.recipe == submission.recipe
        (adopted,) = await store.adopt(1)
        assert adopted.recipe == submission.recipe
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
