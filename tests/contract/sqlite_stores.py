"""Opens the embedded store on a file of the test's own, without waiting for its lock."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.contract.harness import POLICY
from tests.fakes import Clock
from ytmp3.core.ids import InstanceId
from ytmp3.jobstore.sqlite import SqliteJobStore
from ytmp3.jobstore.sqlite.file import BUSY_SECONDS


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
