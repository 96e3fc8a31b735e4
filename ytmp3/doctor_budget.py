"""Counts the extractions of `ytmp3 doctor` in the hourly budgets of the service, which may run at the same time.

The budgets are in the job store. In Redis, every process can change them. The embedded store's file is locked by the
server, its only writer. In that case nothing is counted, and the report says so.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ytmp3.core.errors import StoreError
from ytmp3.core.identities import Budget
from ytmp3.core.ids import InstanceId
from ytmp3.engine.events import Events
from ytmp3.engine.identities import Identities
from ytmp3.jobstore.settings import Policy, RedisSettings

NO_BUDGET: Final = "no hourly budget is set"
EMBEDDED: Final = "without Redis, the budgets are in a file that only the server may write"
_NAME: Final = InstanceId("doctor")
"""The name for a store of which only the shared values are used."""


class DoctorBudget:
    """Implements `converter.doctor.Counting`. After an error of the store, no more is counted."""

    def __init__(self, identities: Identities | None, problem: str = "") -> None:
        """`problem`: why nothing can be counted; empty: it can."""
        self._identities = identities
        self._problem = problem
        self._made = 0
        self._counted = 0

    async def count(self, identity: str) -> None:
        """See the Protocol."""
        self._made += 1
        if self._identities is None or self._problem:
            return
        try:
            await self._identities.charge(identity)
        except StoreError as error:
            self._problem = f"the job store: {error}"
        else:
            self._counted += 1

    @property
    def report(self) -> str:
        """See the Protocol."""
        if not self._problem:
            return f"extractions counted in the hourly budget: {self._counted}"
        missing = self._made - self._counted
        return f"extractions not counted in the hourly budget: {missing} of {self._made} ({self._problem})"


@asynccontextmanager
async def counting(
    redis: RedisSettings | None, policy: Policy, budgets: Sequence[Budget]
) -> AsyncIterator[DoctorBudget]:
    """Connect to the job store until the block ends. If that fails, the report says so."""
    if not any(budget.videos_per_hour for budget in budgets):
        yield DoctorBudget(None, NO_BUDGET)
        return
    if redis is None:
        yield DoctorBudget(None, EMBEDDED)
        return
    # The import takes 20 MB and 100 ms, so it happens only if Redis is used.
    from ytmp3.jobstore.redis import RedisJobStore  # noqa: PLC0415

    store = RedisJobStore(redis, policy, _NAME)
    identities = Identities(values=store.values, events=Events(), clock=time.monotonic)
    identities.use(budgets)
    try:
        yield DoctorBudget(identities)
    finally:
        await store.close()
