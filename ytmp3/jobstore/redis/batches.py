"""The batches of the shared store: `BatchStore` by scripts on one hash slot.

All batches have one key prefix (root), instead of one for each shard: there are few batches, and so one script can
adopt them instead of one for each shard. It also makes the limits exact: the script that creates a batch counts those
of the client and those of all clients in the same step, so requests at the same moment cannot exceed a limit together.

The price is that a Redis Cluster has all batches on one node. While that node is down, no batch is created or
continued. The jobs of the items are in the shards of their videos, like all other jobs, so a script cannot change a
batch and a job in one step. The order of the writes makes up for that (`core.batch`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from ytmp3.core.batch import Batch, BatchLease, Item
from ytmp3.core.errors import LeaseLost
from ytmp3.core.ids import BatchId, InstanceId, JobId
from ytmp3.core.tag_edits import BatchTags
from ytmp3.jobstore.batches import MAX_UNFINISHED, MAX_UNFINISHED_OF_CLIENT, Filling, NewBatch, Refusal
from ytmp3.jobstore.records import decode_items, encode_items, with_known_batch_recipe
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Caller, Reply
from ytmp3.jobstore.redis.records import fields_of, readable, targets_of
from ytmp3.jobstore.redis.scripts import Call, Scripts
from ytmp3.jobstore.settings import Policy

JOBS_AT_ONCE: Final = 100
"""Most jobs that are read, or whose tracks are kept, in one round trip. The server takes about 3 ms for them."""
_REFUSALS: Final = {1: Refusal.CLIENT_FULL, 2: Refusal.FULL}
"""The refusals in the reply of `lua/batch_create.lua`."""

MakeCall = Callable[[str, str, Iterable[Argument]], Call]
"""Makes a call of a script from its name, its root and its arguments; the store adds its clock."""


class RedisBatches:
    """See the Protocol `BatchStore`."""

    def __init__(
        self,
        policy: Policy,
        instance: InstanceId,
        *,
        keys: Keys,
        scripts: Scripts,
        call: MakeCall,
        wrote: Callable[..., None],
    ) -> None:
        """Set up the batches. `wrote` is called with the ids of changed records (`replicas.OwnWrites`)."""
        self._keys = keys
        self._policy = policy
        self._instance = instance
        self._scripts = scripts
        self._call = call
        self._wrote = wrote

    async def create(self, new: NewBatch) -> Batch | Refusal:
        """See the Protocol. A full server refuses only this script on batches, so that running batches can end."""
        reply = await self._run(
            Caller.HANDLER,
            "batch_create",
            repr(self._policy.retention_seconds),
            MAX_UNFINISHED_OF_CLIENT,
            MAX_UNFINISHED,
            new.batch_id,
            new.client,
            new.recipe.spelling,
            new.marks,
            encode_items(new.items),
            msgspec.json.encode(new.webhooks) if new.webhooks else b"",
            new.playlist or "",
            int(new.is_split),
            msgspec.json.encode(new.tags) if new.tags is not None else b"",
        )
        return _REFUSALS[reply] if isinstance(reply, int) else _batch_of(reply)

    async def get(self, batch_id: BatchId) -> Batch | None:
        reply = await self._run(Caller.HANDLER, "batch_get", batch_id)
        return _batch_of(reply) if reply else None

    async def items(self, batch_id: BatchId) -> tuple[Item, ...]:
        reply = await self._run(Caller.HANDLER, "batch_items", batch_id)
        return () if reply is None else decode_items(reply)

    async def cancel(self, batch_id: BatchId) -> Batch | None:
        """See the Protocol. It only sets a field: the holder, which knows the open items, cancels their jobs."""
        reply = await self._run(Caller.HANDLER, "batch_cancel", batch_id)
        return _batch_of(reply) if reply else None

    async def adopt(self, limit: int) -> list[Batch]:
        """See the Protocol. The script changes the holder and the token, so two instances never get the same batch."""
        lease_seconds = repr(self._policy.lease_seconds)
        reply = await self._run(Caller.WORKER, "batch_adopt", lease_seconds, self._instance, limit)
        with readable():
            return [_batch_of(each) for each in reply]

    async def save(self, lease: BatchLease, marks: str, *, is_ended: bool = False) -> Batch:
        return await self._save(lease, marks, is_ended)

    async def _save(self, lease: BatchLease, marks: str, is_ended: bool, *more: Argument) -> Batch:  # noqa: FBT001
        """Run `batch_save`. `more` are the items as JSON, and names and values of further fields.

        The script checks the lease, and recognises a repeated end by the same marks: its reply may have been lost.

        Raises:
            LeaseLost: another instance holds the batch, or it has ended in another way.
        """
        lease_seconds = repr(self._policy.lease_seconds)
        arguments = (lease_seconds, *_lease_arguments(lease), marks, int(is_ended), *more)
        reply = await self._run(Caller.WORKER, "batch_save", *arguments)
        if reply is None:
            raise LeaseLost
        return _batch_of(reply)

    async def fill(self, lease: BatchLease, filling: Filling) -> Batch:
        """See the Protocol. Items and marks are written by one script: neither is ever stored without the other."""
        more: list[Argument] = ["is_truncated", int(filling.is_truncated)]
        for name, value in (("title", filling.title), ("error", filling.error)):
            more += [] if value is None else [name, value]
        return await self._save(lease, filling.marks, filling.is_end, encode_items(filling.items), *more)

    async def release(self, leases: Sequence[BatchLease]) -> None:
        if leases:
            arguments = [argument for lease in leases for argument in _lease_arguments(lease)]
            await self._run(Caller.WORKER, "batch_release", *arguments)

    async def keep(self, job_ids: Sequence[JobId], seconds: float) -> frozenset[JobId]:
        """See the Protocol. One script for each shard, and one round trip for each JOBS_AT_ONCE.

        If it fails in the middle, some tracks are kept already. That does no harm: the caller repeats the whole call,
        and an expiry is only ever moved to a later time.
        """
        kept: set[JobId] = set()
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            by_shard: dict[str, list[JobId]] = defaultdict(list)
            for job_id in job_ids[start : start + JOBS_AT_ONCE]:
                by_shard[self._keys.root_of(job_id)].append(job_id)
            common = (repr(self._policy.retention_seconds), repr(seconds))
            calls = [self._call("keep", root, (*common, *some)) for root, some in by_shard.items()]
            replies = await self._scripts.run_all(calls, Caller.WORKER)
            self._wrote(*job_ids[start : start + JOBS_AT_ONCE])
            for some, reply in zip(by_shard.values(), replies, strict=True):
                with readable():
                    kept.update(job_id for job_id, is_kept in zip(some, reply, strict=True) if is_kept)
        return frozenset(kept)

    async def expire(self, limit: int) -> int:
        return int(await self._run(Caller.WORKER, "batch_expire", limit))

    async def unfinished(self) -> int:
        return int(await self._run(Caller.HANDLER, "batch_count"))

    async def _run(self, caller: Caller, script: str, *arguments: Argument) -> Reply:
        return await self._scripts.run(self._call(script, self._keys.batches, arguments), caller)


def _lease_arguments(lease: BatchLease) -> tuple[Argument, Argument, Argument]:
    return lease.batch_id, lease.token, lease.holder


def _batch_of(reply: Reply) -> Batch:
    """Return the batch in a reply of HGETALL.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    with readable():
        fields = fields_of(reply)
        webhooks, tags = targets_of(fields), fields.pop("tags", None)
        batch = replace(msgspec.convert(fields, Batch, strict=False), webhooks=webhooks)
        if tags is not None:
            batch = replace(batch, tags=msgspec.json.decode(tags, type=BatchTags))
        return with_known_batch_recipe(batch)
