"""The embedded store and the processes that use it: one at a time, killed, restarted, updated."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.contract.harness import POLICY, Ids, created, running
from tests.contract.sqlite_stores import opened, store_at
from tests.fakes import Clock
from tests.stand.waiting import PATIENCE_SECONDS
from ytmp3.core.errors import FailureCode, StoreUnusable
from ytmp3.core.ids import InstanceId, JobId
from ytmp3.core.states import LONGEST_DELAY_SECONDS
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.jobstore.sqlite.store import anchored_clock


async def test_a_second_store_on_the_same_file_is_refused(path: Path) -> None:
    async with opened(path):
        with pytest.raises(StoreUnusable, match="another process uses it"):
            await store_at(path).open()
    async with opened(path):
        pass


async def test_a_store_waits_for_the_lock_of_its_predecessor(path: Path) -> None:
    first = store_at(path)
    await first.open()
    second = SqliteJobStore(path, POLICY, InstanceId("b"), lock_wait_seconds=PATIENCE_SECONDS)
    opening = asyncio.create_task(second.open())
    await asyncio.sleep(0.1)
    assert not opening.done()
    await first.close()
    await opening
    await second.close()


WRITER = textwrap.dedent("""
    import asyncio, os, sys
    from pathlib import Path
    from tests.contract.harness import POLICY
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


async def test_conversions_of_the_dead_process_are_due_at_once_in_the_order_of_their_creation(
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


async def test_a_wall_clock_set_back_between_two_processes_delays_no_conversion(
    path: Path, clock: Clock, ids: Ids
) -> None:
    async with opened(path, clock) as store:
        held = await created(store, ids.submission(1))
        waiting = await running(store, ids.submission(2))
        await store.retry(waiting.lease, FailureCode.UPSTREAM_ERROR, delay_seconds=20)
    clock.advance(-365 * 86_400)
    async with opened(path, clock) as store:
        assert [each.conversion_id for each in await store.adopt(10)] == [held.conversion_id]
        clock.advance(LONGEST_DELAY_SECONDS)
        assert waiting.conversion_id in [each.conversion_id for each in await store.adopt(10)]


def test_a_step_of_the_wall_clock_does_not_move_the_stores_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = anchored_clock()
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= clock() < before + 3600


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


async def test_an_unreadable_record_is_reported(path: Path, ids: Ids) -> None:
    submission = ids.submission()
    async with opened(path) as store:
        await created(store, submission)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE conversions SET record = ?", (b"{}",))
        with pytest.raises(StoreUnusable, match="cannot be read"):
            await store.get(submission.job_id)
        await created(store, ids.submission(2))
