"""A real Redis Cluster for tests: Valkey servers from a wheel, primaries with one replica each.

No primary is replaced by itself, so a busy machine changes nothing: a test promotes a replica where it wants one.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self, cast

import redis

from tests.stand.loopback_network import LoopbackNetwork, source_address
from tests.stand.ports import free_port
from tests.stand.valkey import Valkey
from tests.stand.waiting import PATIENCE_SECONDS

SLOTS: Final = 16384
SETTINGS: Final = {
    "cluster-enabled": "yes",
    # Far more than any test takes.
    "cluster-node-timeout": "600000",
    # A part without a node is refused; the other parts are served.
    "cluster-require-full-coverage": "no",
    "cluster-allow-replica-migration": "no",
    "repl-diskless-sync-delay": "0",
}


class ClusterClient(redis.RedisCluster):
    """redis-py's client of a cluster, but KEYS and FLUSHALL are about all primaries."""

    def keys(self, pattern: str = "*") -> list[bytes]:  # type: ignore[override]
        """Return the names of all keys."""
        return cast("list[bytes]", super().keys(pattern, target_nodes=self.PRIMARIES))

    def tell_primaries(self, *command: str) -> list[object]:
        """Send a command without a key to each primary. Returns the replies."""
        execute = cast("Callable[..., object]", self.execute_command)
        return [execute(*command, target_nodes=node) for node in self.get_primaries()]  # type: ignore[no-untyped-call]

    def flushall(self) -> None:  # type: ignore[override]
        """Remove all keys."""
        super().flushall(target_nodes=self.PRIMARIES)


class RedisCluster:
    """A cluster on loopback. `nodes` has the primaries first, then the replica of each in the same order."""

    def __init__(
        self,
        folder: Path,
        *,
        primaries: int = 3,
        has_replicas: bool = True,
        settings: Mapping[str, str] | None = None,
        network: LoopbackNetwork | None = None,
    ) -> None:
        """Set up the nodes without starting them. With a network, they and their clients connect through it."""
        self.nodes: list[Valkey] = []
        self._primaries = primaries
        for number in range(primaries * (1 + has_replicas)):
            own = folder / f"node-{number}"
            own.mkdir(parents=True)
            node = Valkey(own, settings=SETTINGS | {"cluster-port": str(free_port())} | dict(settings or {}))
            if network is not None:
                node.settings |= {
                    "bind-source-addr": source_address(number),
                    "cluster-announce-ip": "127.0.0.1",
                    "cluster-announce-port": str(network.lead_to(number, node.port)),
                    "cluster-announce-bus-port": str(network.lead_to(number, int(node.settings["cluster-port"]))),
                }
            self.nodes.append(node)

    @property
    def address(self) -> str:
        ports = [announced_port(node) for node in self.nodes[: self._primaries]]
        return f"cluster://{','.join(f'127.0.0.1:{port}' for port in ports)}"

    def start(self) -> None:
        """Start all nodes, and return when each of them knows the whole cluster."""
        # Each start waits for the server's first reply.
        starts = [threading.Thread(target=node.start) for node in self.nodes]
        for each in starts:
            each.start()
        for each in starts:
            each.join()
        for number, node in enumerate(self.nodes):
            first, last = (SLOTS * part // self._primaries for part in (number, number + 1))
            if number < self._primaries:
                self.command(node, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last - 1))
            self.command(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            bus_port = node.settings.get("cluster-announce-bus-port", node.settings["cluster-port"])
            self.command(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(announced_port(node)), bus_port)
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes), "all nodes know each other")
        for number, node in enumerate(self.nodes[self._primaries :]):
            self.command(node, "CLUSTER", "REPLICATE", self.id_of(self.nodes[number]))
        wait_until(lambda: all(self._is_ready(node) for node in self.nodes), "the cluster is ready")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Start all nodes, and stop them at the end of the block, also if the start fails."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def empty(self) -> None:
        """Remove all records and scripts from the primaries."""
        for node in self.nodes[: self._primaries]:
            self.command(node, "FLUSHALL")
            self.command(node, "SCRIPT", "FLUSH")

    def command(self, node: Valkey, *arguments: str) -> object:
        """Send a command to one node, whatever slot it is about."""
        with contextlib.closing(node.client()) as client:
            return cast("Callable[..., object]", client.execute_command)(*arguments)

    def id_of(self, node: Valkey) -> str:
        return cast("bytes", self.command(node, "CLUSTER", "MYID")).decode()

    def owner_of(self, slot: int) -> Valkey:
        """Return the primary that has a slot, as the first running node knows it."""
        ranges = cast("list[tuple[int, int, list[int]]]", self._slots_of_a_running_node())
        (port,) = {owner[1] for first, last, owner, *_ in ranges if first <= slot <= last}
        return next(node for node in self.nodes if announced_port(node) == port)

    def replica_of(self, primary: Valkey) -> Valkey:
        """Return the other node of a pair: they keep their slots, whichever of them is the primary now."""
        return self.nodes[(self.nodes.index(primary) + self._primaries) % len(self.nodes)]

    def wait_until_replicated(self, primary: Valkey) -> None:
        """Return once the replica has all writes that the primary has now."""
        with contextlib.closing(primary.client()) as client:
            assert client.wait(1, round(PATIENCE_SECONDS * 1000)) >= 1

    def wait_until_follows(self, replica: Valkey) -> None:
        """Return once a node that was the primary is the replica of its successor, and has its records."""
        wait_until(lambda: self._follows(replica), "the old primary follows the new one")

    def promote(self, replica: Valkey) -> None:
        """Make a replica the primary of its slots, also if its primary is dead and nobody else votes."""
        self.command(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: b"master" in cast("bytes", self._role(replica)), "the replica is promoted")

    def begin_to_move(self, slot: int, source: Valkey, target: Valkey) -> None:
        """Begin to move a slot key by key."""
        self.command(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id_of(source))
        self.command(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: Valkey, target: Valkey, *, most: int = 1_000_000) -> int:
        """Move up to `most` keys of a slot. Returns their number."""
        keys = cast("list[bytes]", self.command(source, "CLUSTER", "GETKEYSINSLOT", str(slot), str(most)))
        if keys:
            names = [key.decode() for key in keys]
            self.command(source, "MIGRATE", "127.0.0.1", str(target.port), "", "0", "60000", "KEYS", *names)
        return len(keys)

    def end_move(self, slot: int, source: Valkey, target: Valkey) -> None:
        """Give the slot, all of whose keys have moved, to its new node."""
        for node in (target, source):
            self.command(node, "CLUSTER", "SETSLOT", str(slot), "NODE", self.id_of(target))

    def move_at_once(self, slot: int, source: Valkey, target: Valkey) -> None:
        """Move a slot with all its keys in one step (Valkey 9), and return when it has moved."""
        self.command(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", str(slot), str(slot), "NODE", self.id_of(target))
        wait_until(lambda: self._has_slot(target, slot), "the slot has moved")

    def client(self) -> ClusterClient:
        """Return a client of the whole cluster, which looks behind the job store. The caller closes it."""
        return ClusterClient(host="127.0.0.1", port=self.nodes[0].port, protocol=2)

    def _has_slot(self, node: Valkey, slot: int) -> bool:
        mine = cast("bytes", self.command(node, "CLUSTER", "NODES"))
        (line,) = [line for line in mine.decode().splitlines() if "myself" in line]
        ranges = [part.partition("-") for part in line.split()[8:] if not part.startswith("[")]
        return any(int(first) <= slot <= int(last or first) for first, _, last in ranges)

    def _slots_of_a_running_node(self) -> object:
        for node in self.nodes:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                return self.command(node, "CLUSTER", "SLOTS")
        raise AssertionError("no node of the cluster runs")

    def _role(self, node: Valkey) -> object:
        return cast("list[object]", self.command(node, "ROLE"))[0]

    def _follows(self, node: Valkey) -> bool:
        role = cast("list[object]", self.command(node, "ROLE"))
        return role[0] == b"slave" and role[3] == b"connected"

    def _knows_all(self, node: Valkey) -> bool:
        # Until the end of the handshake, a node is known under another id than its own.
        lines = cast("bytes", self.command(node, "CLUSTER", "NODES")).decode().splitlines()
        return len(lines) == len(self.nodes) and not any("handshake" in line for line in lines)

    def _is_ready(self, node: Valkey) -> bool:
        info = cast("bytes", self.command(node, "CLUSTER", "INFO")).decode()
        slots = cast("list[list[object]]", self.command(node, "CLUSTER", "SLOTS"))
        copies = len(self.nodes) // self._primaries
        if "cluster_state:ok" not in info or [len(part) - 2 for part in slots] != [copies] * self._primaries:
            return False
        role = cast("list[object]", self.command(node, "ROLE"))
        return role[0] == b"master" or role[3] == b"connected"


def announced_port(node: Valkey) -> int:
    """Return the port at which clients and the other nodes reach a node."""
    return int(node.settings.get("cluster-announce-port", node.port))


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return once `is_so` returns true, without an event loop.

    Raises:
        AssertionError: it was not so in time.
    """
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.02)
