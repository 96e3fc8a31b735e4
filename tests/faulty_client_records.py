"""The client records of a store whose calls a test can let fail."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from tests.faulty_batches import Call
from ytmp3.core.errors import StoreDown
from ytmp3.core.ids import ClientId, JobId
from ytmp3.jobstore import ClientRecords, Reservation
from ytmp3.jobstore.found import Found, Page, Place


def without_unread(found: Found, job_ids: Iterable[JobId], unread: AbstractSet[JobId]) -> Found:
    """Return what a store would find if the part with the `unread` jobs did not reply."""
    asked = set(job_ids)
    missing = asked & unread
    if missing and missing == asked:
        raise StoreDown("no answer")
    tickets = {job_id: ticket for job_id, ticket in found.tickets.items() if job_id not in missing}
    return Found(tickets=tickets, unread=frozenset(missing))


class FaultyClientRecords:
    """The client records of a FaultyStore."""

    def __init__(self, records: ClientRecords, call: Call, unread: AbstractSet[JobId]) -> None:
        self._records = records
        self._call = call
        self._unread = unread

    async def reserve(
        self, name: str, fingerprint: str, resource_id: str, *, life_seconds: float, instead_of: str | None = None
    ) -> Reservation:
        return await self._call(
            "reserve",
            lambda: self._records.reserve(
                name, fingerprint, resource_id, life_seconds=life_seconds, instead_of=instead_of
            ),
        )

    async def jobs_of(self, client: ClientId, *, before: Place | None, limit: int) -> Page:
        found = await self._call("jobs_of", lambda: self._records.jobs_of(client, before=before, limit=limit))
        # The jobs that are read besides those of the page are taken to be readable.
        unread = frozenset(self._unread & found.tickets.keys())
        tickets = {job_id: ticket for job_id, ticket in found.tickets.items() if job_id not in unread}
        return Page(tickets=tickets, unread=unread, last=found.last)

    async def set_feed(self, client: ClientId, digest: str | None) -> None:
        await self._call("set_feed", lambda: self._records.set_feed(client, digest))

    async def feed_owner(self, digest: str) -> ClientId | None:
        return await self._call("feed_owner", lambda: self._records.feed_owner(digest))
