"""Questions to the nodes of a cluster, past the network of proxies, with timeouts: a node may be frozen."""

import contextlib
import time
from collections.abc import Callable
from typing import Final, cast

import redis

from tests.stand.redis_cluster import SLOTS, RedisCluster, wait_until
from tests.stand.valkey import Valkey
from ytmp3.core.ids import JobId
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.slots import slots_of

ANSWER_SECONDS: Final = 10.0
"""How long a question to a node may take on a busy machine."""
_ELECTION_WON: Final = "Failover election won"
"""What Valkey logs."""
_SLOT_OF: Final = {shard: slot for root, slot in slots_of(Keys().roots).items() for shard in [root[-3:-1]]}


def ask(node: Valkey, *arguments: str) -> object:
    """Send a command to one node.

    Raises:
        redis.RedisError: it is down, or frozen, or refuses the command.
    """
    client = redis.Redis(host="127.0.0.1", port=node.port, protocol=2, socket_timeout=ANSWER_SECONDS)
    with contextlib.closing(client):
        return cast("Callable[..., object]", client.execute_command)(*arguments)


def is_primary(node: Valkey) -> bool:
    """Return whether a node takes itself for a primary."""
    return cast("list[object]", ask(node, "ROLE"))[0] == b"master"


def slots_at(node: Valkey) -> frozenset[int]:
    """Return the slots that a node has, as it knows them itself."""
    lines = cast("bytes", ask(node, "CLUSTER", "NODES")).decode().splitlines()
    (mine,) = [line.split()[8:] for line in lines if "myself" in line]
    found: set[int] = set()
    for part in mine:
        if not part.startswith("["):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def slot_of_job(job_id: str) -> int:
    """Return the slot with the records of a job."""
    return _SLOT_OF[job_id[:2]]


def jobs_at(node: Valkey) -> frozenset[JobId]:
    """Return all jobs that a node has, primary or replica."""
    names = cast("list[bytes]", ask(node, "KEYS", "*:j:*"))
    return frozenset(JobId(name.decode().rpartition(":")[2]) for name in names)


def primaries(nodes: RedisCluster) -> list[Valkey]:
    """Return the primaries of a healthy cluster."""
    return [node for node in nodes.nodes if is_primary(node)]


def elections_won(nodes: RedisCluster) -> int:
    """Count how often a replica was promoted, by the logs of all nodes."""
    return sum(node.log_path.read_text(errors="replace").count(_ELECTION_WON) for node in nodes.nodes)


def wait_until_promoted(replica: Valkey) -> float:
    """Return when a replica has become a primary, by the monotonic clock."""
    wait_until(lambda: is_primary(replica), "the replica is promoted")
    return time.monotonic()


def wait_until_healed(nodes: RedisCluster) -> None:
    """Return once all nodes agree that all slots are served, and each primary has its replica."""
    wait_until(lambda: _is_healed(nodes), "the cluster has healed")


def _is_healed(nodes: RedisCluster) -> bool:
    count = 0
    for node in nodes.nodes:
        try:
            info = cast("bytes", ask(node, "CLUSTER", "INFO")).decode()
            known = cast("bytes", ask(node, "CLUSTER", "NODES")).decode()
            role = cast("list[object]", ask(node, "ROLE"))
        except redis.RedisError:
            return False
        if "cluster_state:ok" not in info or f"cluster_slots_ok:{SLOTS}" not in info or "fail" in known:
            return False
        is_replica = role[0] == b"slave"
        if is_replica and role[3] != b"connected":
            return False
        count += not is_replica
    return 2 * count == len(nodes.nodes)
