"""Reads of the status of jobs from replicas, which relieve the primaries of a Redis Cluster.

A replica gets every write a moment after its primary, and does not know by itself how far it is behind. So each turn of
a loop asks the primaries, and then their replicas, for their offset in the stream of writes. A replica whose offset is
not less than that of its primary has all writes from before the primary was asked: it is complete until then.

A reply of a replica is used only if the replica is complete until at most MAX_AGE_SECONDS ago, and until after the last
write of this instance to the record. An unknown job may be newer than the replica's records. In all these cases the
caller asks the primary. So a client that has just submitted a job finds it at every instance, and no instance shows
less than it has written itself.

The reply may be older than what another instance has written, so nothing is decided by it.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import NoScriptError

from ytmp3.core.errors import StoreError, StoreUnusable
from ytmp3.core.ids import JobId
from ytmp3.core.job import Ticket
from ytmp3.jobstore.redis.addresses import Address
from ytmp3.jobstore.redis.cluster import Cluster
from ytmp3.jobstore.redis.link import Caller, RedisLink, Reply, pack
from ytmp3.jobstore.redis.nodes import is_redirection, raise_first_error
from ytmp3.jobstore.redis.records import readable, ticket_of
from ytmp3.jobstore.redis.scripts import Call, Scripts

log = logging.getLogger(__name__)

COMPARE_SECONDS: Final = 1.0
"""Pause, in seconds, between two comparisons of the offsets. One costs one command at each node."""
MAX_AGE_SECONDS: Final = 3.0
"""Greatest age, in seconds, of what a replica may show. Three comparisons, so that one that fails changes nothing."""
IDLE_SECONDS: Final = 60.0
"""The comparisons end when no status was read for this long, in seconds."""
MAP_SECONDS: Final = 10.0
"""Interval, in seconds, at which the map of the cluster is read again. Otherwise, replicas that are new, or that were
the primary before a failover, would not be used until some call fails."""
_READONLY: Final = pack([("READONLY",)])
"""Makes a replica answer on this connection. It is sent with each read, and costs no round trip."""
_READWRITE: Final = pack([("READWRITE",)])
"""Ends that. Decisions use the same connections when the server is a primary. If it has become a replica since, it must
refuse them, and not reply with old records."""
_ROLE: Final = pack([("ROLE",), ("READWRITE",)])
"""READWRITE is only a trial: where the user has no right to it, replicas are not used."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """The offset of a primary."""

    asked_at: float
    """By the monotonic clock."""
    offset: int


class OwnWrites:
    """When this instance has last written to each job and conversion, for MAX_AGE_SECONDS."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._written: dict[str, float] = {}
        """By the id, the oldest first."""

    def note(self, *ids: str) -> None:
        """Record a write. Called after its reply."""
        now = self._monotonic()
        for some_id in ids:
            self._written.pop(some_id, None)
            self._written[some_id] = now
        while self._written:
            oldest = next(iter(self._written))
            if now - self._written[oldest] <= MAX_AGE_SECONDS:
                break
            del self._written[oldest]

    def are_before(self, moment: float, ids: Iterable[str]) -> bool:
        """Return whether this instance has written nothing to these records since `moment`."""
        return all(self._written.get(some_id, float("-inf")) < moment for some_id in ids)


class Replicas:
    """The replicas of a cluster, and how far each is complete."""

    def __init__(
        self,
        cluster: Cluster,
        scripts: Scripts,
        own_writes: OwnWrites,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._scripts = scripts
        self._own_writes = own_writes
        self._monotonic = monotonic
        self._complete_until: dict[Address, float] = {}
        """For each replica: it has all writes from before this moment, by the monotonic clock."""
        self._turn = itertools.count()
        self._used_at = float("-inf")
        self._map_read_at = float("-inf")
        self._has_logged_refusal = False
        self._task: asyncio.Task[None] | None = None

    async def get(self, call: Call, job_id: JobId) -> Ticket | None:
        """Return a job from a replica. `call` is the call of the script `get`.

        None: no replica can be used, or the job is unknown there, or this instance has written to it since.
        """
        self._used_at = self._monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_comparing(), name="redis-replicas")
        chosen = self._choose(call.root)
        if chosen is None:
            return None
        link, complete_until = chosen
        if not self._own_writes.are_before(complete_until, [job_id]):
            return None
        try:
            reply = await self._read(link, call)
            ticket = ticket_of(reply)
        except StoreError:
            return None
        if ticket is None or not self._own_writes.are_before(complete_until, [ticket.conversion.conversion_id]):
            return None
        return ticket

    async def close(self) -> None:
        """End the comparisons."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def compare_offsets(self) -> None:
        """Compare the offsets of all replicas with those of their primaries, once."""
        replicas = self._cluster.replicas
        samples = dict(zip(replicas, await asyncio.gather(*map(self._sample, replicas)), strict=True))
        pairs = [(replica, samples[primary]) for primary, some in replicas.items() for replica in some]
        reached = await asyncio.gather(*(self._sample(replica) for replica, _ in pairs))
        for (replica, of_primary), of_replica in zip(pairs, reached, strict=True):
            if of_primary is not None and of_replica is not None and of_replica.offset >= of_primary.offset:
                self._complete_until[replica] = of_primary.asked_at
        known = {replica for replica, _ in pairs}
        self._complete_until = {each: until for each, until in self._complete_until.items() if each in known}

    def _choose(self, root: str) -> tuple[RedisLink, float] | None:
        """Return a replica of a shard that can be used, and until when it is complete. They take turns."""
        oldest = self._monotonic() - MAX_AGE_SECONDS
        usable = [
            (link, until)
            for address in self._cluster.replicas_of(root)
            if (until := self._complete_until.get(address, float("-inf"))) >= oldest
            and (link := self._cluster.link_to(address)).is_up
        ]
        return usable[next(self._turn) % len(usable)] if usable else None

    async def _read(self, link: RedisLink, call: Call) -> Reply:
        for verb in ("EVALSHA_RO", "EVAL_RO"):
            packed = _READONLY + self._scripts.request(call, verb=verb).packed + _READWRITE
            accepted, reply, _ = await link.exchange(packed, 3, Caller.HANDLER)
            if not isinstance(reply, NoScriptError):
                break
        self._raise_first_error([accepted, reply], link.name)
        return reply

    async def _sample(self, address: Address) -> _Sample | None:
        """Return a node's offset in the stream of writes; None if it does not reply, or replicates nothing now."""
        asked_at = self._monotonic()
        try:
            link = self._cluster.link_to(address)
            reply, accepted = await link.exchange(_ROLE, 2, Caller.WORKER)
            self._raise_first_error([reply, accepted], link.name)
            with readable():
                if reply[0] == b"master":
                    return _Sample(asked_at, int(reply[1]))
                return _Sample(asked_at, int(reply[4])) if reply[3] == b"connected" else None
        except StoreError:
            return None

    def _raise_first_error(self, replies: Sequence[Reply], name: str) -> None:
        """Raise the first error as a StoreError. Logs it once if it will not end without an operator."""
        try:
            raise_first_error(replies, name)
        except StoreUnusable as error:
            if any(map(is_redirection, replies)):
                # It has become the replica of another primary.
                self._cluster.refresh_soon()
            elif not self._has_logged_refusal:
                self._has_logged_refusal = True
                log.warning("replicas not used: a command was refused", extra={"error": str(error)})
            raise

    async def _keep_comparing(self) -> None:
        while self._monotonic() - self._used_at < IDLE_SECONDS:
            if self._monotonic() - self._map_read_at >= MAP_SECONDS:
                self._map_read_at = self._monotonic()
                self._cluster.refresh_soon()
            try:
                await self.compare_offsets()
            except Exception:
                # The outermost frame of the task: without comparisons, every status is read from a primary.
                log.exception("replicas not compared")
            await asyncio.sleep(COMPARE_SECONDS)
