"""The Lua scripts of `lua/`: read once, run by their digests, and sent again if the server no longer has them.

Each file except those in SHARED is one script. The text that is sent consists of the file's first line (with the
script's flags), the constants that are generated here from the enumerations of `core`, the shared files, the check of
the indexes if the script may write, and the rest of the file.

Why digests: the text of each script has more than 13 kB, and a status would send it with every poll. A server forgets
its scripts when it is restarted, and a promoted replica may never have had them. So no call relies on `load`: if a
digest is unknown, nothing was run, and the same call is sent once more with the text.

Why the constants are generated: a state or a limit that was written a second time in Lua could differ from that of
`core` without a test that notices it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Final

from redis.exceptions import NoScriptError

from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import PLACE_CHARACTERS
from ytmp3.core.job import EVENT_OF_STATE, Stage, State
from ytmp3.core.states import ELSEWHERE_SECONDS, HEAD_START_SECONDS
from ytmp3.core.webhook import BATCH_PREFIX, MAX_TARGETS, DeliveryState, WebhookEvent
from ytmp3.jobstore.redis.link import Argument, Caller, RedisLink, Reply, pack
from ytmp3.jobstore.redis.nodes import Nodes, Request, raise_first_error

FOLDER: Final = "lua"
"""The folder of the scripts, next to this module."""
SHARED: Final = ("shared.lua", "outbox.lua")
"""The files that every script begins with, in this order."""
READS_ONLY: Final = "flags=no-writes"
"""What the first line of a script that writes nothing contains."""
CHECK: Final = "local wrong = wrong_index() if wrong then return wrong end\n"
"""The check before the first write (`wrong_index` in shared.lua)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script's whole text, and its SHA-1 digest, by which the server identifies it."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of one script."""

    script: str
    """The name of its file, without the extension."""
    root: str
    """The prefix of all its keys (`Keys.root_of`). It is passed as the only element of KEYS."""
    arguments: tuple[Argument, ...]


def read_scripts() -> Mapping[str, Script]:
    """Return every script by name."""
    folder = files(__package__) / FOLDER
    shared = constants() + "\n".join((folder / name).read_text("utf-8") for name in SHARED)
    scripts = {}
    for file in folder.iterdir():
        name, _, extension = file.name.rpartition(".")
        if extension != "lua" or file.name in SHARED:
            continue
        flags, _, body = file.read_text("utf-8").partition("\n")
        text = f"{flags}\n{shared}\n{'' if READS_ONLY in flags else CHECK}{body}"
        # Redis identifies scripts by their SHA-1; no security depends on it.
        scripts[name] = Script(text=text, digest=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


def constants() -> str:
    """Return Lua source that defines the names of states, stages and events, and constants of `core`."""
    events = ", ".join(f"{state.value} = '{event.value}'" for state, event in EVENT_OF_STATE.items())
    lines = (
        f"STATE = {_table(State)}",
        f"STAGE = {_table(Stage)}",
        f"HEAD_START_SECONDS = {HEAD_START_SECONDS}",
        f"ELSEWHERE_SECONDS = {ELSEWHERE_SECONDS}",
        f"PLACE_CHARACTERS = {PLACE_CHARACTERS}",
        f"POISON = '{FailureCode.POISON}'",
        f"EVENT = {{{events}}}",
        f"DELIVERY = {_table(DeliveryState)}",
        f"BATCH_COMPLETED = '{WebhookEvent.BATCH_COMPLETED}'",
        f"BATCH_PREFIX = '{BATCH_PREFIX}'",
        f"MAX_TARGETS = {MAX_TARGETS}",
    )
    return "".join(f"local {line}\n" for line in lines)


def _table(names: type[StrEnum]) -> str:
    return "{" + ", ".join(f"{member.name} = '{member.value}'" for member in names) + "}"


class Scripts:
    """Runs the scripts, each on the server that has its shard."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._scripts = read_scripts()

    async def load(self, link: RedisLink, caller: Caller) -> None:
        """Send every script to a server.

        Raises:
            StoreUnusable: the server cannot compile a script.
            StoreDown
        """
        commands = [("SCRIPT", "LOAD", script.text) for script in self._scripts.values()]
        replies = await link.exchange(pack(commands), len(commands), caller)
        raise_first_error(replies, link.name)

    async def run(self, call: Call, caller: Caller) -> Reply:
        """Run one script, in one round trip, or in two if the server no longer has it (a restart, SCRIPT FLUSH)."""
        (reply,) = await self.run_all([call], caller)
        return reply

    async def run_all(self, calls: Sequence[Call], caller: Caller) -> list[Reply]:
        """Run several scripts, sent in one write to each server.

        Raises:
            StoreError: the error of the first script that failed. The other scripts have run nevertheless.
        """
        replies = await self.try_all(calls, caller)
        raise_first_error(replies, self._nodes.name)
        return replies

    async def try_all(self, calls: Sequence[Call], caller: Caller) -> list[Reply]:
        """Do the same, but return the errors of scripts, and of servers that do not reply, among the replies."""
        replies = await self._nodes.send([self.request(call) for call in calls], caller)
        unknown = [position for position, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._nodes.send([self.request(calls[position], verb="EVAL") for position in unknown], caller)
            for position, reply in zip(unknown, again, strict=True):
                replies[position] = reply
        return replies

    def request(self, call: Call, *, verb: str = "EVALSHA") -> Request:
        """Encode a call. `verb` is EVALSHA, or EVAL to send the text of the script too; `_RO` at the end: at a replica.

        If the server does not have the script of an EVALSHA, it replies with the error NOSCRIPT.
        """
        script = self._scripts[call.script]
        named = script.digest if verb.startswith("EVALSHA") else script.text
        return Request(root=call.root, packed=pack([(verb, named, 1, call.root, *call.arguments)]), is_script=True)
