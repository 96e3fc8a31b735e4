"""Tickets read lately, so that a client who polls costs no query: four times as cheap as one on a busy event loop.

Right because this process is the file's only writer (`sqlite_file` locks it): what a commit changed is forgotten on
the event loop's thread before anyone hears of the commit.
"""

from collections.abc import Iterable
from typing import Final

from ytmp3.core.ids import JobId
from ytmp3.core.job import Conversion, Job, Ticket

MAX_ENTRIES: Final = 2000
"""Of each kind: about 4 MB. Twice the queue; a poller's ticket is back after one query."""


class TicketCache:
    """Jobs and conversions by id, the oldest forgotten first."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._conversions: dict[str, Conversion] = {}

    def get(self, job_id: JobId) -> Ticket | None:
        """Return the ticket if both its halves are known."""
        job = self._jobs.get(job_id)
        conversion = None if job is None else self._conversions.get(job.conversion_id)
        return None if job is None or conversion is None else Ticket(job=job, conversion=conversion)

    def put(self, ticket: Ticket) -> None:
        """Remember what was just read."""
        for entries in (self._jobs, self._conversions):
            if len(entries) >= MAX_ENTRIES:
                del entries[next(iter(entries))]
        self._jobs[ticket.job.job_id] = ticket.job
        self._conversions[ticket.conversion.conversion_id] = ticket.conversion

    def forget(self, ids: Iterable[str]) -> None:
        """Drop what a commit has changed: ids of jobs and of conversions."""
        for changed in ids:
            self._jobs.pop(changed, None)
            self._conversions.pop(changed, None)
