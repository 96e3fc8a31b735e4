"""The server's side of the solver: answers the questions of the downloading children, and keeps parsed scripts.

A script is kept under its path on YouTube, which names its id and variant, and only while the versions of yt-dlp and
yt-dlp-ejs stay the same. It is dropped after 24 hours, and when YouTube refuses a link that was made with its
solutions. Only this module writes it, into memory: a child, which holds bytes of strangers, cannot change it.

One script is parsed at a time in an instance, so any number of conversions that need the same new script cost one
parsing. A player that could not be solved is not tried again before a pause, which doubles.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from ytmp3.converter import ToolCheck
from ytmp3.converter.child_connection import child_connection
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.solver.messages import (
    MAX_LINE_BYTES,
    MAX_SCRIPT_BYTES,
    Answer,
    LinkRefused,
    ScriptNeeded,
    Solve,
    Solved,
    Unavailable,
    decode_question,
    encode,
)
from ytmp3.converter.solver.processes import Deno, Parsed, SolverError, WarmProcess

MAX_PLAYERS: Final = 4
"""Most parsed scripts that are kept; the most recently used ones are. YouTube serves two during a roll-out."""

MAX_WARM: Final = 2
"""Most of these scripts that have a running process. A process takes about 0.1 GB."""

MAX_KEPT_CHARACTERS: Final = 16 * 2**20
"""Largest size of all parsed scripts together, in characters."""

MAX_REMEMBERED: Final = 32
"""Most players whose failures are kept, so that invented names of players do not fill the memory."""

KEEP_SECONDS: Final = 24 * 3600.0
"""How long a parsed script is kept, in seconds."""

DROP_PAUSE_SECONDS: Final = 600.0
"""After a refused link has caused a script to be parsed again, refused links of the same player are ignored for this
many seconds, because most links are refused for other reasons, and many at once."""

FIRST_PAUSE_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 120.0
"""Pause of a player after a failure, in seconds: the first pause, which doubles with each failure, and the longest."""

PLAYER_PATH: Final = re.compile(r"/s/player/[0-9A-Fa-f]{8,64}/[\w./-]{1,200}")

logger = logging.getLogger(__name__)


class _Player:
    """The state of one player script."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.parsed: Parsed | None = None
        self.parsed_at = 0.0
        self.generation = 0
        self.versions = b""
        self.process: WarmProcess | None = None
        self.dropped_at = -DROP_PAUSE_SECONDS
        self.failures = 0
        self.paused_until = 0.0

    async def cool(self) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        if process is not None:
            await to_its_end(process.end())

    def failed(self) -> None:
        pause = min(FIRST_PAUSE_SECONDS * 2**self.failures, LONGEST_PAUSE_SECONDS)
        self.failures = min(self.failures + 1, 16)
        self.paused_until = time.monotonic() + pause


class Solver:
    """The solver of one instance. Needs a running event loop from the first `connection` on."""

    def __init__(self, spawner: Spawner, *, deno: str | None, folder: Path) -> None:
        self._spawner = spawner
        self._deno = None if deno is None else Deno(spawner=spawner, path=deno, folder=folder)
        self._players: dict[str, _Player] = {}  # the one used last is at the end
        self._parsing = asyncio.Lock()
        self._counts: Counter[str] = Counter(warm=0, cold=0, failed=0)
        self._last_error = ""

    @property
    def solutions(self) -> Mapping[str, int]:
        """How often it was asked: answered at once (warm), after parsing (cold), or not (failed: yt-dlp's own deno)."""
        return self._counts

    @property
    def warm_pids(self) -> list[int]:
        """The process ids of the warm processes."""
        return [player.process.pid for player in self._players.values() if player.process is not None]

    def check(self) -> ToolCheck:
        """Describe the state, for the health check. Never a reason to be unready: yt-dlp can do without the solver."""
        warm, cold, failed = (self._counts[name] for name in ("warm", "cold", "failed"))
        if self._deno is None:
            detail = "off: deno is not installed"
        else:
            detail = f"{len(self.warm_pids)} warm; solved {warm} warm, {cold} cold; failed {failed}"
            detail += f"; last error: {self._last_error}" if self._last_error else ""
        return ToolCheck(name="solver", ok=True, version=None, detail=detail)

    def connection(self) -> AbstractAsyncContextManager[int]:
        """Return a context manager whose value is a descriptor for one child, and in which it is answered."""
        return child_connection(self._serve, name="solver", max_line_bytes=MAX_LINE_BYTES)

    async def close(self) -> None:
        """End every process. All connections must have ended before."""
        for player in self._players.values():
            await player.cool()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            match question := decode_question(line):
                case LinkRefused():
                    await self._drop(question)
                case Solve():
                    if not 0 <= question.script_bytes <= MAX_SCRIPT_BYTES:
                        return
                    script = await reader.readexactly(question.script_bytes)
                    writer.write(encode(await self._answer(question, script)) + b"\n")
                    await writer.drain()

    async def _answer(self, question: Solve, script: bytes) -> Answer:
        if self._deno is None or not PLAYER_PATH.fullmatch(question.player):
            self._counts["failed"] += 1
            return Unavailable(reason="no solver for this player")
        player = self._player(question.player)
        async with player.lock:
            if time.monotonic() < player.paused_until:
                self._counts["failed"] += 1
                return Unavailable(reason="paused after a failure")
            try:
                answer = await self._solved(self._deno, player, question, script)
            except SolverError as error:
                await player.cool()
                player.failed()
                self._counts["failed"] += 1
                self._last_error = str(error)
                logger.warning("solver failed", extra={"player": question.player, "reason": self._last_error})
                return Unavailable(reason=self._last_error)
            player.failures = 0
        await self._shrink()
        return answer

    async def _solved(self, deno: Deno, player: _Player, question: Solve, script: bytes) -> Answer:
        versions = await self._versions()
        is_fresh = player.versions == versions and time.monotonic() - player.parsed_at < KEEP_SECONDS
        if player.parsed is None or not is_fresh:
            if not script:
                return ScriptNeeded()
            await player.cool()
            async with self._parsing:
                player.parsed = await deno.parse(script.decode("utf-8", "replace"), question.requests)
            player.versions, player.parsed_at = versions, time.monotonic()
            player.generation += 1
            player.process = await deno.warm(player.parsed)
            # The functions that the process keeps must do what yt-dlp-ejs did.
            if await player.process.solve(question.requests) != player.parsed.results:
                player.parsed = None
                raise SolverError("the warm process does not give the solutions of yt-dlp-ejs")
            self._counts["cold"] += 1
            return Solved(results=player.parsed.results, generation=player.generation)
        if player.process is None or not player.process.is_running:
            await player.cool()
            player.process = await deno.warm(player.parsed)
        results = await player.process.solve(question.requests)
        self._counts["warm"] += 1
        return Solved(results=results, generation=player.generation)

    async def _drop(self, refused: LinkRefused) -> None:
        player = self._players.get(refused.player)
        if player is None:
            return
        async with player.lock:
            now = time.monotonic()
            if player.generation == refused.generation and now - player.dropped_at > DROP_PAUSE_SECONDS:
                logger.warning("parsed player script dropped after a refused link", extra={"player": refused.player})
                player.dropped_at, player.parsed = now, None
                await player.cool()

    def _player(self, path: str) -> _Player:
        """Return the player, and mark it as the most recently used one."""
        player = self._players.pop(path, None) or _Player()
        self._players[path] = player
        return player

    async def _shrink(self) -> None:
        """Drop the least recently used players beyond the bounds. Players in use are skipped."""
        parsed = warm = characters = 0
        for number, (path, player) in enumerate(reversed(list(self._players.items()))):
            if player.lock.locked():
                continue
            if player.parsed is not None:
                parsed, characters = parsed + 1, characters + len(player.parsed.script)
                if parsed > MAX_PLAYERS or characters > MAX_KEPT_CHARACTERS:
                    player.parsed = None
            if player.process is not None:
                warm += 1
            if player.process is not None and (warm > MAX_WARM or player.parsed is None):
                async with player.lock:
                    await player.cool()
            if number >= MAX_REMEMBERED and player.process is None:
                self._players.pop(path, None)

    async def _versions(self) -> bytes:
        """Return a value that changes with the versions of yt-dlp, yt-dlp-ejs and deno. Raises SolverError."""
        try:
            return (await self._spawner.ready()).preloaded
        except ZygoteError as error:
            raise SolverError(str(error)) from error
