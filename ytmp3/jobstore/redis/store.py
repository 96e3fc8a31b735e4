"""`JobStore` on a Redis server (7.0 or newer) or Valkey. The package's docstring has the design.

Redis is used for records, and not as a queue. Publish/subscribe only gives hints which record to read (`hints`).

Required server settings: `maxmemory-policy noeviction`, and an append-only file if jobs must survive a crash of Redis.
An `allkeys-*` policy silently deletes jobs, so it is refused. A `volatile-*` policy is accepted: live records have no
time to live, so it can only delete ended conversions early. Then their jobs are unknown, and the sweep removes their
files.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Conversion, Lease, Metadata, State, Ticket, Track
from ytmp3.jobstore import SHELF_SECONDS, Counts, Renewal, Submission, Submitted
from ytmp3.jobstore.records import counts_of, submitted_of
from ytmp3.jobstore.redis.batches import JOBS_AT_ONCE, RedisBatches
from ytmp3.jobstore.redis.clients import RedisClientRecords
from ytmp3.jobstore.redis.due import ClockWatch, Due, LeftBehind, poll_of, roots_until, scored, seconds_of
from ytmp3.jobstore.redis.files import known_files, tracks
from ytmp3.jobstore.redis.hints import RedisHints
from ytmp3.jobstore.redis.indexes import Indexes, is_wrong_type
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, RedisLink, Reply, pack
from ytmp3.jobstore.redis.outbox import RedisOutbox
from ytmp3.jobstore.redis.records import (
    conversion_of,
    error_in_0_2,
    lease_arguments,
    readable,
    renewal_arguments,
    ticket_of,
)
from ytmp3.jobstore.redis.scripts import Call, Scripts
from ytmp3.jobstore.redis.server import ServerCheck
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
        self._clock = clock
        self._link = RedisLink(settings, RedisTimeouts() if timeouts is None else timeouts)
        self._scripts = Scripts(self._link)
        self._keys = Keys(settings.prefix)
        self._indexes = Indexes(
            self._keys, read=self._read, run_on_shards=self._work_on_shards, lease_seconds=policy.lease_seconds
        )
        self._server = ServerCheck(self._link, scripts=self._scripts, keys=self._keys, indexes=self._indexes)
        self.clients = RedisClientRecords(
            policy, self._keys, read=self._read_for_handler, run=self._handle, get_many=self.get_many
        )
        """See the Protocol."""
        self.hints = RedisHints(self._link, self._keys)
        """See the Protocol."""
        self.values = RedisSharedValues(self._work)
        self.batches = RedisBatches(
            policy, instance, keys=self._keys, scripts=self._scripts, link=self._link, call=self._call
        )
        self._monotonic = monotonic or clock or time.monotonic
        self._clock_watch = ClockWatch(
            self._monotonic, lease_seconds=policy.lease_seconds, retention_seconds=policy.retention_seconds
        )
        self._left_behind = LeftBehind(
            self._read_indexes, self._keys, self._monotonic, lease_seconds=policy.lease_seconds
        )
        # These commands are sent every second, so they are encoded once.
        self._earliest_due, self._earliest_expiry = (
            pack(poll_of(index, self._keys.roots)) for index in ("live", "ended")
        )
        self._time = pack([("TIME",)])
        self._tallies = pack([("HMGET", root, *State) for root in self._keys.roots])
        self.outbox = RedisOutbox(
            self._keys,
            shards_due=self._shards_due,
            run_on_shards=self._work_on_shards,
            run_where_possible=self._work_where_possible,
            run=self._handle,
        )
        """See the Protocol."""

    @property
    def policy(self) -> Policy:
        return self._policy

    async def open(self) -> None:
        """Check the server, and send it the scripts. Later calls send a script again if the server has lost it."""
        await self._server.check(self._link.workers)
        await self._scripts.load(self._link.workers)

    async def close(self) -> None:
        await self.hints.close()
        await self._link.close()

    async def ping(self) -> str | None:
        """See the Protocol. Costs one round trip, and more only if an index must be rebuilt."""
        await self._server.check(self._link.handlers)
        await self._indexes.rebuild()
        return self._indexes.fault

    @property
    def is_shared(self) -> bool:
        return True

    async def agrees_on_shelf(self, mark: str) -> bool:
        """See the Protocol. The mark is stored in a key that expires unless an instance renews it."""
        key = self._keys.shelf
        milliseconds = round(SHELF_SECONDS * 1000)
        _, present = await self._read([("SET", key, mark, "NX", "PX", milliseconds), ("GET", key)])
        if is_same := bool(present == mark.encode()):
            await self._read([("PEXPIRE", key, milliseconds)])
        return is_same

    async def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        (time,) = self._without_errors(await self._link.exchange(self._time, 1, self._link.handlers))
        return seconds_of(time)

    async def retention_time(self) -> float:
        return await self.now() - self._clock_watch.ahead_seconds

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
        ticket = ticket_of(reply)
        if ticket is not None and submission.is_listed:
            await self.clients.add(ticket.job)
        return None if ticket is None else submitted_of(ticket, self._instance)

    async def get(self, job_id: JobId) -> Ticket | None:
        return ticket_of(await self._handle("get", job_id, job_id))

    async def get_many(self, job_ids: Sequence[JobId]) -> Mapping[JobId, Ticket]:
        """See the Protocol. One script for each job. JOBS_AT_ONCE of them are sent in one write."""
        found: dict[JobId, Ticket] = {}
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            some_ids = job_ids[start : start + JOBS_AT_ONCE]
            calls = [self._call("get", self._keys.root_of(some_id), (some_id,)) for some_id in some_ids]
            tickets = map(ticket_of, await self._scripts.run_all(calls, self._link.handlers))
            found.update((ticket.job.job_id, ticket) for ticket in tickets if ticket is not None)
        return found

    async def claim(self, lease: Lease) -> Conversion:
        """See the Protocol. If the reply to an earlier claim with the same lease was lost, its result is returned."""
        seconds = repr(self._policy.lease_seconds)
        reply = await self._work("claim", lease.conversion_id, seconds, self._instance, *lease_arguments(lease))
        if reply is None:
            raise LeaseLost
        return conversion_of(reply)

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """See the Protocol. One script for each shard, all sent in one write.

        If a script fails, the leases of the other shards have been extended nevertheless. The caller repeats the call.
        """
        seconds = repr(self._policy.lease_seconds)
        by_shard: dict[str, list[Argument]] = defaultdict(lambda: [seconds])
        for renewal in renewals:
            by_shard[self._keys.root_of(renewal.lease.conversion_id)] += renewal_arguments(renewal)
        replies = await self._work_on_shards("renew", by_shard)
        with readable():
            return frozenset(ConversionId(lost_id.decode()) for lost in replies for lost_id in lost)

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
        return conversion_of(reply)

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        retention = repr(self._policy.retention_seconds)
        arguments = (retention, *lease_arguments(lease), error_in_0_2(code), code)
        if not await self._work("fail", lease.conversion_id, *arguments):
            raise LeaseLost

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool = True) -> None:
        codes = (error_in_0_2(code), code)
        arguments = (repr(delay_seconds), *lease_arguments(lease), *codes, str(int(costs_attempt)))
        if not await self._work("retry", lease.conversion_id, *arguments):
            raise LeaseLost

    async def release(self, leases: Sequence[Lease]) -> None:
        """See the Protocol. One script for each shard, all sent in one write, because a drain waits for it."""
        by_shard: dict[str, list[Argument]] = defaultdict(list)
        for lease in leases:
            by_shard[self._keys.root_of(lease.conversion_id)] += lease_arguments(lease)
        await self._work_on_shards("release", by_shard)

    async def cancel(self, job_id: JobId) -> Ticket | None:
        return ticket_of(await self._handle("cancel", job_id, repr(self._policy.retention_seconds), job_id))

    async def adopt(self, limit: int) -> list[Conversion]:
        """See the Protocol. Takes one round trip if nothing is due, and otherwise three.

        The first reads the earliest due time of every shard, the second reads the due conversions of the shards that
        have any, and the third adopts them. Another instance may adopt them in between. The script checks this, so each
        conversion goes to only one instance. Three times in the length of a lease there is one more round trip, which
        finds leases that a clock that was set back has left far in the future (`due.LeftBehind`).
        """
        now, roots = await self._shards_due(self._earliest_due, self._keys.roots)
        by_shard = await self._conversions_due(now, roots, limit)
        for root, left_behind in (await self._left_behind.find(now, limit)).items():
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
        replies = await self._work_where_possible("adopt", calls)
        with readable():
            adopted = [conversion_of(reply) for shard in replies.values() for reply in shard]
        return sorted(adopted, key=lambda conversion: conversion.created_at)

    async def forget(self, conversion_id: ConversionId) -> None:
        await self._work("forget", conversion_id, conversion_id)

    async def expire(self, limit: int) -> list[str | None]:
        """See the Protocol. Takes one round trip if nothing has expired, and one more for each step.

        A step runs on every shard that has expired conversions left, and divides the most jobs of a step among them.
        """
        now, roots = await self._shards_due(self._earliest_expiry, self._keys.roots, is_expiry=True)
        left = {root: max(1, limit // len(roots)) for root in roots[:limit]}
        removed: list[str | None] = []
        while left:
            jobs_of_shard = max(1, self._policy.jobs_at_once // len(left))
            shares = {root: (conversions, jobs_of_shard) for root, conversions in left.items()}
            replies = await self._work_where_possible("expire", shares, clock=repr(now))
            left = {root: left[root] for root in replies}
            with readable():
                for root, (has_more, file_names) in replies.items():
                    removed += [None if file_name is None else file_name.decode() for file_name in file_names]
                    left[root] -= len(file_names)
                    if not has_more:
                        del left[root]
        return removed

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        return await known_files(self._read, self._keys, file_names)

    async def tracks(self, file_names: Sequence[str]) -> Mapping[str, Track]:
        return await tracks(self._read, self._keys, file_names)

    async def counts(self) -> Counts:
        """See the Protocol. The shards are not read atomically, so a job that changes its status may be missed."""
        replies = await self._link.exchange(self._tallies, len(self._keys.roots), self._link.handlers)
        columns = zip(State, zip(*self._without_errors(replies), strict=True), strict=True)
        return counts_of({state: sum(int(tally or 0) for tally in column) for state, column in columns})

    async def _handle(self, script: str, some_id: str, *arguments: Argument) -> Reply:
        """Run a script that an HTTP request waits for."""
        call = self._call(script, self._keys.root_of(some_id), arguments)
        return await self._scripts.run(call, self._link.handlers)

    async def _work(self, script: str, some_id: str, *arguments: Argument) -> Reply:
        """Run a script that a worker or a housekeeping loop waits for."""
        call = self._call(script, self._keys.root_of(some_id), arguments)
        return await self._scripts.run(call, self._link.workers)

    async def _work_on_shards(
        self, script: str, by_shard: Mapping[str, Sequence[Argument]], *, clock: str | None = None
    ) -> list[Reply]:
        """Run a script once for each shard, with that shard's arguments, for a worker or a housekeeping loop.

        `clock`, if it is not None, is the time for the script.
        """
        if not by_shard:
            return []
        calls = [self._call(script, root, arguments, clock=clock) for root, arguments in by_shard.items()]
        return await self._scripts.run_all(calls, self._link.workers)

    async def _work_where_possible(
        self, script: str, by_shard: Mapping[str, Sequence[Argument]], *, clock: str | None = None
    ) -> dict[str, Reply]:
        """Do the same, and return the replies by shard. A shard on which the script fails is left out.

        So one shard that cannot be used (see `indexes`) does not keep the others from their work.

        Raises:
            StoreError: the script has failed on every shard.
        """
        calls = [self._call(script, root, arguments, clock=clock) for root, arguments in by_shard.items()]
        replies = await self._scripts.try_all(calls, self._link.workers) if calls else []
        done = {root: reply for root, reply in zip(by_shard, replies, strict=True) if not isinstance(reply, Exception)}
        if not done:
            self._without_errors(replies)
        return done

    def _call(self, script: str, root: str, arguments: Iterable[Argument], *, clock: str | None = None) -> Call:
        """Return a call. Its first argument is the time to use, or empty for the server's clock."""
        clock_of_tests = "" if self._clock is None else repr(self._clock())
        return Call(script=script, root=root, arguments=(clock or clock_of_tests, *arguments))

    async def _shards_due(
        self, poll: bytes, roots: Sequence[str], *, is_expiry: bool = False
    ) -> tuple[float, list[str]]:
        """Return the time, and the shards whose lowest score is due, ordered by that score.

        `is_expiry`: the scores are times of expiry, which a clock that was set forward must not bring about early.
        """
        asked_at = self._monotonic()
        replies = await self._link.exchange(poll, len(roots) + 1, self._link.workers)
        time, *lowest = self._without_errors([[] if is_wrong_type(reply) else reply for reply in replies])
        now = self._clock() if self._clock is not None else seconds_of(time)
        self._clock_watch.read(now, asked_at=asked_at)
        now -= self._clock_watch.ahead_seconds if is_expiry else 0.0
        return now, roots_until(now, roots, lowest)

    async def _conversions_due(self, now: float, roots: Sequence[str], limit: int) -> dict[str, list[Due]]:
        """Return the up to `limit` conversions that have been due for the longest time, over all shards, by shard."""
        by_shard: dict[str, list[Due]] = defaultdict(list)
        if not roots:
            return by_shard
        queries = [("ZRANGE", f"{root}:live", 0, max(0, limit - 1), "WITHSCORES") for root in roots]
        due = []
        for root, reply in zip(roots, await self._read_indexes(queries), strict=True):
            due += [(float(score), member, score, root) for member, score in scored(reply)]
        may_take = self._clock_watch.is_trusted
        for time_due, member, score, root in sorted(due)[:limit]:
            if time_due <= now:
                by_shard[root].append(Due(conversion_id=member, score=score, may_take=may_take))
        return by_shard

    async def _read(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        replies = await self._link.exchange(pack(commands), len(commands), self._link.workers)
        return self._without_errors(replies)

    async def _read_indexes(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Read sorted sets. One that another program has overwritten reads as empty (see `indexes`)."""
        replies = await self._link.exchange(pack(commands), len(commands), self._link.workers)
        return self._without_errors([[] if is_wrong_type(reply) else reply for reply in replies])

    async def _read_for_handler(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send commands that an HTTP request waits for."""
        replies = await self._link.exchange(pack(commands), len(commands), self._link.handlers)
        return self._without_errors(replies)

    def _without_errors(self, replies: list[Reply]) -> list[Reply]:
        """Return the replies. If one is an error, raise the first as a StoreError."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._link.as_store_error(reply) from None
        return replies
