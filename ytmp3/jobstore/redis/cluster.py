"""The nodes of a Redis Cluster: sends each request to the node that has its shard.

The records are in 256 shards of this service, which are not the shards of Redis Cluster. The root of a shard is the
prefix of its keys, such as `ytmp3:{0a}`. Its hash tag keeps all keys of the shard in one slot.

* Each node has a link of its own, with its own connections, deadline and circuit breaker. So a node that is down fails
  only the requests for its shards, and fails them immediately.
* The map of the slots is read when it is first needed, and again in the background whenever a reply or a failure shows
  that it may be old. No request waits for that: MOVED itself says where to go.
* MOVED: the request is repeated at the node that the error names.
* ASK and TRYAGAIN: the slot is being moved key by key; some of its keys are on the old node and some on the new one. A
  command on one key is repeated at the node that ASK names. A script waits until the slot has moved, because it needs
  all its keys on one node: a script with ASKING would take the keys that have not moved yet for absent. A script that
  is refused has written nothing: each one checks this before its first write (`wrong_index` in lua/shared.lua). Moves
  of whole slots (CLUSTER MIGRATESLOTS of Valkey 9) have no such state.

All waiting and repeating is within the timeout of the call. After that the request fails with StoreDown, and callers
repeat the writes that must not be lost.

redis-py's own RedisCluster is not used: it decides by itself about retries, timeouts and connections, which here belong
to the link.
"""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError

from ytmp3.core.errors import StoreDown, StoreError, StoreUnusable
from ytmp3.jobstore.redis.addresses import Address, Options, address_of, server_name
from ytmp3.jobstore.redis.link import Caller, RedisLink, Reply, pack, store_error_of
from ytmp3.jobstore.redis.nodes import Request, is_redirection, send_to
from ytmp3.jobstore.redis.slots import MAP_COMMANDS, SlotMap, map_of, slots_of
from ytmp3.jobstore.settings import RedisTimeouts

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS: Final = 0.02
"""Pause, in seconds, before a request for a slot that is being moved is repeated. Moving a slot of one shard takes some
tens of milliseconds."""
REFRESH_SECONDS: Final = 0.25
"""Shortest pause, in seconds, between two readings of the map. A failover takes some seconds, so it is noticed soon
after its end, and a node that is down costs its cluster four readings a second."""
_ASKING: Final = pack([("ASKING",)])


class Cluster:
    """See the Protocol `Nodes`. `roots` are those of all shards."""

    is_cluster = True

    def __init__(self, seeds: Sequence[Options], timeouts: RedisTimeouts, roots: Sequence[str]) -> None:
        """Set up the cluster without connecting. `seeds` are the options of some nodes, from the settings."""
        self.name = f"Redis Cluster at {', '.join(map(server_name, seeds))}"
        self._options = dict(seeds[0])
        self._timeouts = timeouts
        self._seconds = {Caller.HANDLER: timeouts.handler_seconds, Caller.WORKER: timeouts.worker_seconds}
        self._seeds = [address_of(options) for options in seeds]
        self.roots = roots
        self._slots = slots_of(roots)
        self._links: dict[Address, RedisLink] = {}
        self._primaries: dict[str, Address] = {}
        """The node of each shard. Empty until the map has been read for the first time."""
        self.replicas: Mapping[Address, tuple[Address, ...]] = {}
        """The replicas of each primary, in the last map."""
        self._members: frozenset[Address] = frozenset()
        """All nodes in the last map."""
        self.on_departure: Callable[[], None] = lambda: None
        """Called when a node is no longer in the map. It may live on alone, and a connection to it stays open."""
        self._first_map: asyncio.Task[None] | None = None
        self._failed_at = float("-inf")
        """When the last attempt to read the first map has failed."""
        self._needs_refresh = False
        """Whether something has shown that the map may be old."""
        self._refreshing: asyncio.Task[None] | None = None
        self._next_dedicated = 0
        self._is_closed = False

    async def primaries(self, roots: Iterable[str]) -> Mapping[RedisLink, list[str]]:
        """See the Protocol."""
        await self._ensure_map()
        found: dict[RedisLink, list[str]] = defaultdict(list)
        for root in roots:
            if (address := self._primaries.get(root)) is not None:
                found[self.link_to(address)].append(root)
        return found

    async def send(self, requests: Sequence[Request], caller: Caller) -> list[Reply]:
        """See the Protocol."""
        try:
            await self._ensure_map()
        except StoreError as error:
            return [error] * len(requests)
        by_node: dict[Address | None, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            by_node[self._primaries.get(request.root)].append(position)
        replies: list[Reply] = [None] * len(requests)

        async def send_some(address: Address | None, some: list[int]) -> None:
            asked = [requests[position] for position in some]
            for position, reply in zip(some, await self._send_to(address, asked, caller), strict=True):
                replies[position] = reply

        # send_some raises nothing but a cancellation, which gather passes on.
        await asyncio.gather(*(send_some(address, some) for address, some in by_node.items()))
        return replies

    def replicas_of(self, root: str) -> Sequence[Address]:
        """Return the replicas that have a shard."""
        primary = self._primaries.get(root)
        return () if primary is None else self.replicas.get(primary, ())

    def link_to(self, address: Address) -> RedisLink:
        """Return the link to a node."""
        link = self._links.get(address)
        if link is None:
            host, port = address
            link = self._links[address] = RedisLink({**self._options, "host": host, "port": port}, self._timeouts)
        return link

    def dedicated_connection(self) -> AbstractConnection:
        """See the Protocol. Each call takes another node, so that a node that is down is left after one attempt."""
        links = [self.link_to(address) for address in sorted(set(self._primaries.values())) or self._seeds]
        links = [link for link in links if link.is_up] or links
        self._next_dedicated += 1
        return links[self._next_dedicated % len(links)].dedicated_connection()

    def refresh_soon(self) -> None:
        """See the Protocol."""
        self._needs_refresh = True
        if not self._is_closed and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._keep_refreshing(), name="redis-cluster-refresh")

    async def close(self) -> None:
        """See the Protocol."""
        self._is_closed = True
        tasks = [task for task in (self._refreshing, self._first_map) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in list(self._links.values()):
            await _close(link)

    async def _send_to(self, address: Address | None, requests: Sequence[Request], caller: Caller) -> list[Reply]:
        if address is None:
            self.refresh_soon()
            return [StoreDown(f"{self.name}: no node has the hash slot of these records")] * len(requests)
        ends_at = time.monotonic() + self._seconds[caller]
        replies = await send_to(self.link_to(address), requests, caller)
        for position, reply in enumerate(replies):
            if isinstance(reply, StoreDown | ClusterDownError):
                self.refresh_soon()
            elif is_redirection(reply):
                # One after the other, because they may be commands on the same key.
                replies[position] = await self._follow_redirections(requests[position], reply, address, caller, ends_at)
        return replies

    async def _follow_redirections(
        self, request: Request, reply: Reply, address: Address, caller: Caller, ends_at: float
    ) -> Reply:
        """Repeat a request until no node redirects it. Returns the last reply, or a StoreDown at the end of the time.

        `address` is the node that gave the first reply.
        """
        has_moved = False
        while (left := ends_at - time.monotonic()) > 0:
            prelude = b""
            match reply:
                case MovedError():
                    self.refresh_soon()
                    address = reply.host or address[0], reply.port
                    self._primaries[request.root] = address
                    if has_moved:
                        # Two nodes name each other while they learn about a failover.
                        await asyncio.sleep(TRY_AGAIN_SECONDS)
                    has_moved = True
                case AskError() if not request.is_script:
                    address, prelude = (reply.host or address[0], reply.port), _ASKING
                case _:
                    await asyncio.sleep(min(left, TRY_AGAIN_SECONDS))
                    address = self._primaries.get(request.root, address)
            count = 1 + bool(prelude)
            try:
                replies = await self.link_to(address).exchange(
                    prelude + request.packed, count, caller, within_seconds=left
                )
            except StoreError as error:
                self.refresh_soon()
                return error
            reply = replies[-1]
            if not is_redirection(reply):
                return reply
        return StoreDown(
            f"{self.name}: the request was still being redirected when its timeout ended: a slot is being moved, or a "
            "failover is under way"
        )

    async def _ensure_map(self) -> None:
        """Read the map if it is not known yet.

        Raises:
            StoreDown, StoreUnusable: no node has given one.
        """
        if self._primaries:
            return
        if self._is_closed:
            raise StoreDown(f"{self.name}: the service stops")
        if self._first_map is None or (
            self._first_map.done() and time.monotonic() - self._failed_at >= self._timeouts.rest_seconds
        ):
            self._first_map = asyncio.create_task(self._read_first_map(), name="redis-cluster-map")
        await asyncio.shield(self._first_map)

    async def _read_first_map(self) -> None:
        try:
            await self._refresh()
        finally:
            self._failed_at = time.monotonic()

    async def _keep_refreshing(self) -> None:
        while self._needs_refresh:
            self._needs_refresh = False
            try:
                await self._refresh()
            except StoreError as error:
                log.debug("cluster slot map not read", extra={"error": str(error)})
            await asyncio.sleep(REFRESH_SECONDS)

    async def _refresh(self) -> None:
        """Read the map: from the known nodes, or, if none of them replies, from those of the settings.

        Raises:
            StoreDown, StoreUnusable: no node has given one. The last map stays in use.
        """
        known = sorted({*self._primaries.values(), *chain.from_iterable(self.replicas.values()), *self._links})
        errors: list[StoreError] = []
        for addresses in (known, self._seeds):
            if (newest := await self._newest_map(addresses, errors.append)) is not None:
                await self._use(newest)
                return
        raise errors[0] if errors else StoreDown(f"{self.name}: no node returned its slot map")

    async def _newest_map(self, addresses: Sequence[Address], failed: Callable[[StoreError], None]) -> SlotMap | None:
        """Ask all of these nodes, until more than half of them have replied. Returns the newest map.

        So a node that is frozen delays nothing, and an old map of a node that is cut off from the others is not used.
        """
        tasks = [asyncio.create_task(self._map_at(address), name="redis-cluster-ask") for address in addresses]
        maps: list[SlotMap] = []
        try:
            for next_map in asyncio.as_completed(tasks):
                try:
                    maps.append(await next_map)
                except StoreError as error:
                    failed(error)
                if 2 * len(maps) > len(tasks):
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # A node that has left the cluster keeps the epoch of that time, but has no map any more.
        return max(maps, key=lambda each: (each.epoch, len(each.primaries)), default=None)

    async def _map_at(self, address: Address) -> SlotMap:
        link = self.link_to(address)
        info, slots = await link.exchange(MAP_COMMANDS, 2, Caller.WORKER, within_seconds=self._timeouts.handler_seconds)
        if isinstance(slots, ResponseError) and "cluster support disabled" in str(slots):
            raise StoreUnusable(
                f"{link.name}: this is not a node of a Redis Cluster: name a single Redis server in REDIS_ADDR, or "
                "nodes of one cluster"
            )
        if isinstance(slots, Exception):
            raise store_error_of(slots, link.name)
        return map_of(info, slots, self._slots, asked=address[0])

    async def _use(self, newest: SlotMap) -> None:
        """Use a map, and close the links to servers that are no longer nodes."""
        if not newest.primaries:
            raise StoreDown(f"{self.name}: none of the slots is assigned to a node")
        moved = sum(self._primaries.get(root) != address for root, address in newest.primaries.items())
        if moved and self._primaries:
            log.info("shards of the cluster moved", extra={"shards": moved})
        self._primaries = dict(newest.primaries)
        self.replicas = newest.replicas
        kept = newest.addresses | set(self._seeds)
        for address, link in [each for each in self._links.items() if each[0] not in kept]:
            await _close(link)
            # Not before: if the service stops meanwhile, `close` must find the link.
            self._links.pop(address, None)
        has_left = bool(self._members - newest.addresses)
        self._members = newest.addresses
        if has_left:
            self.on_departure()


async def _close(link: RedisLink) -> None:
    """Close a link. An error of a connection that is given up anyway must not end the caller's work."""
    with contextlib.suppress(RedisError, OSError):
        await link.close()
