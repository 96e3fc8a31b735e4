"""Finds the conversions that may be adopted, also when the server's clock is set forward or back.

The server's clock decides when a lease runs out. But that clock may be set, or a replica with another clock may be
promoted:

* If the clock is set forward, all leases run out at once. So each poll compares the server's clock with this machine's
  monotonic clock. After a jump, no conversion is taken from a holder for the length of one lease. By then every living
  holder has renewed its leases by the new clock. Several jumps in a row make the wait longer.
* If the clock is set back, the leases of a dead instance end in the far future. Each record has the length of its wait
  when it was written (`wait`). If `due_at` is further away than that, it was written before the clock was set back. If
  such a `due_at` has not changed for the length of its wait, by the monotonic clock, its holder is dead.

The retention of tracks must not follow a clock that is set forward either: `ahead_seconds` delays it.

A new instance cannot detect a jump right before its start. It may then take a conversion from a living holder once. The
fencing token (`core.job.Lease`) makes this harmless. It may also expire tracks too early.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ytmp3.core.states import LONGEST_DELAY_SECONDS
from ytmp3.jobstore.redis.link import Argument, Reply, pack
from ytmp3.jobstore.redis.records import readable

MAX_JUMP_SECONDS: Final = 1.0
"""Largest difference between the two clocks, in seconds, that does not count as a jump. Slewed clocks and asymmetric
network delays cause far less. For short leases it is a tenth of the lease, if that is less."""
JUMPS_KEPT_SECONDS: Final = 7 * 86_400.0
"""For how long a jump delays the expiry of tracks, in seconds; longer if this instance's retention is longer. Another
instance may keep its tracks for longer than this one, whose own retention is therefore not enough."""
LOOKS_PER_LEASE: Final = 3
"""Number of searches for leases in the far future within the length of a lease. Each costs a query of every shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A conversion that may be adopted, unless it is written to before."""

    conversion_id: bytes
    score: bytes
    """Its `due_at`, with exactly the server's digits."""
    may_take: bool
    """Whether it may be taken from a holder. Otherwise it may be adopted only if it has no holder."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments of `lua/adopt.lua`."""
        return self.conversion_id, self.score, int(self.may_take)


class ClockWatch:
    """Compares the server's clock with the monotonic clock: may it expire leases, and how far was it set forward?"""

    def __init__(self, monotonic: Callable[[], float], *, lease_seconds: float, retention_seconds: float) -> None:
        self._monotonic = monotonic
        self._lease_seconds = lease_seconds
        self._kept_seconds = max(JUMPS_KEPT_SECONDS, retention_seconds)
        self._jumps: list[tuple[float, float]] = []
        """When the server's clock jumped within `_kept_seconds`, and by how many seconds; negative: back."""
        self._tolerance_seconds = min(MAX_JUMP_SECONDS, lease_seconds / 10)
        self._offsets: tuple[float, float] | None = None
        """Lower and upper bound of the difference between both clocks, from the last reading."""
        self._trusted_from = float("-inf")

    def read(self, server_time: float, *, asked_at: float) -> None:
        """Record the server's time. The server read it between `asked_at` (monotonic clock) and now."""
        now = self._monotonic()
        low, high = server_time - now, server_time - asked_at
        if self._offsets is not None:
            past_low, past_high = self._offsets
            if low > past_high + self._tolerance_seconds or high < past_low - self._tolerance_seconds:
                self._trusted_from = now + self._lease_seconds
                self._jumps.append((now, low - past_low))
        self._offsets = low, high

    @property
    def is_trusted(self) -> bool:
        """Whether the clock has not jumped within the last lease."""
        return self._monotonic() >= self._trusted_from

    @property
    def ahead_seconds(self) -> float:
        """By how much the clock was set forward in the last days, all jumps together; 0 if it was set back.

        Records that were written before a jump expire this much later by the new clock. Those that were written after
        it are then kept longer than promised, which does no harm.
        """
        oldest = self._monotonic() - self._kept_seconds
        self._jumps = [(at, seconds) for at, seconds in self._jumps if at >= oldest]
        return max(0.0, sum(seconds for _, seconds in self._jumps))


class Clocks:
    """The clocks of the servers. A single server has one; in a cluster, each shard is watched by itself.

    After a failover, and after its slot has moved, the times in a shard's records are compared with another server's
    clock. If the clocks differ, this is a jump of the clock for this shard, and it is treated as one.
    """

    def __init__(
        self, monotonic: Callable[[], float], *, is_cluster: bool, lease_seconds: float, retention_seconds: float
    ) -> None:
        self._is_cluster = is_cluster
        self._watches = defaultdict[str, ClockWatch](
            lambda: ClockWatch(monotonic, lease_seconds=lease_seconds, retention_seconds=retention_seconds)
        )
        """By the shard's root; for a single server by an empty text."""

    def read(self, roots: Sequence[str], server_time: float, *, asked_at: float) -> None:
        """Record the time of the server that has these shards (`ClockWatch.read`)."""
        for name in self._names(roots):
            self._watches[name].read(server_time, asked_at=asked_at)

    def times(self, roots: Sequence[str], now: float, *, is_expiry: bool) -> dict[str, float]:
        """Return the time for each of these shards. For an expiry, it does not follow a clock that was set forward."""
        if not is_expiry:
            return dict.fromkeys(roots, now)
        ahead = {name: self._watches[name].ahead_seconds for name in self._names(roots)}
        return {root: now - ahead[root if self._is_cluster else ""] for root in roots}

    def is_trusted(self, root: str) -> bool:
        """Return whether the clock of a shard's server has not jumped within the last lease."""
        return self._watches[root if self._is_cluster else ""].is_trusted

    @property
    def ahead_seconds(self) -> float:
        """The most by which a clock was set forward (`ClockWatch.ahead_seconds`)."""
        return max((watch.ahead_seconds for watch in self._watches.values()), default=0.0)

    def _names(self, roots: Sequence[str]) -> Sequence[str]:
        return roots if self._is_cluster else ("",)


class LeftBehind:
    """Finds conversions whose `due_at` was written before the server's clock was set back and has not changed since."""

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
        """When each such `due_at` was first seen, by shard, conversion and score."""

    async def find(self, times: Mapping[str, float], limit: int) -> Mapping[str, list[Due]]:
        """Return up to `limit` of them, by shard. Does nothing until LOOKS_PER_LEASE allows the next search.

        `times` is the time of each shard's server; the other shards are not searched.

        A search takes one or two round trips.
        """
        at = self._monotonic()
        if at < self._next_look_at:
            return {}
        self._next_look_at = at + self._lease_seconds / LOOKS_PER_LEASE
        suspects = await self._suspects(times, limit)
        if not suspects:
            self._seen = {}
            return {}
        waits = await self._read([("HGET", f"{root}:c:{member.decode()}", "wait") for root, member, _ in suspects])
        seen: dict[tuple[str, bytes, bytes], float] = {}
        found: dict[str, list[Due]] = defaultdict(list)
        for suspect, wait in zip(suspects, waits, strict=True):
            root, member, score = suspect
            # Records that version 0.2 has written have no field `wait`.
            wait_seconds = max(self._lease_seconds, LONGEST_DELAY_SECONDS) if wait is None else float(wait)
            if float(score) <= times[root] + wait_seconds + MAX_JUMP_SECONDS:
                continue
            seen[suspect] = self._seen.get(suspect, at)
            if at - seen[suspect] >= wait_seconds:
                found[root].append(Due(conversion_id=member, score=score, may_take=True))
        self._seen = seen
        return found

    async def _suspects(self, times: Mapping[str, float], limit: int) -> list[tuple[str, bytes, bytes]]:
        """Return conversions that are due later than one lease of this instance from now. Nearly always none."""
        queries: list[tuple[Argument, ...]] = []
        for root, now in times.items():
            beyond = f"({now + self._lease_seconds + MAX_JUMP_SECONDS:.6f}"
            queries.append(
                ("ZRANGE", f"{root}:live", "+inf", beyond, "BYSCORE", "REV", "LIMIT", 0, limit, "WITHSCORES")
            )
        replies = await self._read(queries)
        return [
            (root, member, score) for root, reply in zip(times, replies, strict=True) for member, score in scored(reply)
        ]


def scored(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Return members and scores from a reply of ZRANGE: a flat list of both.

    Raises:
        StoreUnusable: the reply is malformed.
    """
    with readable():
        members = iter(reply)
        return list(zip(members, members, strict=True))


def poll_of(index: str, roots: Sequence[str]) -> Mapping[str, bytes]:
    """Return the encoded command for the lowest score of a sorted set in each shard."""
    return {root: pack([("ZRANGE", f"{root}:{index}", 0, 0, "WITHSCORES")]) for root in roots}


def seconds_of(time: Reply) -> float:
    """Convert the server's reply to TIME into seconds since 1970."""
    with readable():
        seconds, microseconds = time
        return int(seconds) + int(microseconds) / 1_000_000
