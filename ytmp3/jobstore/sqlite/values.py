"""The shared values of the embedded store (`jobstore.SharedValues`). They outlive a restart, and never expire.

There is only one instance, but its tasks run concurrently: a value that one of them has read may be out of date when
its change arrives at the writer's thread. So `replace` compares and writes in one transaction, and the caller whose
value is out of date reads it again.
"""

from collections.abc import Awaitable, Callable

from ytmp3.jobstore import SharedValue
from ytmp3.jobstore.sqlite import queries
from ytmp3.jobstore.sqlite.clients import Read, Run
from ytmp3.jobstore.sqlite.ledger import Ledger


class SqliteSharedValues:
    """See the Protocol. `now` returns the time of the store's clock."""

    def __init__(self, run: Run, read: Read, now: Callable[[], Awaitable[float]]) -> None:
        self._run = run
        self._read = read
        self._now = now

    async def read(self, name: str) -> SharedValue:
        """See the Protocol."""
        rows = await self._read(queries.SELECT_VALUE, (name,))
        return SharedValue(data=rows[0][0] if rows else None, now=await self._now())

    async def replace(self, name: str, old: bytes | None, new: bytes) -> bool:
        """See the Protocol."""

        def write(ledger: Ledger) -> bool:
            rows = ledger.connection.execute(queries.SELECT_VALUE, (name,)).fetchall()
            if (rows[0][0] if rows else None) != old:
                return False
            ledger.connection.execute(queries.REPLACE_VALUE, (name, new))
            return True

        return await self._run(write)
