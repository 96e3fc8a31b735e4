"""What the shared states of the identities cost: one value, which every conversion reads and changes.

In a Redis Cluster, this value is on one node, whatever the number of nodes. Each conversion here takes a token and
reports that YouTube served it, through the code of the engine, and does nothing else.

A change reads the value, computes the next one and writes it if nobody else has written meanwhile. So of all changes
that overlap only one succeeds, and the others are repeated: the time of a conversion's changes bounds the conversions
of all instances together.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from scripts.bench.services import Bench, Row, running_valkey
from scripts.fleet.instances import CountedValues
from tests.contract.harness import PATIENT, POLICY
from tests.stand.valkey import RedisUse, Valkey, redis_use
from ytmp3.core.identities import Budget, Standing
from ytmp3.core.ids import InstanceId, VideoId
from ytmp3.engine.events import Events
from ytmp3.engine.identities import VALUE_NAME, Identities, encode
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings

IDENTITIES: Final = (1, 417, 1000)
"""Numbers of identities: 417 suffice for 100,000 conversions an hour, and a file may have 1,000."""
AMPLE: Final = 10_000_000
"""A budget, in videos an hour, that holds up no conversion."""
WARM_UP: Final = 5
"""Conversions before the measurement."""


class Use(Struct, frozen=True, kw_only=True):
    """What Redis and this process have used since their start."""

    redis: RedisUse
    instance_seconds: float
    """CPU time of this process."""
    traffic_bytes: int
    """Received and sent by Redis."""


async def identity_states(bench: Bench) -> list[Row]:
    """Measure with different numbers of identities."""
    return [row for count in IDENTITIES for row in await _measured(bench, count)]


async def _measured(bench: Bench, identity_count: int) -> list[Row]:
    conversions = 30 if bench.is_quick else 300
    budgets = [Budget(name=f"address-{number:04d}", videos_per_hour=AMPLE) for number in range(identity_count)]
    async with running_valkey(bench) as valkey:
        settings = RedisSettings(address=valkey.address)
        store = RedisJobStore(settings, POLICY, InstanceId("a"), timeouts=PATIENT)
        values = CountedValues(store.values)
        identities = Identities(values=values, events=Events(), clock=time.monotonic)
        identities.use(budgets)
        try:
            await _store_states(store, budgets)
            for number in range(WARM_UP):
                await _convert(identities, number)
            scripts, before = values.reads + values.writes, _use_of(valkey)
            for number in range(conversions):
                await _convert(identities, WARM_UP + number)
            after = _use_of(valkey)
            scripts = values.reads + values.writes - scripts
        finally:
            await store.close()
    redis = (after.redis.cpu_seconds - before.redis.cpu_seconds) / conversions
    instance = (after.instance_seconds - before.instance_seconds) / conversions
    commands = (after.redis.commands - before.redis.commands) / conversions
    kilobytes = (after.traffic_bytes - before.traffic_bytes) / conversions / 1000
    return [
        Row(
            what=f"states of {identity_count} identities: CPU time of {part} for a conversion",
            value=1000 * seconds,
            goal=None,
            at_least=False,
            unit="ms",
            note=note,
        )
        for part, seconds, note in (
            ("Redis", redis, f"{scripts / conversions:.1f} scripts, {commands:.1f} commands, {kilobytes:.0f} kB"),
            ("the instance", instance, f"both in turn: {3600 / (redis + instance):,.0f} conversions an hour"),
        )
    ]


async def _store_states(store: RedisJobStore, budgets: Sequence[Budget]) -> None:
    """Store a state for each identity, as after some hours of use."""
    now = (await store.values.read(VALUE_NAME)).now
    standing = Standing(tokens=20.0, at=now, served_at=now)
    await store.values.replace(VALUE_NAME, None, encode({budget.name: standing for budget in budgets}))


async def _convert(identities: Identities, number: int) -> None:
    """Do what a conversion does with the identities."""
    video_id = VideoId(f"v{number:010d}")
    grant = await identities.take(video_id)
    if grant is None:
        raise RuntimeError("no identity allows a start")
    grant.begin()
    grant.reached()
    grant.served(video_id)
    grant.ended()
    await identities.close()


def _use_of(valkey: Valkey) -> Use:
    with contextlib.closing(valkey.client()) as client:
        info: dict[str, Any] = client.info()
    return Use(
        redis=redis_use(info),
        instance_seconds=time.process_time(),
        traffic_bytes=info["total_net_input_bytes"] + info["total_net_output_bytes"],
    )
