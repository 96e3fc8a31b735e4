"""What all instances of a fleet share: a Valkey, and the egress routes to YouTube."""

import argparse
import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from redis import Redis

from scripts.bench.capacity_model import MOST_IDENTITIES
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from ytmp3.core.identities import Budget

VIDEOS_PER_HOUR: Final = 240
"""The default budget of an identity."""
HEADROOM: Final = 1.2
"""So many times as many identities as the rate needs on average."""
SETTINGS: Final = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}


@contextlib.contextmanager
def redis_of(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """Yield the REDIS_ADDR of the fleet: of the option, or of a Valkey or cluster that is started for the block.

    The primaries of the cluster have no replicas.
    """
    if options.redis:
        yield options.redis
        return
    if options.primaries > 1:
        nodes = RedisCluster(folder / "cluster", primaries=options.primaries, has_replicas=False, settings=SETTINGS)
        with nodes.running():
            yield nodes.address
        return
    (folder / "valkey").mkdir()
    valkey = Valkey(folder / "valkey", settings=SETTINGS)
    valkey.start()
    try:
        yield valkey.address
    finally:
        valkey.stop()


def nodes_of(addresses: str) -> list[Redis]:
    """Return a plain client of each server. The caller closes them."""
    return [Redis.from_url(f"redis://{address}") for address in addresses.removeprefix("cluster://").split(",")]


def budgets_of(per_hour: float, identities: int | None) -> list[Budget]:
    """Return so many identities, or as many as the rate needs. One without a budget for 0.

    If the rate needs more than one installation takes, their budgets are larger instead. A short step would not show
    that the budgets are too small, because each identity may begin with a burst.
    """
    count = identities
    if count is None:
        count = min(MOST_IDENTITIES, math.ceil(HEADROOM * per_hour / VIDEOS_PER_HOUR))
    if not count:
        return [Budget(name="default", videos_per_hour=0)]
    budget = max(VIDEOS_PER_HOUR, math.ceil(HEADROOM * per_hour / count))
    return [Budget(name=f"address-{number:04d}", videos_per_hour=budget) for number in range(count)]


def write_identities(folder: Path, per_hour: float, identities: int | None) -> None:
    """Write the file of the identities."""
    path = folder / "identities"
    path.touch(mode=0o600)
    budgets = budgets_of(per_hour, identities)
    path.write_text("".join(f"{each.name} videos_per_hour={each.videos_per_hour}\n" for each in budgets))
