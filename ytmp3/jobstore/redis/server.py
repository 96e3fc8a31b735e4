"""Checks the server: does it accept new records and keep them, and is it one that can be the job store?

A Sentinel, and one node of a Redis Cluster, speak Redis' protocol as well. A node of a cluster refuses the keys of
other nodes. Without the check for it, a node could look healthy while most submissions fail.
"""

from collections.abc import Mapping
from typing import Final

from redis.exceptions import NoScriptError, ResponseError

from ytmp3.core.errors import StoreFull, StoreUnusable
from ytmp3.jobstore.redis.indexes import Indexes
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import PoolShare, RedisLink, Reply, pack
from ytmp3.jobstore.redis.scripts import Call, Scripts

SENTINEL: Final = (
    "this is a Sentinel, which keeps no records: name the Redis server that it watches in REDIS_ADDR (or a host name "
    "or proxy that follows the primary)"
)
NODE_OF_CLUSTER: Final = (
    "this is one node of a Redis Cluster, which keeps only a part of the records: name a single Redis server in "
    "REDIS_ADDR, or a proxy for the whole cluster"
)
_EVICTS_LIVE_RECORDS: Final = "allkeys-"


class ServerCheck:
    """Checks one server, in one round trip."""

    def __init__(self, link: RedisLink, *, scripts: Scripts, keys: Keys, indexes: Indexes) -> None:
        self._link = link
        self._scripts = scripts
        self._keys = keys
        self._indexes = indexes

    async def check(self, share: PoolShare) -> None:
        """Check whether the server accepts new records, and keeps them.

        Each command detects another fault. DEL is a write that even a full server accepts, but a replica, a loading
        server, and a server that cannot write to its disk refuse it. INFO shows whether memory is exhausted and which
        eviction policy is set. A script shows whether the user may run scripts. INFO and CLUSTER INFO tell a Sentinel,
        and a node of a cluster, from a server that has all records. The types of some keys are passed to `indexes`.

        Raises:
            StoreDown, StoreFull, StoreUnusable
        """
        script = self._scripts.packed(Call(script="get", root=self._keys.roots[0], arguments=("", "")))
        names = self._indexes.next_part()
        questions = pack(
            [
                ("CLUSTER", "INFO"),
                ("DEL", self._keys.probe),
                ("INFO", "memory", "server"),
                *(("TYPE", name) for name in names),
            ]
        )
        replies = await self._link.exchange(questions + script, len(names) + 4, share)
        cluster, deletion, info, *types, answer = replies
        if (reason := unsuitable(info, cluster)) is not None:
            raise StoreUnusable(f"{self._link.name}: {reason}")
        for reply in (deletion, answer):
            if isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                raise self._link.as_store_error(reply) from None
        self._indexes.found(names, types)
        if isinstance(info, ResponseError):
            # Some providers forbid INFO. In that case the operator must check the settings.
            return
        facts = facts_of(info)
        policy = facts.get("maxmemory_policy", "")
        if policy.startswith(_EVICTS_LIVE_RECORDS):
            raise StoreUnusable(f"{self._link.name}: maxmemory-policy {policy} deletes jobs: set it to noeviction")
        limit = int(facts.get("maxmemory", 0))
        counted = int(facts.get("used_memory", 0)) - int(facts.get("mem_not_counted_for_evict", 0))
        if limit and counted >= limit:
            raise StoreFull(f"{self._link.name}: out of memory (maxmemory)")


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
