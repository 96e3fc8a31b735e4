"""The `Outbox` on a Redis server. `lua/outbox.lua` has the layout of its records.

If nothing is due, a turn of the sender costs one round trip: one pipeline reads the lowest score of each shard. If
something is due, a second round trip runs one script on each shard that has due deliveries.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from ytmp3.core.webhook import Delivery, DeliveryId, Settlement
from ytmp3.jobstore.outbox import JOBS_AT_ONCE
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Reply, pack
from ytmp3.jobstore.redis.records import fields_of, readable


class RunOne(Protocol):
    """Runs the script `script` on the shard of `some_id`."""

    def __call__(self, script: str, some_id: str, *arguments: Argument) -> Awaitable[Reply]:
        """Run it."""
        ...


class RedisOutbox:
    """The deliveries of all shards."""

    def __init__(
        self,
        keys: Keys,
        *,
        shards_due: Callable[[bytes, Sequence[str]], Awaitable[tuple[float, list[str]]]],
        run_on_shards: Callable[[str, Mapping[str, Sequence[Argument]]], Awaitable[list[Reply]]],
        run_where_possible: Callable[[str, Mapping[str, Sequence[Argument]]], Awaitable[Mapping[str, Reply]]],
        run: RunOne,
    ) -> None:
        """Set up the outbox with functions of the store.

        `shards_due` sends a poll, and returns the time and the shards whose lowest score is due. `run_on_shards` runs a
        script for the sender, and `run` one that an HTTP request waits for. `run_where_possible` does the same as
        `run_on_shards`, but leaves out the shards on which the script fails.
        """
        self._shards_due = shards_due
        self._run_on_shards = run_on_shards
        self._run_where_possible = run_where_possible
        self._run = run
        self._keys = keys
        self._roots = (*keys.roots, keys.batches)
        self._earliest = pack([("TIME",), *(("ZRANGE", f"{root}:outbox", 0, 0, "WITHSCORES") for root in self._roots)])

    async def take(self, limit: int, *, lease_seconds: float) -> list[Delivery]:
        """See the Protocol. The limit is divided among the shards that have something due."""
        _, due = await self._shards_due(self._earliest, self._roots)
        roots = due[:limit]
        # All scripts are sent in one pipeline, and the server processes nothing else meanwhile. So both limits apply to
        # all shards together.
        share, jobs = (max(1, most // max(1, len(roots))) for most in (limit, JOBS_AT_ONCE))
        calls = {root: (repr(lease_seconds), share, jobs) for root in roots}
        replies = await self._run_where_possible("take", calls)
        return [_delivery_of(reply) for shard in replies.values() for reply in shard]

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        by_shard: dict[str, list[Argument]] = defaultdict(list)
        for settlement in settlements:
            by_shard[self._keys.root_of(settlement.delivery_id)] += (
                settlement.delivery_id,
                settlement.token,
                settlement.state,
                repr(settlement.delay_seconds),
                int(settlement.is_attempt),
                "" if settlement.status is None else settlement.status,
                settlement.reason or "",
            )
        await self._run_on_shards("settle", by_shard)

    async def of(self, subject_id: str) -> list[Delivery]:
        return [_delivery_of(reply) for reply in await self._run("deliveries", subject_id, subject_id)]

    async def redeliver(self, delivery_id: DeliveryId) -> Delivery | None:
        reply = await self._run("redeliver", delivery_id, delivery_id)
        return None if reply is None else _delivery_of(reply)


def _delivery_of(reply: Reply) -> Delivery:
    """Return the delivery in a reply of HGETALL.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    with readable():
        return msgspec.convert(fields_of(reply), Delivery, strict=False)
