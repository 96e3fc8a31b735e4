"""What the embedded store keeps for clients besides the records of their jobs (`jobstore.ClientRecords`).

Writes run on the writer's thread, in the same groups as those of the ledger. Reads run in the reading thread.

The list of a client needs no table of its own: it is an index on the jobs (`queries`). So it cannot disagree with them,
and a job leaves the list in the step that removes it. Jobs of clients without an API key have no client in that column,
because nobody may list them, and the index would only grow.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from ytmp3.core.ids import ClientId, JobId
from ytmp3.core.job import Ticket
from ytmp3.jobstore import Reservation
from ytmp3.jobstore.found import Page, Place
from ytmp3.jobstore.records import decode_conversion, decode_job
from ytmp3.jobstore.sqlite import queries
from ytmp3.jobstore.sqlite.ledger import Ledger

T = TypeVar("T")

Read = Callable[[str, tuple[str | float, ...]], Awaitable[list[tuple[Any, ...]]]]
"""Runs a query on the reading connection, in the reading thread."""


class Run(Protocol):
    """Runs an operation on the writer's thread, and returns its result when it is durable."""

    def __call__(self, operation: Callable[[Ledger], T]) -> Awaitable[T]:
        """Return the result."""


class SqliteClientRecords:
    """See the Protocol."""

    def __init__(self, run: Run, read: Read) -> None:
        self._run = run
        self._read = read

    async def reserve(
        self, name: str, fingerprint: str, resource_id: str, *, life_seconds: float, instead_of: str | None = None
    ) -> Reservation:
        """See the Protocol.

        All steps are one transaction of the only writer, so requests with the same key at the same moment get the same
        reservation. Reservations that have run out are removed first: otherwise one of them would still win.
        """

        def write(ledger: Ledger) -> Reservation:
            connection, now = ledger.connection, ledger.clock()
            connection.execute(queries.DELETE_RESERVATIONS, (now,))
            if instead_of is not None:
                connection.execute(queries.DELETE_RESERVATION, (name, instead_of))
            connection.execute(queries.INSERT_RESERVATION, (name, resource_id, fingerprint, now, now + life_seconds))
            ((found_id, found_print, reserved_at),) = connection.execute(queries.SELECT_RESERVATION, (name,)).fetchall()
            return Reservation(resource_id=found_id, fingerprint=found_print, age_seconds=now - reserved_at)

        return await self._run(write)

    async def jobs_of(self, client: ClientId, *, before: Place | None, limit: int) -> Page:
        """See the Protocol. Without a place, it begins at an infinite time, before which all jobs were created."""
        created_at, job_id = (float("inf"), JobId("")) if before is None else (before.created_at, before.job_id)
        rows = await self._read(queries.SELECT_JOBS_OF, (client, created_at, job_id, limit))
        tickets = [Ticket(job=decode_job(job), conversion=decode_conversion(conversion)) for job, conversion in rows]
        jobs = [ticket.job for ticket in tickets]
        last = Place(created_at=jobs[-1].created_at, job_id=jobs[-1].job_id) if jobs else None
        return Page(tickets={ticket.job.job_id: ticket for ticket in tickets}, last=last)

    async def set_feed(self, client: ClientId, digest: str | None) -> None:
        """See the Protocol. The old token is removed in the same step, so both never work at the same time."""

        def write(ledger: Ledger) -> None:
            ledger.connection.execute(queries.DELETE_FEED, (client,))
            if digest is not None:
                ledger.connection.execute(queries.INSERT_FEED, (client, digest))

        await self._run(write)

    async def feed_owner(self, digest: str) -> ClientId | None:
        """See the Protocol."""
        rows = await self._read(queries.SELECT_FEED, (digest,))
        return ClientId(rows[0][0]) if rows else None
