"""Questions to all shards, and scripts on some of them. Each server of a cluster is asked in parallel with the others.

A server that does not reply leaves out its own shards: the others are polled, adopted and expired as usual.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ytmp3.core.errors import StoreError
from ytmp3.jobstore.redis.due import Clocks, Due, scored, seconds_of
from ytmp3.jobstore.redis.indexes import is_wrong_type
from ytmp3.jobstore.redis.link import Argument, Caller, RedisLink, Reply, pack, store_error_of
from ytmp3.jobstore.redis.nodes import Nodes, Request, is_redirection, raise_first_error, request_of
from ytmp3.jobstore.redis.scripts import Call, Scripts

_TIME: Final = pack([("TIME",)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """The result of asking each shard for the lowest score of an index."""

    times: Mapping[str, float]
    """The time by the server's clock, for each shard whose server has replied."""
    due: Sequence[str]
    """The shards whose lowest score is due, ordered by that score."""


class Shards:
    """All shards of one installation. `clock` takes the place of the servers' clocks in tests."""

    def __init__(
        self,
        nodes: Nodes,
        scripts: Scripts,
        clocks: Clocks,
        *,
        clock: Callable[[], float] | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._nodes = nodes
        self._scripts = scripts
        self._clocks = clocks
        self._clock = clock
        self._monotonic = monotonic

    def call(self, script: str, root: str, arguments: Iterable[Argument], *, clock: str | None = None) -> Call:
        """Return a call. Its first argument is the time to use, or empty for the server's clock."""
        clock_of_tests = "" if self._clock is None else repr(self._clock())
        return Call(script=script, root=root, arguments=(clock or clock_of_tests, *arguments))

    async def attempt(
        self, script: str, by_shard: Mapping[str, Sequence[Argument]], times: Mapping[str, float] | None = None
    ) -> list[Reply]:
        """Run a script once for each shard. Returns the replies, errors included. `times`: see `run_where_possible`."""
        if not by_shard:
            return []
        calls = [
            self.call(script, root, arguments, clock=None if times is None else repr(times[root]))
            for root, arguments in by_shard.items()
        ]
        return await self._scripts.try_all(calls, Caller.WORKER)

    async def run(self, script: str, by_shard: Mapping[str, Sequence[Argument]]) -> list[Reply]:
        """Run a script once for each shard, with that shard's arguments, for a worker or a housekeeping loop.

        Raises:
            StoreError: the error of the first script that failed. The other scripts have run nevertheless.
        """
        replies = await self.attempt(script, by_shard)
        raise_first_error(replies, self._nodes.name)
        return replies

    async def run_where_possible(
        self,
        script: str,
        by_shard: Mapping[str, Sequence[Argument]],
        *,
        times: Mapping[str, float] | None = None,
    ) -> dict[str, Reply]:
        """Do the same, and return the replies by shard. A shard on which the script fails is left out.

        So one shard that cannot be used (see `indexes`), and a server that is down, do not keep the others from their
        work. `times`, if it is not None, has the time for the script on each shard.

        Raises:
            StoreError: the script has failed on every shard.
        """
        replies = await self.attempt(script, by_shard, times)
        done = {root: reply for root, reply in zip(by_shard, replies, strict=True) if not isinstance(reply, Exception)}
        if not done:
            raise_first_error(replies, self._nodes.name)
        return done

    async def read(self, commands: Sequence[Sequence[Argument]], caller: Caller = Caller.WORKER) -> list[Reply]:
        """Send commands, each on one key.

        Raises:
            StoreError: the error of the first command that failed.
        """
        replies = await self._nodes.send([request_of(command) for command in commands], caller)
        raise_first_error(replies, self._nodes.name)
        return replies

    async def read_for_handler(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send commands that an HTTP request waits for."""
        return await self.read(commands, Caller.HANDLER)

    async def read_indexes(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Read sorted sets. One that another program has overwritten reads as empty (see `indexes`)."""
        replies = await self._nodes.send([request_of(command) for command in commands], Caller.WORKER)
        usable = [[] if is_wrong_type(reply) else reply for reply in replies]
        raise_first_error(usable, self._nodes.name)
        return usable

    async def read_at(self, root: str, command: Sequence[Argument]) -> Reply:
        """Send a command without a key to the server that has a shard."""
        replies = await self._nodes.send([Request(root, pack([command]))], Caller.WORKER)
        raise_first_error(replies, self._nodes.name)
        return replies[0]

    async def now(self, caller: Caller) -> float:
        """Return the time of a server's clock: of the first server that replies."""
        if self._clock is not None:
            return self._clock()
        failed: list[StoreError] = []
        links = sorted(await self._nodes.primaries(self._nodes.roots), key=lambda link: not link.is_up)
        for link in links:
            try:
                replies = await link.exchange(_TIME, 1, caller)
                raise_first_error(replies, link.name)
            except StoreError as error:
                failed.append(error)
            else:
                return seconds_of(replies[0])
        raise failed[0]

    async def poll(self, questions: Mapping[str, bytes], *, is_expiry: bool = False) -> Poll:
        """Ask shards for the lowest score of an index: one question for each shard (`due.poll_of`).

        A shard whose slot is being moved, or has moved, is polled again in the next turn.

        `is_expiry`: the scores are times of expiry, which a clock that was set forward must not bring about early.

        Raises:
            StoreError: no server has replied.
        """
        by_link = await self._nodes.primaries(questions)
        results = await asyncio.gather(*(self._ask(link, roots, questions) for link, roots in by_link.items()))
        failed = [result for result in results if isinstance(result, StoreError)]
        if failed:
            self._nodes.refresh_soon()
            if len(failed) == len(results):
                raise failed[0]
        times: dict[str, float] = {}
        due: list[tuple[float, str]] = []
        for roots, result in zip(by_link.values(), results, strict=True):
            if isinstance(result, StoreError):
                continue
            now, lowest = result
            times |= self._clocks.times(roots, now, is_expiry=is_expiry)
            due += [(float(pair[1]), root) for root, pair in zip(roots, lowest, strict=True) if pair]
        return Poll(times=times, due=[root for score, root in sorted(due) if score <= times[root]])

    async def _ask(
        self, link: RedisLink, roots: Sequence[str], questions: Mapping[str, bytes]
    ) -> tuple[float, list[Reply]] | StoreError:
        """Return a server's time, and its replies for these shards."""
        asked_at = self._monotonic()
        packed = b"".join([_TIME, *(questions[root] for root in roots)])
        try:
            time, *replies = await link.exchange(packed, len(roots) + 1, Caller.WORKER)
        except StoreError as error:
            return error
        for position, reply in enumerate(replies):
            if is_redirection(reply):
                self._nodes.refresh_soon()
                replies[position] = []
            elif is_wrong_type(reply):
                replies[position] = []
        for reply in (time, *replies):
            if isinstance(reply, Exception):
                return store_error_of(reply, link.name)
        now = self._clock() if self._clock is not None else seconds_of(time)
        self._clocks.read(roots, now, asked_at=asked_at)
        return now, replies

    async def conversions_due(self, poll: Poll, limit: int) -> dict[str, list[Due]]:
        """Return the up to `limit` conversions that have been due for the longest time, over all shards, by shard."""
        by_shard: dict[str, list[Due]] = defaultdict(list)
        if not poll.due:
            return by_shard
        queries = [("ZRANGE", f"{root}:live", 0, max(0, limit - 1), "WITHSCORES") for root in poll.due]
        due = []
        for root, reply in zip(poll.due, await self.read_indexes(queries), strict=True):
            due += [(float(score), member, score, root) for member, score in scored(reply)]
        for time_due, member, score, root in sorted(due)[:limit]:
            if time_due <= poll.times[root]:
                may_take = self._clocks.is_trusted(root)
                by_shard[root].append(Due(conversion_id=member, score=score, may_take=may_take))
        return by_shard
