"""Stores of each released version are read by this one, with every job in its state; then older versions refuse them.

`released/VERSION.sql` is the dump of a store that this version of ytmp3 wrote, with one job of each state.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

import pytest

from tests.contract.harness import Ids, created, ticket_of
from tests.contract.sqlite_stores import opened
from tests.fakes import Clock
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import JobId
from ytmp3.core.job import Status
from ytmp3.jobstore.sqlite.queries import SCHEMA_VERSION

RELEASED: Final = Path(__file__).parent / "released"
SCHEMAS: Final = {"0.1.0": 1, "0.2.0": 2}
"""The schema version that each release wrote."""
JOBS: Final = {
    "ca00000000000000000000000000000001": Status.COMPLETED,
    "ca00000000000000000000000000000003": Status.COMPLETED,
    "ef00000000000000000000000000000005": Status.FAILED,
    "7c00000000000000000000000000000007": Status.PENDING,
    "5f00000000000000000000000000000009": Status.PENDING,
    "7a0000000000000000000000000000000b": Status.CANCELLED,
    "6b0000000000000000000000000000000d": Status.PENDING,
}
"""The jobs in each dump. The last one was running when its instance ended, so it waits for another attempt."""


def schema_of(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)


@pytest.mark.parametrize("release", sorted(SCHEMAS))
async def test_a_store_of_a_released_version_keeps_every_job(path: Path, ids: Ids, release: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((RELEASED / f"{release}.sql").read_text())
    assert schema_of(path) == SCHEMAS[release]
    clock = Clock()
    async with opened(path, clock) as store:
        tickets = {job_id: await ticket_of(store, JobId(job_id)) for job_id in JOBS}
        states = {job_id: ticket.status for job_id, ticket in tickets.items()}
        # The conversion that was running is shown so until an instance adopts it.
        assert {status for job_id, status in states.items() if status is not JOBS[job_id]} <= {Status.PROCESSING}
        done, failed = tickets["ca00000000000000000000000000000001"], tickets["ef00000000000000000000000000000005"]
        assert done.conversion.track is not None
        assert done.conversion.track.size_bytes == 5_000_000
        assert (done.conversion.recipe.quality, done.conversion.video_id) == ("192k", "video000001")
        assert failed.conversion.error is FailureCode.PRIVATE
        clock.advance(61)
        due = {str(conversion.video_id): conversion for conversion in await store.adopt(10)}
        assert set(due) == {"video000003", "video000004", "video000006"}
        assert (due["video000003"].attempts, due["video000006"].crashes) == (1, 1)
        await created(store, ids.submission(7))
        counts = await store.counts()
        assert (counts.completed, counts.failed, counts.cancelled) == (2, 1, 1)
    assert schema_of(path) == SCHEMA_VERSION


def test_each_older_version_refuses_what_this_one_has_written() -> None:
    # Each program refuses a file whose version is above its own, and leaves it untouched (test_sqlite_refusals).
    assert all(version < SCHEMA_VERSION for version in SCHEMAS.values())
