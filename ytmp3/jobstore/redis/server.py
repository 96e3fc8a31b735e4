"""Detects servers that speak Redis' protocol but cannot be the job store: a Sentinel, and one node of a Redis Cluster.

A node of a cluster refuses the keys of other nodes. The check of the store uses one key. Without this module, a node
might pass the check while most submissions fail.
"""

from collections.abc import Mapping
from typing import Final

from ytmp3.jobstore.redis.link import Reply

SENTINEL: Final = (
    "this is a Sentinel, which keeps no records: name the Redis server that it watches in REDIS_ADDR (or a host name "
    "or proxy that follows the primary)"
)
NODE_OF_CLUSTER: Final = (
    "this is one node of a Redis Cluster, which keeps only a part of the records: name a single Redis server in "
    "REDIS_ADDR, or a proxy for the whole cluster"
)


def facts_of(reply: Reply) -> Mapping[str, str]:
    """Parse a reply of INFO or CLUSTER INFO. Returns no values if the server refused the command."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def unsuitable(info: Reply, cluster_info: Reply) -> str | None:
    """Return why the server cannot be the job store, and what to do; None if it can.

    `info` is the reply of INFO with the section `server`, and `cluster_info` that of CLUSTER INFO, which a server
    outside a cluster refuses. A cluster of one node has all records, so it can be used.
    """
    facts = facts_of(info)
    # Redis uses the first name, Valkey the second.
    if "sentinel" in {facts.get("redis_mode"), facts.get("server_mode")}:
        return SENTINEL
    if int(facts_of(cluster_info).get("cluster_size", "1")) > 1:
        return NODE_OF_CLUSTER
    return None
