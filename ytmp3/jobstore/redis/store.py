"""`JobStore` on a Redis server (7.0 or newer), a Redis Cluster, or Valkey. The package's docstring has the design.

Redis is used for records, and not as a queue. Publish/subscribe only gives hints which record to read (`hints`).

Required server settings: `maxmemory-policy noeviction`, and an append-only file if jobs must survive a crash of Redis.
An `allkeys-*` policy silently deletes jobs, so it is refused. A `volatile-*` policy is accepted: live records have no
time to live, so it can only delete ended conversions early. Then their jobs are unknown, and the sweep removes their
files.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from ytmp3.core.errors import FailureCode, LeaseLost, RenewalsMissed, StoreError
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Conversion, Lease, Metadata, State, Ticket, Track
from ytmp3.jobstore import SHELF_SECONDS, Counts, Renewal, Submission, Submitted
from ytmp3.jobstore.found import Found
from ytmp3.jobstore.records import counts_of, submitted_of
from ytmp3.jobstore.redis.addresses import servers_of
from ytmp3.jobstore.redis.batches import JOBS_AT_ONCE, RedisBatches
from ytmp3.jobstore.redis.clients import RedisClientRecords
from ytmp3.jobstore.redis.cluster import Cluster
from ytmp3.jobstore.redis.due import Clocks, LeftBehind, poll_of
from ytmp3.jobstore.redis.files import known_files, tracks
from ytmp3.jobstore.redis.hints import RedisHints
from ytmp3.jobstore.redis.indexes import Indexes
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Caller, RedisLink, Reply, store_error_of
from ytmp3.jobstore.redis.nodes import Nodes, OneServer, raise_first_error, request_of
from ytmp3.jobstore.redis.outbox import RedisOutbox
from ytmp3.jobstore.redis.records import (
    conversion_of,
    error_in_0_2,
    lease_arguments,
    readable,
    renewal_arguments,
    ticket_of,
)
from ytmp3.jobstore.redis.replicas import OwnWrites, Replicas
from ytmp3.jobstore.redis.scripts import Scripts
from ytmp3.jobstore.redis.server import ServerCheck
from ytmp3.jobstore.redis.shards import Shards
from ytmp3.jobstore.redis.values import RedisSharedValues
from ytmp3.jobstore.settings import Policy, RedisSettings, RedisTimeouts


class RedisJobStore:
    """The `JobStore` of one instance on a Redis server. Only tests pass a clock, or timeouts of their own.

    `open` checks the server and connects early. The other methods do not depend on it, and work as soon as Redis does.
    """

    def __init__(
        self,
        settings: RedisSettings,
        policy: Policy,
        instance: InstanceId,
        *,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] | None = None,
        timeouts: RedisTimeouts | None = None,
    ) -> None:
        """Set up the store without connecting.

        Raises:
            StoreUnusable: the address is not valid.
        """
        self._policy = policy
        self._instance = instance
        self._keys = Keys(settings.prefix)
        self._nodes = _nodes_of(settings, timeouts or RedisTimeouts(), (*self._keys.roots, self._keys.batches))
        self._scripts = Scripts(self._nodes)
        self._own_writes = OwnWrites(time.monotonic)
        self._replicas: Replicas | None = None
        if settings.reads_replicas and isinstance(self._nodes, Cluster):
            self._replicas = Replicas(self._nodes, self._scripts, self._own_writes)
        monotonic = monotonic or clock or time.monotonic
        self._clocks = Clocks(
            monotonic,
            is_cluster=self._nodes.is_cluster,
            lease_seconds=policy.lease_seconds,
            retention_seconds=policy.retention_seconds,
        )
        self._shards = Shards(self._nodes, self._scripts, self._clocks, clock=clock, monotonic=monotonic)
        self._indexes = Indexes(
            self._keys,
            read_at=self._shards.read_at,
            run_on_shards=self._shards.run,
            lease_seconds=policy.lease_seconds,
        )
        self._server = ServerCheck(self._nodes, scripts=self._scripts, keys=self._keys, indexes=self._indexes)
        self.clients = RedisClientRecords(
            policy, self._keys, read=self._shards.read_for_handler, run=self._handle, get_many=self.get_many
        )
        """See the Protocol."""
        self.hints = RedisHints(self._nodes, self._keys)
        """See the Protocol."""
        if isinstance(self._nodes, Cluster):
            self._nodes.on_departure = self.hints.reconnect
        self.values = RedisSharedValues(self._work)
        self.batches = RedisBatches(
            policy,
            instance,
            keys=self._keys,
            scripts=self._scripts,
            call=self._shards.call,
            wrote=self._own_writes.note,
        )
        self._left_behind = LeftBehind(self._shards.read_indexes, monotonic, lease_seconds=policy.lease_seconds)
        # These commands are sent every second, so they are encoded once.
        self._earliest_due, self._earliest_expiry = (poll_of(index, self._keys.roots) for index in ("live", "ended"))
        self._tallies = [request_of(("HMGET", root, *State)) for root in self._keys.roots]
        self.outbox = RedisOutbox(self._keys, self._shards, run=self._handle)
        """See the Protocol."""

    @property
    def policy(self) -> Policy:
        return self._policy

    async def open(self) -> None:
        """Check the server, and send it the scripts. Later calls send a script again if the server has lost it.

        The check is first, so that a server which must not be used is refused with the reason, and not with the error
        of a script.
        """
        await self._server.check(Caller.WORKER)
        await self._server.load_scripts(Caller.WORKER)

    async def close(self) -> None:
        await self.hints.close()
        if self._replicas is not None:
            await self._replicas.close()
        await self._nodes.close()

    async def ping(self) -> str | None:
        """See the Protocol. Costs one round trip, and more only if an index must be rebuilt."""
        fault = await self._server.check(Caller.HANDLER)
        for repair in (self._indexes.rebuild, self.clients.add_kept):
            try:
                await repair()
            except StoreError as error:
                # The check has shown that new records are accepted; only this part waits for the next check.
                fault = fault or str(error)
        return fault or self._indexes.fault

    @property
    def is_shared(self) -> bool:
        return True

    async def agrees_on_shelf(self, mark: str) -> bool:
        """See the Protocol. The mark is stored in a key that expires unless an instance renews it."""
        key = self._keys.shelf
        milliseconds = round(SHELF_SECONDS * 1000)
        _, present = await self._shards.read([("SET", key, mark, "NX", "PX", milliseconds), ("GET", key)])
        if is_same := bool(present == mark.encode()):
            await self._shards.read([("PEXPIRE", key, milliseconds)])
        return is_same

    async def now(self) -> float:
        return await self._shards.now(Caller.HANDLER)

    async def retention_time(self) -> float:
        return await self.now() - self._clocks.ahead_seconds

    async def submit(self, submission: Submission, *, may_create: bool, may_join: bool = True) -> Submitted | None:
        """See the Protocol. All ids of a submission have the shard of its key, so one script can access all records."""
        reply = await self._handle(
            "submit",
            submission.job_id,
            repr(self._policy.lease_seconds),
            repr(self._policy.retention_seconds),
            self._instance,
            *(int(may_create), int(may_join)),
            self._policy.jobs_of_conversion,
            *(submission.job_id, submission.conversion_id),
            *(submission.key, submission.video_id),
            submission.recipe.quality or "",
            submission.client,
            msgspec.json.encode(submission.webhooks) if submission.webhooks else b"",
            submission.batch_id or "",
            msgspec.json.encode(submission.edits) if submission.edits is not None else b"",
        )
        ticket = self._noted(ticket_of(reply))
        if ticket is not None and submission.is_listed:
            add = self.clients.add_or_keep if self._nodes.is_cluster else self.clients.add
            await add(ticket.job)
        return None if ticket is None else submitted_of(ticket, self._instance)

    async def get(self, job_id: JobId, *, may_lag: bool = False) -> Ticket | None:
        """See the Protocol. If no replica may answer, or none knows the job, the primary is asked."""
        if may_lag and self._replicas is not None:
            call = self._shards.call("get", self._keys.root_of(job_id), (job_id,))
            if (ticket := await self._replicas.get(call, job_id)) is not None:
                return ticket
        return ticket_of(await self._handle("get", job_id, job_id))

    async def get_many(self, job_ids: Sequence[JobId]) -> Found:
        """See the Protocol. One script for each job. JOBS_AT_ONCE of them are sent in one write.

        A job that could not be read is not left out but `unread`: a caller must not take it for one that is gone.
        """
        tickets: dict[JobId, Ticket] = {}
        failed: dict[JobId, Reply] = {}
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            some_ids = job_ids[start : start + JOBS_AT_ONCE]
            calls = [self._shards.call("get", self._keys.root_of(some_id), (some_id,)) for some_id in some_ids]
            for job_id, reply in zip(some_ids, await self._scripts.try_all(calls, Caller.HANDLER), strict=True):
                if isinstance(reply, Exception):
                    failed[job_id] = reply
                elif (ticket := ticket_of(reply)) is not None:
                    tickets[job_id] = ticket
        if len(failed) == len(set(job_ids)):
            raise_first_error(failed.values(), self._nodes.name)
        return Found(tickets=tickets, unread=frozenset(failed))

    async def claim(self, lease: Lease) -> Conversion:
        """See the Protocol. If the reply to an earlier claim with the same lease was lost, its result is returned."""
        seconds = repr(self._policy.lease_seconds)
        reply = await self._work("claim", lease.conversion_id, seconds, self._instance, *lease_arguments(lease))
        if reply is None:
            raise LeaseLost
        self._own_writes.note(lease.conversion_id)
        return conversion_of(reply)

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """See the Protocol. One script for each shard, all sent in one write to each server.

        If a script fails, the leases of the other shards have been extended nevertheless.
        """
        seconds = repr(self._policy.lease_seconds)
        by_shard: dict[str, list[Argument]] = defaultdict(lambda: [seconds])
        for renewal in renewals:
            by_shard[self._keys.root_of(renewal.lease.conversion_id)] += renewal_arguments(renewal)
        replies = dict(zip(by_shard, await self._shards.attempt("renew", by_shard), strict=True))
        ids = [renewal.lease.conversion_id for renewal in renewals]
        self._own_writes.note(*ids)
        failed = {root: reply for root, reply in replies.items() if isinstance(reply, Exception)}
        if len(failed) == len(replies):
            raise_first_error(failed.values(), self._nodes.name)
        with readable():
            lists = [reply for root, reply in replies.items() if root not in failed]
            lost = frozenset(ConversionId(lost_id.decode()) for lost in lists for lost_id in lost)
        if failed:
            missed = frozenset(each for each in ids if self._keys.root_of(each) in failed)
            text = str(store_error_of(next(iter(failed.values())), self._nodes.name))
            raise RenewalsMissed(text, lost=lost, missed=missed)
        return lost

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """See the Protocol. The track is sent as JSON; the script recognises a repeated call by the same bytes."""
        reply = await self._work(
            "finish",
            lease.conversion_id,
            repr(self._policy.retention_seconds),
            *lease_arguments(lease),
            track.file_name,
            msgspec.json.encode(track),
            msgspec.json.encode(metadata),
        )
        if reply is None:
            raise LeaseLost
        self._own_writes.note(lease.conversion_id)
        return conversion_of(reply)

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        """See the Protocol. The record gets the code, and the one that instances of version 0.2 know for it."""
        retention = repr(self._policy.retention_seconds)
        arguments = (retention, *lease_arguments(lease), error_in_0_2(code), code)
        if not await self._work("fail", lease.conversion_id, *arguments):
            raise LeaseLost
        self._own_writes.note(lease.conversion_id)

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool = True) -> None:
        """See the Protocol. The script also records this instance, so that another one may adopt the retry first."""
        codes = (error_in_0_2(code), code)
        arguments = (repr(delay_seconds), *lease_arguments(lease), *codes, str(int(costs_attempt)))
        if not await self._work("retry", lease.conversion_id, *arguments):
            raise LeaseLost
        self._own_writes.note(lease.conversion_id)

    async def release(self, leases: Sequence[Lease]) -> None:
        """See the Protocol. One script for each shard, all sent in one write, because a drain waits for it."""
        by_shard: dict[str, list[Argument]] = defaultdict(list)
        for lease in leases:
            by_shard[self._keys.root_of(lease.conversion_id)] += lease_arguments(lease)
        await self._shards.run("release", by_shard)
        self._own_writes.note(*(lease.conversion_id for lease in leases))

    async def cancel(self, job_id: JobId) -> Ticket | None:
        """See the Protocol. If a worker runs the conversion, its next renewal is refused, and it stops."""
        reply = await self._handle("cancel", job_id, repr(self._policy.retention_seconds), job_id)
        return self._noted(ticket_of(reply))

    async def adopt(self, limit: int) -> list[Conversion]:
        """See the Protocol. Takes one round trip if nothing is due, and otherwise three.

        The first reads the earliest due time of every shard, the second reads the due conversions of the shards that
        have any, and the third adopts them. Another instance may adopt them in between. The script checks this, so each
        conversion goes to only one instance. Three times in the length of a lease there is one more round trip, which
        finds leases that a clock that was set back has left far in the future (`due.LeftBehind`).
        """
        poll = await self._shards.poll(self._earliest_due)
        by_shard = await self._shards.conversions_due(poll, limit)
        for root, left_behind in (await self._left_behind.find(poll.times, limit)).items():
            by_shard[root] += left_behind
        common: tuple[Argument, ...] = (
            repr(self._policy.lease_seconds),
            repr(self._policy.retention_seconds),
            self._instance,
            self._policy.crash_limit,
        )
        calls = {
            root: (*common, *(argument for each in due for argument in each.arguments))
            for root, due in by_shard.items()
        }
        replies = await self._shards.run_where_possible("adopt", calls)
        with readable():
            adopted = [conversion_of(reply) for shard in replies.values() for reply in shard]
        self._own_writes.note(*(conversion.conversion_id for conversion in adopted))
        return sorted(adopted, key=lambda conversion: conversion.created_at)

    async def forget(self, conversion_id: ConversionId) -> None:
        """See the Protocol. Removes the key by which submissions find the conversion, and not the conversion itself."""
        await self._work("forget", conversion_id, conversion_id)
        self._own_writes.note(conversion_id)

    async def expire(self, limit: int) -> list[str | None]:
        """See the Protocol. Takes one round trip if nothing has expired, and one more for each step.

        A step runs on every shard that has expired conversions left, and divides the most jobs of a step among them.
        """
        poll = await self._shards.poll(self._earliest_expiry, is_expiry=True)
        left = {root: max(1, limit // len(poll.due)) for root in poll.due[:limit]}
        removed: list[str | None] = []
        while left:
            jobs_of_shard = max(1, self._policy.jobs_at_once // len(left))
            shares = {root: (conversions, jobs_of_shard) for root, conversions in left.items()}
            replies = await self._shards.run_where_possible("expire", shares, times=poll.times)
            left = {root: left[root] for root in replies}
            with readable():
                for root, (has_more, file_names) in replies.items():
                    removed += [None if file_name is None else file_name.decode() for file_name in file_names]
                    left[root] -= len(file_names)
                    if not has_more:
                        del left[root]
        return removed

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        return await known_files(self._shards.read, self._keys, file_names)

    async def tracks(self, file_names: Sequence[str]) -> Mapping[str, Track]:
        return await tracks(self._shards.read, self._keys, file_names)

    async def counts(self) -> Counts:
        """See the Protocol. The shards are not read atomically, so a job that changes its status may be missed."""
        replies = await self._nodes.send(self._tallies, Caller.HANDLER)
        usable = [reply for reply in replies if not isinstance(reply, Exception)]
        if not usable:
            raise_first_error(replies, self._nodes.name)
        columns = zip(State, zip(*usable, strict=True), strict=True)
        counts = counts_of({state: sum(int(tally or 0) for tally in column) for state, column in columns})
        return replace(counts, is_complete=len(usable) == len(replies))

    def _noted(self, ticket: Ticket | None) -> Ticket | None:
        """Record that this instance has written to a job and its conversion."""
        if ticket is not None:
            self._own_writes.note(ticket.job.job_id, ticket.conversion.conversion_id)
        return ticket

    async def _handle(self, script: str, some_id: str, *arguments: Argument) -> Reply:
        """Run a script that an HTTP request waits for."""
        call = self._shards.call(script, self._keys.root_of(some_id), arguments)
        return await self._scripts.run(call, Caller.HANDLER)

    async def _work(self, script: str, some_id: str, *arguments: Argument) -> Reply:
        """Run a script that a worker or a housekeeping loop waits for."""
        call = self._shards.call(script, self._keys.root_of(some_id), arguments)
        return await self._scripts.run(call, Caller.WORKER)


def _nodes_of(settings: RedisSettings, timeouts: RedisTimeouts, roots: Sequence[str]) -> Nodes:
    """Return the servers that the settings name.

    Raises:
        StoreUnusable: the address is not valid.
    """
    is_cluster, servers = servers_of(settings, timeouts)
    if is_cluster:
        return Cluster(servers, timeouts, roots)
    return OneServer(RedisLink(servers[0], timeouts), roots)
