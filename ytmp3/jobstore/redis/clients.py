"""What Redis keeps for clients besides the records of their jobs (`jobstore.ClientRecords`).

    root:o:CLIENT   sorted set: the listed jobs of a client, by the time of their creation
    root:f:CLIENT   string: the digest of the client's feed token
    root:t:DIGEST   string: the client whose feed token has this digest
    root:i:NAME     hash: a reservation

Here the root is that of the client, of the digest (which begins with the client's shard) or of the name. A job is in
another hash slot than its client's list, so no script can write both: the list is written after the job. It may name
jobs that are gone, and those are left out when it is read.

Why in this order: a job without an entry in the list still works, because its client has its id. An entry that is
written first would name a job that may never exist. Nor can a script remove an entry together with its job: `jobs_of`
removes those that it finds gone, and `add` those that are older than any job can be.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from ytmp3.core.errors import StoreDown, StoreError, StoreFull
from ytmp3.core.ids import ClientId, JobId, shard_of
from ytmp3.core.job import Job, Ticket
from ytmp3.jobstore import Reservation
from ytmp3.jobstore.found import Found, Page, Place
from ytmp3.jobstore.redis.due import scored
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Reply
from ytmp3.jobstore.redis.records import readable
from ytmp3.jobstore.settings import Policy

MORE_THAN_ASKED: Final = 10
"""How many more ids than jobs are read from a list, for those that are gone or lie before the place."""

MAX_KEPT: Final = 10_000
"""Most jobs that are remembered while the lists of their clients cannot be written: about 5 MB. More are not listed."""
KEPT_AT_ONCE: Final = 100
"""Most jobs that are added later with one check of the store, so that the check is not late."""

Read = Callable[[Sequence[Sequence[Argument]]], Awaitable[list[Reply]]]
"""Sends commands in one write, and returns their replies."""
GetMany = Callable[[Sequence[JobId]], Awaitable[Found]]


class Run(Protocol):
    """Runs a script on the shard that `some_id` begins with."""

    def __call__(self, script: str, some_id: str, *arguments: Argument) -> Awaitable[Reply]:
        """Return the reply."""


class RedisClientRecords:
    """See the Protocol. `read`, `run` and `get_many` reach the server with the timeouts of HTTP requests."""

    def __init__(self, policy: Policy, keys: Keys, *, read: Read, run: Run, get_many: GetMany) -> None:
        self._keys = keys
        self._life = policy.longest_life_seconds
        self._read = read
        self._run = run
        self._get_many = get_many
        self._unlisted: dict[JobId, Job] = {}
        """Jobs that could not be added to the list of their client, the oldest first."""

    async def reserve(
        self, name: str, fingerprint: str, resource_id: str, *, life_seconds: float, instead_of: str | None = None
    ) -> Reservation:
        """See the Protocol."""
        reply = await self._run("reserve", name, repr(life_seconds), name, resource_id, fingerprint, instead_of or "")
        with readable():
            resource, print_, age = reply
            return Reservation(
                resource_id=resource.decode(), fingerprint=print_.decode(), age_seconds=max(0.0, float(age))
            )

    async def add(self, job: Job) -> None:
        """Add a job to the list of its client. Called after the job was stored.

        Repeating it changes nothing. The list as a whole gets a time to live, so that the list of a client who never
        returns does not stay.
        """
        listed = self._list_of(job.client)
        await self._read(
            [
                ("ZADD", listed, f"{job.created_at:.6f}", job.job_id),
                ("ZREMRANGEBYSCORE", listed, "-inf", f"({job.created_at - self._life:.6f}"),
                ("PEXPIRE", listed, round(self._life * 1000)),
            ]
        )

    async def add_or_keep(self, job: Job) -> None:
        """Add a job to the list of its client; if the list cannot be written, remember the job for `add_kept`.

        In a cluster, the list may be on another node than the job. If only that node is down or full, the job is
        accepted.
        """
        try:
            await self.add(job)
        except (StoreDown, StoreFull):
            self._unlisted[job.job_id] = job
            if len(self._unlisted) > MAX_KEPT:
                del self._unlisted[next(iter(self._unlisted))]

    async def add_kept(self) -> None:
        """Add jobs whose list could not be written before. Called with each check of the store.

        Raises:
            StoreError: a list cannot be used, for another reason than that its node is down or full. Its job is kept,
                and the others were added.
        """
        failed: StoreError | None = None
        for job in list(self._unlisted.values())[:KEPT_AT_ONCE]:
            # In the meantime, another check may have added it, or so many others came that it was given up.
            if self._unlisted.pop(job.job_id, None) is None:
                continue
            try:
                await self.add_or_keep(job)
            except StoreError as error:
                failed = error
                self._unlisted[job.job_id] = job
            except BaseException:
                self._unlisted[job.job_id] = job
                raise
        if failed is not None:
            raise failed

    async def jobs_of(self, client: ClientId, *, before: Place | None, limit: int) -> Page:
        """See the Protocol. Takes two round trips, or more where many jobs of the list are gone.

        The list is read by time, which several jobs may share. So the query begins with the time of the place itself,
        and those that belong to earlier pages are left out. Removed entries move the following ones forward, which the
        next offset must take into account: otherwise it would skip as many jobs as were removed.

        A job that could not be read stays in the page as unread. To leave it out would tell the client that it does not
        exist, and the next page would begin after it.
        """
        found: dict[JobId, Ticket | None] = {}
        """The jobs in the order of the list; None for one that could not be read."""
        times: dict[JobId, float] = {}
        offset = 0
        at_once = limit + MORE_THAN_ASKED
        last = "+inf" if before is None else repr(before.created_at)
        while len(found) < limit:
            query = (last, "-inf", "BYSCORE", "REV", "LIMIT", offset, at_once, "WITHSCORES")
            (reply,) = await self._read([("ZRANGE", self._list_of(client), *query)])
            listed = [(float(score), JobId(member.decode())) for member, score in scored(reply)]
            new = {
                job_id: created_at
                for created_at, job_id in listed
                if before is None or (created_at, job_id) < (before.created_at, before.job_id)
            }
            ids = list(new)
            times |= new
            some = await self._get_many(ids)
            gone = [job_id for job_id in ids if job_id not in some.tickets and job_id not in some.unread]
            found.update((job_id, some.tickets.get(job_id)) for job_id in ids if job_id not in gone)
            if gone:
                await self._read([("ZREM", self._list_of(client), *gone)])
            if len(listed) < at_once:
                break
            offset += at_once - len(gone)
        page = dict(itertools.islice(found.items(), limit))
        last_id = next(reversed(page), None)
        return Page(
            last=None if last_id is None else Place(created_at=times[last_id], job_id=last_id),
            tickets={job_id: ticket for job_id, ticket in page.items() if ticket is not None},
            unread=frozenset(job_id for job_id, ticket in page.items() if ticket is None),
        )

    async def set_feed(self, client: ClientId, digest: str | None) -> None:
        """See the Protocol. The digest begins with the client's shard, so one script can write both keys."""
        await self._run("set_feed", shard_of(client), client, digest or "")

    async def feed_owner(self, digest: str) -> ClientId | None:
        """See the Protocol."""
        (reply,) = await self._read([("GET", f"{self._keys.root_of(digest)}:t:{digest}")])
        return None if reply is None else ClientId(reply.decode())

    def _list_of(self, client: ClientId) -> str:
        return f"{self._keys.root_of(shard_of(client))}:o:{client}"
