"""The server's side of the zygote: start a tool, wait for it, end it. Nothing else in this room starts a process.

A Child belongs to the coroutine that started it, which must `end` it; ending is TERM, five seconds, KILL, by group, and
has its own bound. If the zygote dies, its children die with it (PDEATHSIG), their waiters get ToolsLost, and the next
start brings a new zygote, after a pause that grows while it keeps dying.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from msgspec import json

from ytmp3.converter.sandbox.pipes import resolve
from ytmp3.converter.sandbox.protocol import (
    MAX_PACKET_BYTES,
    Ended,
    Execute,
    ForkYoutube,
    Ready,
    Refused,
    Request,
    Signal,
    Started,
    Walls,
    decode_answer,
    encode_request,
)
from ytmp3.converter.youtube.news import Extraction, Preload

TERM_SECONDS: Final = 5.0
KILL_SECONDS: Final = 0.9
"""After KILL a process is gone in milliseconds, unless it hangs in the kernel: then it is not waited for."""

START_SECONDS: Final = 20.0
"""For yt-dlp to be imported on a loaded machine; 0.6 s on an idle one."""

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0

PATH: Final = "/usr/local/bin:/usr/bin:/bin"


logger = logging.getLogger(__name__)


class ToolsLostError(Exception):
    """The zygote is gone or cannot be started, or a child could not be forked."""


class Child:
    """One running tool."""

    def __init__(self, number: int, spawner: "Spawner") -> None:
        self._number = number
        self._spawner = spawner
        self.pid = 0
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Ended:
        """Wait for the end, however long; cancelling the wait does nothing to the tool.

        Raises:
            ToolsLostError: the zygote died, and this child with it.
        """
        return await asyncio.shield(self.ended)

    async def end(self) -> None:
        """Make sure the tool and its descendants are gone. Returns within 6 seconds, whatever happens."""
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            if self.ended.done():
                return
            with contextlib.suppress(ToolsLostError):
                await self._spawner.send(Signal(child=self._number, signal=number))
            await asyncio.wait([self.ended], timeout=seconds)
        if not self.ended.done():
            logger.error("a tool outlived KILL", extra={"tool_pid": self.pid})

    def lose(self, error: ToolsLostError) -> None:
        """Tell the waiters that nothing more will be heard of this child."""
        for future in (self.started, self.ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # not every future has a waiter


class Spawner:
    """Owns the zygote, and starts it again when it dies."""

    def __init__(self, preload: Preload) -> None:
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._ready: asyncio.Future[Ready] | None = None
        self._children: dict[int, Child] = {}
        self._last_number = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._started_at = 0.0

    async def ready(self) -> Ready:
        """Return the zygote's first words, starting one if there is none.

        Raises:
            ToolsLostError: it does not start.
        """
        async with self._starting:
            if self._socket is None:
                await self._start()
            assert self._ready is not None
            try:
                # Not wait_for: on 3.11 it swallows a cancellation that meets a finished future.
                async with asyncio.timeout(START_SECONDS):
                    return await asyncio.shield(self._ready)
            except TimeoutError:
                await self._stop()
                raise ToolsLostError("the zygote did not start in time") from None

    async def fork_youtube(self, extraction: Extraction, walls: Walls, *, log: int, news: int) -> Child:
        """Fork a youtube child. The descriptors stay the caller's, who closes its copies.

        Raises:
            ToolsLostError: it could not be started.
        """
        return await self._spawn(
            lambda number: ForkYoutube(child=number, extraction=extraction, walls=walls), [log, news]
        )

    async def execute(self, argv: list[str], walls: Walls, descriptors: list[int], *, folder: str) -> Child:
        """Start a program with these descriptors as its 0, 1, 2, ... They stay the caller's.

        Raises:
            ToolsLostError: it could not be forked. A program that is missing ends with TOOL_NOT_STARTED instead.
        """
        environment = tool_environment(folder)
        return await self._spawn(
            lambda number: Execute(child=number, argv=argv, environment=environment, folder=folder, walls=walls),
            descriptors,
        )

    async def _spawn(self, request: Callable[[int], Request], descriptors: list[int]) -> Child:
        await self.ready()
        self._last_number += 1
        child = self._children[self._last_number] = Child(self._last_number, self)
        try:
            await self.send(request(self._last_number), descriptors)
            await asyncio.shield(child.started)
        except asyncio.CancelledError:
            # It may exist by now, or be about to: whoever asked for it is gone, so it is ended here.
            await child.end()
            raise
        return child

    async def send(self, request: Request, descriptors: list[int] | None = None) -> None:
        """Send one packet.

        Raises:
            ToolsLostError: there is no zygote.
        """
        packet = encode_request(request)
        async with self._sending:
            while self._socket is not None:
                try:
                    socket.send_fds(self._socket, [packet], descriptors or [])
                except BlockingIOError:
                    await self._writable(self._socket)
                except OSError:
                    break
                else:
                    return
        raise ToolsLostError("the zygote is gone")

    async def _writable(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(connection, resolve, writable, None)
        try:
            await writable
        finally:
            loop.remove_writer(connection)

    async def _start(self) -> None:
        if self._process is not None:
            await self._stop()
            await asyncio.sleep(self._pause_seconds)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = await asyncio.to_thread(_start_zygote, theirs)
        except OSError as error:
            ours.close()
            raise ToolsLostError(f"the zygote cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        ours.setblocking(False)  # noqa: FBT003  positional only
        # A packet, not an argument: a proxy's address may hold a password, and command lines are public.
        ours.send(json.encode(self._preload))
        self._socket = ours
        self._started_at = time.monotonic()
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(ours, self._listen)

    def _listen(self) -> None:
        assert self._socket is not None
        try:
            packet = self._socket.recv(MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._lost()
            return
        match answer := decode_answer(packet):
            case Ready():
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(answer)
            case Started():
                child = self._children[answer.child]
                child.pid = answer.pid
                resolve(child.started, None)
            case Refused():
                self._children.pop(answer.child).lose(ToolsLostError(f"no child: {answer.reason}"))
            case Ended():
                resolve(self._children.pop(answer.child).ended, answer)

    def _lost(self) -> None:
        """The zygote has closed its end: it is dead, or dying."""
        self._forget_socket()
        error = ToolsLostError("the zygote died")
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()
        for child in self._children.values():
            child.lose(error)
        self._children.clear()
        survived = time.monotonic() - self._started_at > LONGEST_PAUSE_SECONDS
        self._pause_seconds = FIRST_PAUSE_SECONDS if survived else min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        logger.error("the tool process died", extra={"restart_pause_seconds": self._pause_seconds})

    async def _stop(self) -> None:
        self._forget_socket()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_reap_zygote, process)

    def _forget_socket(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def close(self) -> None:
        """End the zygote and with it every tool; returns when none is left."""
        children = list(self._children.values())
        await self._stop()
        for child in children:
            child.lose(ToolsLostError("closed"))
        self._children.clear()


def tool_environment(folder: str) -> dict[str, str]:
    """Return all that a tool gets to know of our environment: nothing of it. `folder` is its home."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder}


def _start_zygote(connection: socket.socket) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "YTDLP_NO_PLUGINS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ytmp3.converter.sandbox.zygote"],
        stdin=connection.fileno(),
        env=environment,
        start_new_session=True,
    )


def _reap_zygote(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(TERM_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
