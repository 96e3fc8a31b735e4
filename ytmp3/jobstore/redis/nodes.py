"""Which server has which shard: the interface `Nodes`, and its implementation for a single server.

`cluster` has the implementation for a Redis Cluster.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, ResponseError, TryAgainError

from ytmp3.core.errors import StoreError
from ytmp3.jobstore.redis.link import Argument, Caller, RedisLink, Reply, pack, store_error_of

_NOT_LOCAL: Final = "non local key"
"""In the text of the error by which a server ends a script that reads a key of a slot that is being moved."""


@dataclass(frozen=True, slots=True)
class Request:
    """One command on the keys of one shard, encoded."""

    root: str
    """The root of its keys (`Keys.root_of`)."""
    packed: bytes
    is_script: bool = False
    """Whether it is a script, which needs all its keys on one node."""


def request_of(command: Sequence[Argument]) -> Request:
    """Return a command whose second word is a key."""
    key = str(command[1])
    return Request(root=key[: key.index("}") + 1], packed=pack([command]))


class Nodes(Protocol):
    """The servers of one job store."""

    @property
    def name(self) -> str:
        """How they are named in error texts."""

    @property
    def is_cluster(self) -> bool:
        """Whether there may be several, which fail independently, and whose clocks may differ."""

    @property
    def roots(self) -> Sequence[str]:
        """The roots of all shards."""

    async def primaries(self, roots: Iterable[str]) -> Mapping[RedisLink, list[str]]:
        """Return the servers that have some shards, and which of these each has. Shards without a server are left out.

        Raises:
            StoreDown, StoreUnusable: it is not known which server has which shard.
        """

    async def send(self, requests: Sequence[Request], caller: Caller) -> list[Reply]:
        """Send requests, in one write to each server. Returns the replies in the order of the requests.

        Errors are among the replies: those of the servers, and a StoreError for each request to a server that does not
        reply.
        """

    def dedicated_connection(self) -> AbstractConnection:
        """Return a new connection to any of the servers. It is not open yet, and the caller closes it."""

    def refresh_soon(self) -> None:
        """Read again which server has which shard, in the background.

        Called when a server has failed or shards have moved. `send` notices this by itself.
        """

    async def close(self) -> None:
        """Close all connections. Later calls raise StoreDown."""


class OneServer:
    """A single server, which has all shards."""

    is_cluster = False

    def __init__(self, link: RedisLink, roots: Sequence[str]) -> None:
        self._link = link
        self.name = link.name
        self.roots = roots

    async def primaries(self, roots: Iterable[str]) -> Mapping[RedisLink, list[str]]:
        """See the Protocol."""
        return {self._link: list(roots)}

    async def send(self, requests: Sequence[Request], caller: Caller) -> list[Reply]:
        """See the Protocol."""
        return await send_to(self._link, requests, caller)

    def dedicated_connection(self) -> AbstractConnection:
        """See the Protocol."""
        return self._link.dedicated_connection()

    def refresh_soon(self) -> None:
        """See the Protocol. There is nothing to read: the server has all shards."""

    async def close(self) -> None:
        """See the Protocol."""
        await self._link.close()


async def send_to(link: RedisLink, requests: Sequence[Request], caller: Caller) -> list[Reply]:
    """Send requests to one server. If it does not reply, the StoreError is the reply to each."""
    try:
        return await link.exchange(b"".join([request.packed for request in requests]), len(requests), caller)
    except StoreError as error:
        return [error] * len(requests)


def is_redirection(reply: Reply) -> bool:
    """Return whether the reply only says that a slot has moved, or is being moved: it says nothing about the node."""
    return isinstance(reply, AskError | TryAgainError) or (
        isinstance(reply, ResponseError) and _NOT_LOCAL in str(reply)
    )


def raise_first_error(replies: Iterable[Reply], name: str) -> None:
    """Raise the first error among the replies as a StoreError. `name`: of the servers."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise store_error_of(reply, name) from None
