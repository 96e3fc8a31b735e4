"""The values that all instances share (`jobstore.SharedValues`): one string each.

    root:v:NAME   string: the value. It expires when it is not written any more

The root is that of the shard of the name's hash.

Both operations are scripts: `read` returns the value and the time of the same moment, so that rules which depend on
time use the clock of the server that keeps the value, and `replace` compares and writes in one step. The workers'
timeout is used, because a conversion waits for the value and not an HTTP request.
"""

from typing import Protocol

from ytmp3.core.ids import ClientId, shard_of
from ytmp3.jobstore import SHARED_VALUE_SECONDS, SharedValue
from ytmp3.jobstore.redis.link import Argument, Reply
from ytmp3.jobstore.redis.records import readable


class Run(Protocol):
    """Runs a script on the shard that `some_id` begins with."""

    async def __call__(self, script: str, some_id: str, *arguments: Argument) -> Reply:
        """Return the reply."""


class RedisSharedValues:
    """See the Protocol. `run` reaches the server with the timeouts of workers."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def read(self, name: str) -> SharedValue:
        """See the Protocol."""
        reply = await self._run("read_value", _shard_of(name), name)
        with readable():
            data, now = reply
            return SharedValue(data=data or None, now=float(now))

    async def replace(self, name: str, old: bytes | None, new: bytes) -> bool:
        """See the Protocol. An absent value is compared as an empty one, which is never written."""
        life = round(SHARED_VALUE_SECONDS * 1000)
        return bool(await self._run("replace_value", _shard_of(name), name, old or b"", new, life))


def _shard_of(name: str) -> str:
    return shard_of(ClientId(name))
