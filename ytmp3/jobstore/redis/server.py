"""Checks the servers: do they accept new records and keep them, and are they such that can be the job store?

A Sentinel, and one node of a Redis Cluster, speak Redis' protocol as well. A node of a cluster refuses the keys of
other nodes. Without the check for it, a node could look healthy while most submissions fail.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from redis.exceptions import NoScriptError

from ytmp3.core.errors import StoreDown, StoreError, StoreFull, StoreUnusable
from ytmp3.jobstore.redis.indexes import Indexes
from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Caller, RedisLink, Reply, pack
from ytmp3.jobstore.redis.nodes import Nodes, is_redirection
from ytmp3.jobstore.redis.scripts import Call, Scripts

SENTINEL: Final = (
    "this is a Sentinel, which keeps no records: name the Redis server that it watches in REDIS_ADDR (or a host name "
    "or proxy that follows the primary)"
)
NODE_OF_CLUSTER: Final = (
    "this is one node of a Redis Cluster, which keeps only a part of the records: name several of its nodes in "
    "REDIS_ADDR, separated by commas, or write cluster://host:port"
)
_EVICTS_LIVE_RECORDS: Final = "allkeys-"


class ServerCheck:
    """Checks each server, in one round trip, all in parallel."""

    def __init__(self, nodes: Nodes, *, scripts: Scripts, keys: Keys, indexes: Indexes) -> None:
        self._nodes = nodes
        self._scripts = scripts
        self._keys = keys
        self._indexes = indexes

    async def check(self, caller: Caller) -> str | None:
        """Check whether the servers accept new records, and keep them.

        A node that does not reply is only a fault of its part: the other nodes still accept jobs. But a node that
        deletes records makes the whole store unusable, although it replies. Its jobs would be lost without an error
        anywhere, so no job must be accepted until the setting is corrected.

        Returns:
            Why a part of the records cannot be used: nodes of a cluster do not reply, or are full. None if all can.

        Raises:
            StoreDown, StoreFull, StoreUnusable: no server accepts new records, or one of them must not be used.
        """
        part = self._indexes.next_part()
        by_link = await self._nodes.primaries(self._nodes.roots)
        results = await asyncio.gather(
            *(
                self._check_one(link, roots[0], [name for root in roots for name in part.get(root, ())], caller)
                for link, roots in by_link.items()
            )
        )
        failed = [result for result in results if result is not None]
        if failed:
            self._nodes.refresh_soon()
        for error in failed:
            if len(failed) == len(results) or isinstance(error, StoreUnusable):
                raise error
        shards = sum(len(roots) for roots in by_link.values())
        lost = sum(len(roots) for roots, result in zip(by_link.values(), results, strict=True) if result is not None)
        lost += len(self._nodes.roots) - shards
        if not lost:
            return None
        reasons = "; ".join(map(str, failed)) or f"{self._nodes.name}: slots without a node"
        parts = len(self._nodes.roots)
        return (
            f"{reasons}. Until these nodes accept records again, {lost} of {parts} parts of the records "
            f"({parts - 1} shards and the batches) cannot be used."
        )

    async def load_scripts(self, caller: Caller) -> None:
        """Send the scripts to each server that replies. Later calls send a script again to a server that lacks it.

        Raises:
            StoreUnusable: a server cannot compile them.
            StoreDown: no server replies.
        """
        links = list(await self._nodes.primaries(self._nodes.roots))
        failed: list[StoreDown] = []
        for link in links:
            try:
                await self._scripts.load(link, caller)
            except StoreDown as error:
                failed.append(error)
        if failed and len(failed) == len(links):
            raise failed[0]

    async def _check_one(self, link: RedisLink, root: str, names: Sequence[str], caller: Caller) -> StoreError | None:
        """Check one server. `root` is one of its shards, and `names` are the keys whose types are asked for.

        Each command detects another fault. DEL is a write that even a full server accepts, but a replica, a loading
        server, and a server that cannot write to its disk refuse it. INFO shows whether memory is exhausted and which
        eviction policy is set. A script shows whether the user may run scripts. INFO and CLUSTER INFO tell a Sentinel,
        and a node of a cluster, from a server that has all records. The types of some keys are passed to `indexes`.
        """
        script = self._scripts.request(Call(script="get", root=root, arguments=("", ""))).packed
        questions = pack(
            [
                ("CLUSTER", "INFO"),
                ("DEL", self._keys.probe_of(root)),
                ("INFO", "memory", "server"),
                *(("TYPE", name) for name in names),
            ]
        )
        try:
            replies = await link.exchange(questions + script, len(names) + 4, caller)
        except StoreError as error:
            return error
        cluster, deletion, info, *types, answer = replies
        if (reason := unsuitable(info, cluster, is_cluster=self._nodes.is_cluster)) is not None:
            return StoreUnusable(f"{link.name}: {reason}")
        for reply in (deletion, answer):
            if is_redirection(reply) and self._nodes.is_cluster:
                self._nodes.refresh_soon()
            elif isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                return link.as_store_error(reply)
        self._indexes.found(names, types)
        return _fault_of_memory(info, link.name)


def _fault_of_memory(info: Reply, name: str) -> StoreError | None:
    """Return the error if a server deletes records, or is full. `info` is the reply to INFO with the section `memory`.

    Some providers forbid INFO. In that case the operator must check the settings.
    """
    facts = facts_of(info)
    policy = facts.get("maxmemory_policy", "")
    if policy.startswith(_EVICTS_LIVE_RECORDS):
        return StoreUnusable(f"{name}: maxmemory-policy {policy} deletes jobs: set it to noeviction")
    limit = int(facts.get("maxmemory", 0))
    counted = int(facts.get("used_memory", 0)) - int(facts.get("mem_not_counted_for_evict", 0))
    return StoreFull(f"{name}: out of memory (maxmemory)") if limit and counted >= limit else None


def facts_of(reply: Reply) -> Mapping[str, str]:
    """Parse a reply of INFO or CLUSTER INFO. Returns no values if the server refused the command."""
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def unsuitable(info: Reply, cluster_info: Reply, *, is_cluster: bool) -> str | None:
    """Return why the server cannot be the job store, or a part of it, and what to do; None if it can.

    `info` is the reply of INFO with the section `server`, and `cluster_info` that of CLUSTER INFO, which a server
    outside a cluster refuses. A cluster of one node has all records, so it can be used.
    """
    facts = facts_of(info)
    # Redis uses the first name, Valkey the second.
    if "sentinel" in {facts.get("redis_mode"), facts.get("server_mode")}:
        return SENTINEL
    if not is_cluster and int(facts_of(cluster_info).get("cluster_size", "1")) > 1:
        return NODE_OF_CLUSTER
    return None
