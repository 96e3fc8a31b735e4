"""The Lua scripts: read once, run by their digest, loaded again wherever the server has forgotten them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from redis.exceptions import NoScriptError

from ytmp3.jobstore.redis.link import Argument, Lane, RedisLink, Reply, pack

NAMES: Final = (
    "adopt",
    "cancel",
    "claim",
    "expire",
    "fail",
    "finish",
    "forget",
    "get",
    "release",
    "renew",
    "retry",
    "submit",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script's whole text, and the digest that the server knows it by."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of one script. `root` names all its keys (see lua/shared.lua)."""

    script: str
    root: str
    arguments: tuple[Argument, ...]


def read_scripts() -> Mapping[str, Script]:
    """Return every script, with the shared part after its first line (which holds the flags)."""
    folder = files("ytmp3.jobstore.redis") / "lua"
    shared = (folder / "shared.lua").read_text("utf-8")
    scripts = {}
    for name in NAMES:
        flags, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
        text = f"{flags}\n{shared}\n{body}"
        # The server names scripts by SHA-1; nothing is secured by it.
        scripts[name] = Script(text=text, digest=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


class Scripts:
    """Runs scripts over a link."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._scripts = read_scripts()

    async def load(self, lane: Lane) -> None:
        """Make the server know every script.

        Raises:
            StoreUnusable: it cannot compile them.
            StoreDown
        """
        commands = [("SCRIPT", "LOAD", script.text) for script in self._scripts.values()]
        replies = await self._link.exchange(pack(commands), len(commands), lane)
        self._raise_first_error(replies)

    async def run(self, call: Call, lane: Lane) -> Reply:
        """Run one script: one round trip, but for the first after the server forgot it."""
        (reply,) = await self.run_all([call], lane)
        return reply

    async def run_all(self, calls: Sequence[Call], lane: Lane) -> list[Reply]:
        """Run scripts, sent in one write.

        Raises:
            StoreError: of the first that failed; the others have run.
        """
        replies = await self._send(calls, "EVALSHA", lane)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._send([calls[place] for place in unknown], "EVAL", lane)
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        self._raise_first_error(replies)
        return replies

    def packed(self, *calls: Call, verb: str = "EVALSHA") -> bytes:
        """Return the calls as they go over the wire. A server that forgot a script answers NOSCRIPT."""
        return pack([(verb, self._named(call.script, verb), 1, call.root, *call.arguments) for call in calls])

    async def _send(self, calls: Sequence[Call], verb: str, lane: Lane) -> list[Reply]:
        return await self._link.exchange(self.packed(*calls, verb=verb), len(calls), lane)

    def _named(self, name: str, verb: str) -> str:
        script = self._scripts[name]
        return script.digest if verb == "EVALSHA" else script.text

    def _raise_first_error(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._link.translated(reply) from None
