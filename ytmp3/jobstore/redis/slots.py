"""The map of a Redis Cluster: which node has the hash slots of which shards. Pure.

It is read by CLUSTER SLOTS and not by CLUSTER SHARDS: SLOTS names exactly one primary for each range of slots, with the
port that fits the connection (TLS or not), and leaves out replicas that have failed. During a failover, SHARDS lists
both the old and the new primary of a shard as `master`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from redis.crc import key_slot

from ytmp3.jobstore.redis.addresses import Address
from ytmp3.jobstore.redis.link import Reply, pack
from ytmp3.jobstore.redis.records import readable

MAP_COMMANDS: Final = pack([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
"""Asks a node for its map, and for the epoch of this map."""
_UNKNOWN: Final = frozenset({None, b"", b"?"})
"""What a node gives as host if it does not know one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotMap:
    """The map as one node knows it."""

    epoch: int
    """Grows with each failover. Of two maps, the one with the greater epoch is newer."""
    primaries: Mapping[str, Address]
    """The primary of each shard, by the shard's root. A shard whose slot no node serves is left out."""
    replicas: Mapping[Address, tuple[Address, ...]]
    """The replicas of each primary."""

    @property
    def addresses(self) -> frozenset[Address]:
        """All nodes."""
        return frozenset(self.replicas).union(*self.replicas.values())


def slots_of(roots: Iterable[str]) -> Mapping[str, int]:
    """Return the hash slot of each shard."""
    return {root: key_slot(root.encode()) for root in roots}


def map_of(info: Reply, slots: Reply, slot_of_root: Mapping[str, int], *, asked: str) -> SlotMap:
    """Return the map in the replies to MAP_COMMANDS. `asked` is the host of the node that replied.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    with readable():
        ranges: list[tuple[int, int, Address]] = []
        replicas: dict[Address, tuple[Address, ...]] = {}
        for first, last, *nodes in slots:
            # A node that does not know its own address gives an empty one: then it is the one that was used to ask it.
            primary, *others = (
                (host.decode() if host not in _UNKNOWN else asked, int(port)) for host, port, *_ in nodes
            )
            ranges.append((first, last, primary))
            replicas[primary] = tuple(others)
        primaries = {
            root: primary
            for root, slot in slot_of_root.items()
            for first, last, primary in ranges
            if first <= slot <= last
        }
        return SlotMap(epoch=_epoch_of(info), primaries=primaries, replicas=replicas)


def _epoch_of(info: Reply) -> int:
    """Return the epoch; 0 if the user may not ask for it."""
    if not isinstance(info, bytes):
        return 0
    lines = (line.partition(b":") for line in info.splitlines())
    return next((int(value) for name, _, value in lines if name == b"cluster_current_epoch"), 0)
