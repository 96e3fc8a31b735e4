"""The event stream of jobs: `GET /events?jobs=ID,ID,...`.

    event: job        data: the job, as `GET /status/ID` shows it, whenever it has changed
    event: unknown    data: {"job_id": "..."}: there is no such job, or it has expired
    event: end        all jobs have ended

The revision of a stream is a hash of what it has shown of each job. It is equal at every instance, and estimates do not
change it, because they change all the time.
"""

import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from aiohttp import web

from ytmp3.core.errors import StoreUnavailable
from ytmp3.core.ids import JobId, parse_job_id
from ytmp3.core.job import Status
from ytmp3.engine.jobs import Live
from ytmp3.engine.subscriptions import Snapshot, Subscription
from ytmp3.http.errors import InvalidField
from ytmp3.http.job_json import JobJson
from ytmp3.http.streams import Message
from ytmp3.jobstore.found import Found

MAX_JOBS: Final = 100
"""Most jobs of one stream. Their ids are 3,500 characters of the request line, and servers accept 8,000."""
HELP_OF_JOBS: Final = f"`jobs` must be 1 to {MAX_JOBS} ids of jobs, separated by commas: /events?jobs=ID,ID."
READ_AGAIN_SECONDS: Final = 1.0
"""Pause, in seconds, before jobs in a part of the store that does not reply are read again."""
_OPEN: Final = frozenset({Status.PENDING, Status.PROCESSING})

Read = Callable[[Sequence[JobId]], Awaitable[Found]]
"""Reads jobs; raises StoreUnavailable if none of them can be read."""


def wanted_jobs(request: web.Request) -> list[JobId]:
    """Return the ids in the parameter `jobs`, each once.

    Raises:
        InvalidField
    """
    values = request.query.getall("jobs", ())
    texts = values[0].split(",", MAX_JOBS) if len(values) == 1 else []
    job_ids = [job_id for text in texts if (job_id := parse_job_id(text)) is not None]
    if not job_ids or len(job_ids) < len(texts) or len(texts) > MAX_JOBS:
        raise InvalidField(HELP_OF_JOBS, field="jobs")
    return list(dict.fromkeys(job_ids))


class JobSource:
    """The messages about some jobs, from a subscription to them."""

    def __init__(
        self, subscription: Subscription, json: JobJson, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._subscription = subscription
        self._json = json
        self._clock = clock
        self._unknown: list[Snapshot] = []
        """The requested ids that no job has, until they are shown."""
        self._unread: Sequence[JobId] = ()
        self._read: Read | None = None
        self._read_at = clock()
        """When the jobs in `_unread` were tried last."""
        self._shown: dict[JobId, int] = {}
        """The hash of what was shown last, by job."""
        self._open: set[JobId] = set()
        """The jobs that had not ended when they were shown last."""
        self._hash = 0
        """The exclusive or of `_shown`, so that a message about one job of a hundred needs one hash."""

    def add_unknown(self, job_ids: Iterable[JobId]) -> None:
        """Report that no job has these ids."""
        self._unknown += [Snapshot(job_id=job_id, ticket=None, live=Live()) for job_id in job_ids]

    def read_later(self, job_ids: Sequence[JobId], read: Read) -> None:
        """Follow further jobs as soon as they can be read: their part of the store does not reply now."""
        self._unread, self._read = job_ids, read

    @property
    def hash(self) -> int:
        """A hash of all that was shown."""
        return self._hash

    @property
    def revision(self) -> str:
        """See `Source`."""
        return f"{self._hash:016x}"

    def take_ended(self) -> list[JobId]:
        """Return the jobs that were shown after their end, and leave them out of the hash from now on."""
        ended = [job_id for job_id in self._shown if job_id not in self._open]
        for job_id in ended:
            self._hash ^= self._shown.pop(job_id)
        return ended

    @property
    def has_ended(self) -> bool:
        """See `Source`."""
        return not self._open and not self._unread

    async def take(self, seconds: float) -> list[Message]:
        """See `Source`."""
        if self._unread:
            if self._clock() >= self._read_at + READ_AGAIN_SECONDS:
                await self._read_unread()
            seconds = min(seconds, READ_AGAIN_SECONDS)
        snapshots: Sequence[Snapshot] = await self._subscription.take(seconds)
        if self._unknown:
            snapshots, self._unknown = [*snapshots, *self._unknown], []
        messages = []
        for snapshot in snapshots:
            message = await self._message(snapshot)
            if message is not None:
                messages.append(message)
        return messages

    def wake(self) -> None:
        """See `Source`."""
        self._subscription.wake()

    async def _read_unread(self) -> None:
        """Try to read the jobs that could not be read before. What cannot be read even now is tried again later."""
        assert self._read is not None
        self._read_at = self._clock()
        with contextlib.suppress(StoreUnavailable):
            found = await self._read(self._unread)
            self._subscription.add(found.tickets.values())
            self.add_unknown(set(self._unread) - found.tickets.keys() - found.unread)
            self._unread = sorted(found.unread)

    async def _message(self, snapshot: Snapshot) -> Message | None:
        """Return the message about a job, or None if nothing of it has changed that it would show."""
        job_id, ticket = snapshot.job_id, snapshot.ticket
        shown, last = hash_of(snapshot), self._shown.get(job_id, 0)
        if shown == last:
            return None
        self._shown[job_id] = shown
        self._hash ^= shown ^ last
        if ticket is not None and ticket.status in _OPEN:
            self._open.add(job_id)
        else:
            self._open.discard(job_id)
        if ticket is None:
            return Message(event="unknown", data=b'{"job_id":"%b"}' % job_id.encode(), revision=self.revision)
        return Message(event="job", data=await self._json.of(ticket, snapshot.live), revision=self.revision)


def hash_of(snapshot: Snapshot) -> int:
    """Return a hash of what a message about a job shows, without the estimates."""
    ticket = snapshot.ticket
    parts: tuple[object, ...] = (snapshot.job_id,)
    if ticket is not None:
        conversion = ticket.conversion
        report = snapshot.live.report if ticket.status is Status.PROCESSING else None
        parts += (
            ticket.status,
            conversion.stage if report is None else report.stage,
            round(conversion.progress if report is None else report.progress, 4),
            snapshot.live.queue_position if ticket.status is Status.PENDING else None,
            conversion.attempts + conversion.crashes,
            conversion.error,
            conversion.metadata is not None or (report is not None and report.metadata is not None),
            conversion.started_at,
            conversion.completed_at,
        )
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())
