"""The client records of a store whose calls a test can let fail."""

from tests.faulty_batches import Call
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Ticket
from ytmp3.jobstore import ClientRecords, Place, Reservation


class FaultyClientRecords:
    """The client records of a FaultyStore."""

    def __init__(self, records: ClientRecords, call: Call) -> None:
        self._records = records
        self._call = call

    async def reserve(
        self, name: str, fingerprint: str, resource_id: str, *, life_seconds: float, instead_of: str | None = None
    ) -> Reservation:
        return await self._call(
            "reserve",
            lambda: self._records.reserve(
                name, fingerprint, resource_id, life_seconds=life_seconds, instead_of=instead_of
            ),
        )

    async def jobs_of(self, client: ClientId, *, before: Place | None, limit: int) -> list[Ticket]:
        return await self._call("jobs_of", lambda: self._records.jobs_of(client, before=before, limit=limit))

    async def set_feed(self, client: ClientId, digest: str | None) -> None:
        await self._call("set_feed", lambda: self._records.set_feed(client, digest))

    async def feed_owner(self, digest: str) -> ClientId | None:
        return await self._call("feed_owner", lambda: self._records.feed_owner(digest))
