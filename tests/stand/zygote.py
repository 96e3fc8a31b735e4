"""Zygotes for tests: started on a machine that may be busy, and kept for later tests that need the same program.

A start takes half a second of CPU time, and a zygote that has ended all children of a test is as good as a new one. A
test that inspects the start or the end of its zygote, or sets the environment of the start, asks for one of its own.
"""

import asyncio
import atexit
import contextlib
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Final

from tests.stand.processes import descendants
from ytmp3.converter.sandbox.program import ZygoteProgram
from ytmp3.converter.sandbox.protocol import Ping, Ready
from ytmp3.converter.sandbox.spawner import START_SECONDS, TERM_SECONDS, Spawner, ZygoteError

STARTS: Final = 10
"""How often it is started at most. A start takes 0.6 s on an idle machine; on a busy one it may take longer than the
20 s that the server waits.
"""
MOST_KEPT: Final = 2
"""How many zygotes are kept, of different programs. Each has about 60 MB of memory, in each worker of the test run."""


async def until_ready(spawner: Spawner) -> Ready:
    """Return once a zygote is ready. Raises ZygoteError if it still does not start after several attempts."""
    for _ in range(STARTS):
        with contextlib.suppress(ZygoteError):
            return await spawner.ready()
    return await spawner.ready()


@dataclass(frozen=True)
class _Kept:
    """A zygote without children and without a server."""

    program: ZygoteProgram
    process: subprocess.Popen[bytes]
    connection: socket.socket
    ready: Ready

    def end(self) -> None:
        self.connection.close()
        try:
            self.process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class KeptZygotes:
    """The zygotes that no test uses now, the latest one last."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        atexit.register(self.end_all)

    def take(self, program: ZygoteProgram) -> _Kept | None:
        """Take a zygote of this program; None if there is none."""
        for kept in self._kept:
            if kept.program == program:
                self._kept.remove(kept)
                return kept
        return None

    def keep(self, kept: _Kept) -> None:
        """Keep a zygote, and end the one that has not been used for longest if there are too many."""
        self._kept.append(kept)
        if len(self._kept) > MOST_KEPT:
            self._kept.pop(0).end()

    def end_all(self) -> None:
        """End all of them."""
        while self._kept:
            self._kept.pop().end()


class KeepingSpawner(Spawner):
    """Begins with a kept zygote, and keeps its zygote at the end unless something of the test is left in it."""

    def __init__(self, program: ZygoteProgram, zygotes: KeptZygotes, *, hang_seconds: int) -> None:
        super().__init__(program, hang_seconds=hang_seconds)
        self._program = program
        self._zygotes = zygotes

    async def _start(self) -> None:
        kept = None if self._process is not None else self._zygotes.take(self._program)
        if kept is None:
            await super()._start()
            return
        loop = asyncio.get_running_loop()
        self._process, self._socket = kept.process, kept.connection
        self._started_at = time.monotonic()
        self._ready = loop.create_future()
        self._ready.set_result(kept.ready)
        loop.add_reader(kept.connection, self._receive)
        self._watchdog = asyncio.create_task(self._watch(kept.process, self._ready), name="zygote-watchdog")

    async def close(self) -> None:
        """Keep the zygote if it is idle and replies; else end it."""
        if await self._is_idle():
            assert self._process is not None
            assert self._socket is not None
            assert self._ready is not None
            kept = _Kept(self._program, self._process, self._socket.dup(), self._ready.result())
            self._process = None  # `close` ends only what it finds here
            self._zygotes.keep(kept)
        await super().close()

    async def _is_idle(self) -> bool:
        if self._process is None or self._ready is None or not self._ready.done():
            return False
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait([self._watchdog])
        self._pong = asyncio.get_running_loop().create_future()
        try:
            await self.send(Ping())
        except ZygoteError:
            return False
        # The ends of earlier children arrive before the reply.
        await asyncio.wait([self._pong], timeout=START_SECONDS)
        return self._pong.done() and not self._children and not descendants(self._process.pid, with_zombies=True)
