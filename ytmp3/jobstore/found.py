"""What was found in a store of which a part may not reply, such as a Redis Cluster without one of its primaries."""

from collections.abc import Mapping

from msgspec import Struct

from ytmp3.core.ids import JobId
from ytmp3.core.job import Ticket


class Found(Struct, frozen=True, kw_only=True):
    """The result of reading several jobs."""

    tickets: Mapping[JobId, Ticket]
    """The jobs that were read. A job that is neither here nor in `unread` is unknown."""
    unread: frozenset[JobId] = frozenset()
    """The jobs in parts of the store that did not reply. They may exist, so nothing may be decided about them."""


class Place(Struct, frozen=True, kw_only=True):
    """A place in a client's list of jobs: before this job, in the order of the list."""

    created_at: float
    job_id: JobId


class Page(Found, frozen=True, kw_only=True):
    """A part of a client's list of jobs."""

    last: Place | None = None
    """The place of its last job, which may be unread; None if it has no jobs."""
