"""Which conversions may be adopted: finds those that are due, also when the server's clock is set forward or back.

The server's clock says when a lease runs out. But it may be set, or a replica with another clock may be promoted:

* Set forward, it lets every lease run out at once. Each poll compares the server's clock with this machine's monotonic
  one. If the server's clock has jumped, no conversion is taken from a holder until one lease later: by then every
  holder that lives has renewed its lease by the new clock. Several jumps in a row only make the wait longer.
* Set back, it leaves the leases of a dead instance in the far future. Each record says how long its wait was when it
  was written (`wait`). A time that is further away than that was written before the clock was set back. If such a time
  has not changed for the length of its wait, by the monotonic clock, its holder is dead.

What a newly started instance cannot know is a jump in the moment before its start. It may then take a conversion from a
living holder, once; the fence (`core.job.Lease`) keeps that harmless.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ytmp3.core.states import RETRY_CAP_SECONDS
from ytmp3.jobstore.redis.link import Argument, Reply
from ytmp3.jobstore.redis.records import SHARDS, readable, root_of

MAX_JUMP_SECONDS: Final = 1.0
"""What a poll may find the server's clock wrong by and still trust it. Clocks that are slewed, and network delays that
are not symmetric, stay far below. With a short lease it is a tenth of the lease, if that is less."""
LOOKS_PER_LEASE: Final = 3
"""How often in the length of a lease the far end of the leases is looked at. It costs a query of each shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A conversion that may be adopted if it has not been written to since."""

    conversion_id: bytes
    score: bytes
    """Its `due_at`, exactly as the server writes it."""
    may_take: bool
    """Whether it may be taken from a holder. Otherwise it may be adopted only if nobody holds it."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments of `lua/adopt.lua`."""
        return self.conversion_id, self.score, int(self.may_take)


class ClockWatch:
    """Compares the server's clock with the monotonic one, and says whether leases may be judged by it."""

    def __init__(self, monotonic: Callable[[], float], *, lease_seconds: float) -> None:
        self._monotonic = monotonic
        self._lease_seconds = lease_seconds
        self._tolerance_seconds = min(MAX_JUMP_SECONDS, lease_seconds / 10)
        self._offsets: tuple[float, float] | None = None
        """Bounds of the difference of both clocks, by the last reading."""
        self._trusted_from = float("-inf")

    def read(self, server_time: float, *, asked_at: float) -> None:
        """Take the server's time. It was read between `asked_at`, by the monotonic clock, and now."""
        now = self._monotonic()
        low, high = server_time - now, server_time - asked_at
        if self._offsets is not None:
            past_low, past_high = self._offsets
            if low > past_high + self._tolerance_seconds or high < past_low - self._tolerance_seconds:
                self._trusted_from = now + self._lease_seconds
        self._offsets = low, high

    @property
    def is_trusted(self) -> bool:
        """Whether the clock has not jumped within the last lease."""
        return self._monotonic() >= self._trusted_from


class LeftBehind:
    """Finds conversions whose time was written before the server's clock was set back, and has not changed since."""

    def __init__(
        self,
        read: Callable[[Sequence[Sequence[Argument]]], Awaitable[list[Reply]]],
        monotonic: Callable[[], float],
        *,
        lease_seconds: float,
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._lease_seconds = lease_seconds
        self._next_look_at = float("-inf")
        self._seen: dict[tuple[str, bytes, bytes], float] = {}
        """When each such time was first seen, by shard, conversion and score."""

    async def find(self, now: float, limit: int) -> Mapping[str, list[Due]]:
        """Return by shard up to `limit` of them. Costs nothing unless a look is due, and then one round trip or two."""
        at = self._monotonic()
        if at < self._next_look_at:
            return {}
        self._next_look_at = at + self._lease_seconds / LOOKS_PER_LEASE
        suspects = await self._suspects(now, limit)
        if not suspects:
            self._seen = {}
            return {}
        waits = await self._read([("HGET", f"{root}:c:{member.decode()}", "wait") for root, member, _ in suspects])
        seen: dict[tuple[str, bytes, bytes], float] = {}
        found: dict[str, list[Due]] = defaultdict(list)
        for suspect, wait in zip(suspects, waits, strict=True):
            root, member, score = suspect
            # Records of 0.2 do not say how long they were to wait.
            wait_seconds = max(self._lease_seconds, RETRY_CAP_SECONDS) if wait is None else float(wait)
            if float(score) <= now + wait_seconds + MAX_JUMP_SECONDS:
                continue
            seen[suspect] = self._seen.get(suspect, at)
            if at - seen[suspect] >= wait_seconds:
                found[root].append(Due(conversion_id=member, score=score, may_take=True))
        self._seen = seen
        return found

    async def _suspects(self, now: float, limit: int) -> list[tuple[str, bytes, bytes]]:
        """Return conversions due later than a lease of this instance from now: nearly always none."""
        beyond = f"({now + self._lease_seconds + MAX_JUMP_SECONDS:.6f}"
        roots = [root_of(shard) for shard in SHARDS]
        query = ("+inf", beyond, "BYSCORE", "REV", "LIMIT", 0, limit, "WITHSCORES")
        replies = await self._read([("ZRANGE", f"{root}:live", *query) for root in roots])
        return [
            (root, member, score) for root, reply in zip(roots, replies, strict=True) for member, score in scored(reply)
        ]


def scored(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Return members and scores from a reply of ZRANGE: a flat list of both.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    with readable():
        members = iter(reply)
        return list(zip(members, members, strict=True))
