"""Finds indexes that another program has overwritten, and rebuilds them from the records.

Each shard has a few keys that all changes of its records need: sorted sets and counters. `SET` replaces such a key by a
string, whatever it was. Every script that writes then refuses this shard before its first write (`wrong_index` in
lua/shared.lua), so no record is damaged. The other shards are not affected, so the service goes on; `/health` says
what to do.

As soon as the foreign value is gone, the instance that has seen it rebuilds the indexes of the shard: the records say
everything that the indexes do.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from redis.exceptions import ResponseError

from ytmp3.jobstore.redis.keys import Keys
from ytmp3.jobstore.redis.link import Argument, Reply
from ytmp3.jobstore.redis.records import readable

log = logging.getLogger(__name__)

PARTS: Final = 8
"""In how many parts the types of the indexes are read: one part with each check of the server. All of them together
would be 1,029 replies, which take the event loop some milliseconds."""
SCANNED_AT_ONCE: Final = 1000
"""Number of keys that the server looks at in one step of a search for the records of a shard: less than 1 ms."""
_OF_SHARD: Final = {"": "hash", ":live": "zset", ":ended": "zset", ":outbox": "zset"}
_OF_BATCHES: Final = {":live": "zset", ":ended": "zset", ":outbox": "zset", ":of": "hash"}
"""The type of each index, by the end of its name."""
_RECORDS: Final = "[bcd]:"
"""The names below a root of the records that indexes are made of: batches, conversions and deliveries."""

ReadAt = Callable[[str, Sequence[Argument]], Awaitable[Reply]]
"""Sends a command without a key to the server that has a shard, and returns its reply."""
RunOnShards = Callable[[str, Mapping[str, Sequence[Argument]]], Awaitable[list[Reply]]]
"""Runs a script on shards, with the arguments of each."""


def is_wrong_type(reply: Reply) -> bool:
    """Return whether a command was refused because its key has another type."""
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


class Indexes:
    """The indexes of all shards, as this instance has seen them."""

    def __init__(self, keys: Keys, *, read_at: ReadAt, run_on_shards: RunOnShards, lease_seconds: float) -> None:
        self._read_at = read_at
        self._run_on_shards = run_on_shards
        self._lease_seconds = lease_seconds
        self._expected = {f"{root}{end}": (root, kind) for root in keys.roots for end, kind in _OF_SHARD.items()}
        self._expected |= {f"{keys.batches}{end}": (keys.batches, kind) for end, kind in _OF_BATCHES.items()}
        self._expected[keys.shelf] = (keys.roots[0], "string")
        names = tuple(self._expected)
        self._parts = [names[part::PARTS] for part in range(PARTS)]
        self._next_part = 0
        self._wrong: dict[str, str] = {}
        """The keys of another type than expected, with this type."""
        self._to_rebuild: set[str] = set()
        """The roots of shards that had such a key, until their indexes are rebuilt."""

    def next_part(self) -> Mapping[str, list[str]]:
        """Return the keys whose types are to be asked for now, by the root of their shard."""
        part: dict[str, list[str]] = {}
        for name in self._parts[self._next_part]:
            part.setdefault(self._expected[name][0], []).append(name)
        self._next_part = (self._next_part + 1) % PARTS
        return part

    def found(self, names: Sequence[str], types: Sequence[Reply]) -> None:
        """Record the replies to TYPE for these keys. Errors are ignored: the Redis user may have no right to TYPE."""
        for name, reply in zip(names, types, strict=True):
            if not isinstance(reply, bytes):
                continue
            root, expected = self._expected[name]
            if (kind := reply.decode(errors="replace")) not in {"none", expected}:
                self._wrong[name] = kind
            elif self._wrong.pop(name, None) is not None:
                self._to_rebuild.add(root)

    @property
    def fault(self) -> str | None:
        """Which index cannot be used, and what to do; None if all can."""
        if not self._wrong:
            return None
        name, kind = min(self._wrong.items())
        more = f" ({len(self._wrong)} such keys)" if len(self._wrong) > 1 else ""
        return (
            f"the key {name} is a {kind} and not a {self._expected[name][1]}{more}, so a part of the jobs waits: "
            f"another program has written it. Move it away while this service runs (RENAME {name} moved:{name}): the "
            "service then rebuilds it from the records, and no job is lost. Let other programs use another database"
        )

    async def rebuild(self) -> None:
        """Rebuild the indexes of shards from which a foreign value is gone. Nearly always there are none.

        Repeating it, also in several instances at once, changes nothing. A shard leaves `_to_rebuild` only after its
        script has succeeded, so an error of the store leads to another try with the next check.
        """
        roots = self._to_rebuild - {self._expected[name][0] for name in self._wrong}
        for root in sorted(roots):
            records = await self._records_below(root)
            await self._run_on_shards("reindex", {root: (repr(self._lease_seconds), *records)})
            self._to_rebuild.discard(root)
            log.warning("indexes of a shard rebuilt", extra={"shard": root, "records": len(records)})

    async def _records_below(self, root: str) -> list[bytes]:
        """Search the whole database of the server for the records of a shard. Returns their names below the root.

        SCAN returns each key that exists during the whole search at least once, and maybe twice. A record that is
        created meanwhile may be missing here, which does no harm: the script that creates it also writes the indexes.
        """
        found: set[bytes] = set()
        cursor: Argument = 0
        while True:
            cursor, names = await self._read_at(
                root, ("SCAN", cursor, "MATCH", f"{root}:{_RECORDS}*", "COUNT", SCANNED_AT_ONCE)
            )
            with readable():
                found.update(name.removeprefix(f"{root}:".encode()) for name in names)
                if int(cursor) == 0:
                    return sorted(found)
