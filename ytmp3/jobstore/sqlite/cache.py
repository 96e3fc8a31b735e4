"""Tickets read lately, so that a client who polls costs no query. On a busy event loop that is four times as cheap.

The cache is never out of date, because this process is the file's only writer (`file` locks it): the writer names every
id that a commit has changed, and these are dropped on the event loop's thread before any caller learns of the commit.
"""

from collections.abc import Iterable
from typing import Final

from ytmp3.core.ids import ConversionId, JobId
from ytmp3.core.job import Conversion, Job, Ticket

MAX_ENTRIES: Final = 2000
"""How many jobs, and how many conversions, are kept: about 4 MB. That is twice a full queue, so the tickets of most
clients that poll stay in it; one that was dropped is back after one query."""


class TicketCache:
    """Jobs and conversions by id. The entry that was put in first is dropped first."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, Job] = {}
        self._conversions: dict[ConversionId, Conversion] = {}

    def get(self, job_id: JobId) -> Ticket | None:
        """Return the ticket if both its job and its conversion are in the cache."""
        job = self._jobs.get(job_id)
        conversion = None if job is None else self._conversions.get(job.conversion_id)
        return None if job is None or conversion is None else Ticket(job=job, conversion=conversion)

    def put(self, ticket: Ticket) -> None:
        """Keep a ticket that was just read."""
        if len(self._jobs) >= MAX_ENTRIES:
            del self._jobs[next(iter(self._jobs))]
        if len(self._conversions) >= MAX_ENTRIES:
            del self._conversions[next(iter(self._conversions))]
        self._jobs[ticket.job.job_id] = ticket.job
        self._conversions[ticket.conversion.conversion_id] = ticket.conversion

    def forget(self, changed: Iterable[JobId | ConversionId]) -> None:
        """Drop what a commit has changed. The ids of jobs and conversions never collide: both hold 128 random bits."""
        for some_id in changed:
            self._jobs.pop(JobId(some_id), None)
            self._conversions.pop(ConversionId(some_id), None)
