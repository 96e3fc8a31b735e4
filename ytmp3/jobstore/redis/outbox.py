"""The `Outbox` on a Redis server. `lua/outbox.lua` has the layout of its records.

If nothing is due, an iteration of the sender costs one round trip: one pipeline reads the lowest score of each shard.
If something is due, a second round trip runs one script on each shard that has due deliveries.

Several instances may take at the same time. The script that takes a delivery raises its token and moves its due time in
one step, so each delivery goes to one instance. A shard that does not reply is left out: its messages wait, and those
of the other shards are sent.
"""

from collections import defaultdict
from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec

from ytmp3.core.webhook import Delivery, DeliveryId, Settlement
from ytmp3.jobstore.outbox import JOBS_AT_ONCE
from ytmp3.jobstore.redis.due import poll_of
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Reply
from ytmp3.jobstore.redis.records import fields_of, readable
from ytmp3.jobstore.redis.shards import Shards


class RunOne(Protocol):
    """Runs the script `script` on the shard of `some_id`."""

    def __call__(self, script: str, some_id: str, *arguments: Argument) -> Awaitable[Reply]:
        """Run it."""
        ...


class RedisOutbox:
    """The deliveries of all shards."""

    def __init__(self, keys: Keys, shards: Shards, *, run: RunOne) -> None:
        """Set up the outbox. `run` runs a script that an HTTP request waits for."""
        self._shards = shards
        self._run = run
        self._keys = keys
        self._earliest = poll_of("outbox", (*keys.roots, keys.batches))

    async def take(self, limit: int, *, lease_seconds: float) -> list[Delivery]:
        """See the Protocol. The limit is divided among the shards that have something due."""
        poll = await self._shards.poll(self._earliest)
        roots = poll.due[:limit]
        # All scripts are sent in one pipeline, and the server processes nothing else meanwhile. So both limits apply to
        # all shards together.
        share, jobs = (max(1, most // max(1, len(roots))) for most in (limit, JOBS_AT_ONCE))
        calls = {root: (repr(lease_seconds), share, jobs) for root in roots}
        replies = await self._shards.run_where_possible("take", calls)
        return [_delivery_of(reply) for shard in replies.values() for reply in shard]

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See the Protocol. A message whose result is never stored is sent again after its lease."""
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
        await self._shards.run("settle", by_shard)

    async def of(self, subject_id: str) -> list[Delivery]:
        """See the Protocol. Creates the deliveries of an ended job first: its owner need not wait for `take`."""
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
