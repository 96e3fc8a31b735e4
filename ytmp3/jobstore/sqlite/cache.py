"""A cache of recently read tickets, so that polling clients cause no queries. It makes their reads four times as fast.

The cache is never out of date, because this process is the file's only writer (`file` locks it). The writer reports
every id that a commit has changed, and these are dropped on the event loop's thread before any caller gets a result of
the commit.
"""

from collections.abc import Iterable
from typing import Final

from ytmp3.core.ids import ConversionId, JobId
from ytmp3.core.job import Conversion, Job, Ticket

MAX_ENTRIES: Final = 2000
"""Most jobs, and most conversions, in the cache: about 4 MB. This is twice the default length of a full queue, so the
tickets of most polling clients stay in the cache. A ticket that was dropped costs one query."""


class TicketCache:
    """Cached jobs and conversions by id. The oldest entry is dropped first."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, Job] = {}
        self._conversions: dict[ConversionId, Conversion] = {}
        self.changes = 0
        """The number of calls of `forget`. A ticket is not put into the cache if this has grown since it was read."""

    def get(self, job_id: JobId) -> Ticket | None:
        """Return the ticket if both its job and its conversion are in the cache."""
        job = self._jobs.get(job_id)
        conversion = None if job is None else self._conversions.get(job.conversion_id)
        return None if job is None or conversion is None else Ticket(job=job, conversion=conversion)

    def put(self, ticket: Ticket) -> None:
        """Add a ticket that was just read."""
        if len(self._jobs) >= MAX_ENTRIES:
            del self._jobs[next(iter(self._jobs))]
        if len(self._conversions) >= MAX_ENTRIES:
            del self._conversions[next(iter(self._conversions))]
        self._jobs[ticket.job.job_id] = ticket.job
        self._conversions[ticket.conversion.conversion_id] = ticket.conversion

    def forget(self, changed: Iterable[JobId | ConversionId]) -> None:
        """Drop entries that a commit has changed. Job and conversion ids never collide: both have 128 random bits."""
        self.changes += 1
        for some_id in changed:
            self._jobs.pop(JobId(some_id), None)
            self._conversions.pop(ConversionId(some_id), None)
