"""Reads and cancels jobs: combines the stored record with this instance's live progress and queue position.

`intake` creates jobs. Callers of this module need no access to the queue or the runs. The stored record is
authoritative. Live progress and queue positions are for display only; they are newer than the record by at most one
lease renewal.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from ytmp3.core.errors import JobUnknown, StorageFull, StoreDown, StoreError, StoreFull, StoreUnavailable
from ytmp3.core.ids import ClientId, JobId, parse_job_id
from ytmp3.core.job import Conversion, Report, State, Status, Ticket
from ytmp3.engine import events
from ytmp3.engine.capacity import STORAGE_RETRY_SECONDS
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.events import Events
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs, Stop
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.found import Found, Page, Place

T = TypeVar("T")

STORE_RETRY_SECONDS: Final = 2
"""The `Retry-After`, in seconds, while the store does not answer: most interruptions are short."""


class Live(Struct, frozen=True, kw_only=True):
    """This instance's live state of a conversion: fresher than the record."""

    report: Report | None = None
    """Its progress; None if it is not running in this instance."""
    queue_position: int | None = None
    """Its position in this instance's queue, or else the recorded position in another instance's queue; 1 is next."""
    eta_seconds: int | None = None
    """The estimated time until it ends; None once it has ended."""


_ENDED: Final = Live()
"""An ended conversion has no live progress; the stored record is complete."""


class Jobs:
    """Reads and cancels jobs. Raises RequestErrors only."""

    def __init__(
        self,
        *,
        store: JobStore,
        queue: FairQueue,
        runs: Runs,
        upstream: Upstream,
        estimates: Estimates,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._queue = queue
        self._runs = runs
        self._upstream = upstream
        self._estimates = estimates
        self._events = events
        self._clock = clock

    async def ticket(self, job_id: str, client: ClientId | None, *, may_lag: bool = False) -> Ticket:
        """Return a job. `client` is its owner; None if no API keys are in use, so that the id alone gives access.

        `may_lag`: the job is only shown, so it may be some seconds old (`JobStore.get`).

        Raises:
            JobUnknown: also for another client's job, so that a response does not show which ids exist.
            StoreUnavailable
        """
        known_form = parse_job_id(job_id)
        if known_form is None:
            raise JobUnknown
        ticket = await as_request_errors(self._store.get(known_form, may_lag=may_lag))
        if ticket is None or (client is not None and ticket.job.client != client):
            raise JobUnknown
        return ticket

    async def tickets(self, job_ids: Sequence[JobId], client: ClientId | None) -> Found:
        """Return those of the jobs that exist and that `client` may see, as in `ticket`, in the given order.

        Raises:
            StoreUnavailable: none of them could be read.
        """
        found = await as_request_errors(self._store.get_many(job_ids))
        some = ((job_id, found.tickets.get(job_id)) for job_id in job_ids)
        tickets = {
            job_id: ticket
            for job_id, ticket in some
            if ticket is not None and (client is None or ticket.job.client == client)
        }
        return Found(tickets=tickets, unread=found.unread)

    async def listed(self, client: ClientId, *, before: Place | None, limit: int) -> Page:
        """Return up to `limit` jobs of an API key's owner, the newest first, beginning after the place `before`.

        Raises:
            StoreUnavailable
        """
        return await as_request_errors(self._store.clients.jobs_of(client, before=before, limit=limit))

    async def cancel(self, job_id: str, client: ClientId | None) -> Ticket:
        """Cancel a job. Its conversion stops when no other job shares it.

        Raises:
            JobUnknown, StoreUnavailable
        """
        known = await self.ticket(job_id, client)
        ticket = await as_request_errors(self._store.cancel(known.job.job_id))
        if ticket is None:
            raise JobUnknown
        self._events.emit(events.JobCancelled(ticket=ticket))
        if ticket.conversion.state is State.CANCELLED:
            self._stop(ticket.conversion)
        return ticket

    async def now(self) -> float:
        """Return the time by the store's clock.

        Raises:
            StoreUnavailable
        """
        return await as_request_errors(self._store.now())

    async def has_expired(self, ticket: Ticket) -> bool:
        """Return whether the retention period of an ended conversion is over, by the store's clock.

        The janitor removes the record and the track some seconds later, so both may still exist.

        Raises:
            StoreUnavailable
        """
        expires_at = ticket.conversion.expires_at
        return expires_at is not None and expires_at <= await as_request_errors(self._store.retention_time())

    def live(self, ticket: Ticket) -> Live:
        """Return this instance's live state of a job's conversion."""
        conversion = ticket.conversion
        if ticket.status not in {Status.PENDING, Status.PROCESSING}:
            return _ENDED
        run = self._runs.get(conversion.conversion_id)
        report = None if run is None else run.report
        here = None if run is not None else self._queue.positions(self._clock()).get(conversion.conversion_id)
        position = here or conversion.queue_position
        eta_seconds = self._estimates.eta_seconds(
            conversion.client,
            position=position,
            progress=conversion.progress if report is None else report.progress,
        )
        if conversion.state is State.QUEUED and run is None:
            # Nothing starts before the breaker's pause is over.
            eta_seconds += self._upstream.blocked_seconds()
        return Live(report=report, queue_position=position, eta_seconds=eta_seconds)

    def _stop(self, conversion: Conversion) -> None:
        """Stop a conversion that the store has cancelled: free its slot in the queue, or end its attempt.

        A running attempt emits `Cancelled` itself, after its child processes have ended.
        """
        run = self._runs.get(conversion.conversion_id)
        if run is not None:
            run.stop(Stop.CANCELLED)
        elif self._queue.remove(conversion.conversion_id):
            self._events.emit(events.Cancelled(conversion=conversion))


async def as_request_errors(operation: Awaitable[T]) -> T:
    """Await a call to the store; turn its errors into those that a client receives.

    Raises:
        StorageFull, StoreUnavailable
    """
    try:
        return await operation
    except StoreFull as error:
        raise StorageFull(retry_after_seconds=STORAGE_RETRY_SECONDS) from error
    except StoreError as error:
        raise StoreUnavailable(retry_after_seconds=STORE_RETRY_SECONDS) from error


async def read_where_possible(store: JobStore, job_ids: Sequence[JobId]) -> Found:
    """Read jobs, also if none of them can be read: the caller has something to show or to do without them.

    Raises:
        StoreError: another one than StoreDown.
    """
    try:
        return await store.get_many(job_ids)
    except StoreDown:
        return Found(tickets={}, unread=frozenset(job_ids))


def complete(found: Found) -> Mapping[JobId, Ticket]:
    """Return the jobs that were read, where none of them may be missing.

    Raises:
        StoreUnavailable: a part of the store did not reply.
    """
    if found.unread:
        raise StoreUnavailable(retry_after_seconds=STORE_RETRY_SECONDS)
    return found.tickets
