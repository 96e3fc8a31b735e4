"""The server's side of the zygote: starts child processes, waits for them and ends them. The only place that does so.

The coroutine that starts a Child owns it, and must call `end`. This sends SIGTERM and, after five seconds, SIGKILL to
the child's process group, and takes a bounded time. If the zygote dies, its children die with it (PDEATHSIG), and all
coroutines that wait for them get a ZygoteError. The next start of a child starts a new zygote, after a pause that grows
if zygotes keep dying. A zygote that hangs is killed: it is asked for a sign of life every few seconds, and the server's
own clock decides.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.sandbox.pipes import resolve
from ytmp3.converter.sandbox.program import NO_DENO_CACHE, PATH, ZygoteProgram, start_zygote
from ytmp3.converter.sandbox.protocol import (
    MAX_PACKET_BYTES,
    Ended,
    Execute,
    Fork,
    Ping,
    Pong,
    Ready,
    Refused,
    Reply,
    Request,
    ResourceLimits,
    Signal,
    Started,
    decode_reply,
    encode_request,
)

TERM_SECONDS: Final = 5.0
"""Time, in seconds, between SIGTERM and SIGKILL."""

KILL_SECONDS: Final = 0.9
"""Longest wait for a child after SIGKILL, in seconds. A child ends within milliseconds, unless it hangs in the
kernel."""

START_SECONDS: Final = 20.0
"""Longest time, in seconds, until a zygote is ready. It takes 0.6 s on an idle machine, mostly for imports."""

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Pause, in seconds, before a new zygote replaces a dead one. It doubles, up to the longest pause, with each zygote
that lived for less than the longest pause."""

PING_SECONDS: Final = 2.0
"""Interval, in seconds, at which the zygote is asked for a sign of life."""

HANG_SECONDS: Final = 15
"""How many seconds a zygote may take to reply. It takes a millisecond, and on a machine that is out of memory or CPU
time some seconds. All its children are lost when it is killed, so this is generous."""

logger = logging.getLogger(__name__)


class ZygoteError(Exception):
    """The zygote died, could not be started, or could not fork a child. A later start may succeed."""


class Child:
    """One running child process."""

    def __init__(self, number: int, spawner: "Spawner") -> None:
        self._number = number
        self._spawner = spawner
        self.pid = 0
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Ended:
        """Wait for the end of the child, without a timeout. Cancelling the wait does not end the child.

        Raises:
            ZygoteError: the zygote died, and so did this child.
        """
        return await asyncio.shield(self.ended)

    async def end(self) -> None:
        """End the child and its descendants. Returns within 6 seconds in every case."""
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            if self.ended.done():
                return
            with contextlib.suppress(ZygoteError):
                await self._spawner.send(Signal(child=self._number, signal=number))
            await asyncio.wait([self.ended], timeout=seconds)
        if not self.ended.done():
            logger.error("child process survived SIGKILL", extra={"tool_pid": self.pid})

    def fail(self, error: ZygoteError) -> None:
        """Raise the error in every coroutine that waits for this child, because no further message can arrive."""
        for future in (self.started, self.ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # marks it as retrieved: not every future has a waiter


class Spawner:
    """Owns the zygote, and starts a new one if it has died."""

    def __init__(
        self,
        program: ZygoteProgram | Callable[[int], ZygoteProgram],
        *,
        hang_seconds: int = HANG_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """A zygote that does not reply for `hang_seconds` is killed, and so is one that is not ready in time.

        If `program` is a function, it is called in a thread before each start, with the number of starts in a row that
        have failed.
        """
        self._choose = program if callable(program) else lambda _: program
        self._failed_starts = 0
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._ready: asyncio.Future[Ready] | None = None
        self._children: dict[int, Child] = {}
        self._last_number = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._started_at = 0.0
        self._hang_seconds = hang_seconds
        self._watchdog: asyncio.Task[None] | None = None
        self._pong: asyncio.Future[None] | None = None
        """Done when the reply to the last ping has come."""
        self._writable_again: asyncio.Future[None] | None = None
        """Done when the socket can take a further packet, or is closed."""

    @property
    def zygote_pid(self) -> int | None:
        """The process id of the current zygote, which may have died; None if none has been started."""
        return None if self._process is None else self._process.pid

    async def ready(self) -> Ready:
        """Return the zygote's first message, starting a zygote if there is none.

        Raises:
            ZygoteError: the zygote does not start.
        """
        async with self._starting:
            if self._socket is None:
                await self._start()
            assert self._ready is not None
            try:
                # `wait_for` is not used: on Python 3.11 it swallows a cancellation if the future is done already.
                async with asyncio.timeout(self._start_seconds):
                    return await asyncio.shield(self._ready)
            except TimeoutError:
                self._failed_starts += 1
                await self._stop()
                raise ZygoteError("the zygote did not start in time") from None

    async def fork(
        self, task: bytes, limits: ResourceLimits, *, log: int, events: int, more: Sequence[int] = ()
    ) -> Child:
        """Fork a child that runs the preloaded program. The child gets copies of the descriptors.

        `more` become the child's descriptors from FIRST_MORE_DESCRIPTOR on.

        Raises:
            ZygoteError: the child could not be forked.
        """
        return await self._spawn(lambda number: Fork(child=number, task=task, limits=limits), [log, events, *more])

    async def execute(self, argv: list[str], limits: ResourceLimits, descriptors: list[int], *, folder: str) -> Child:
        """Start a program with copies of these descriptors as its 0, 1, 2, ... `folder` is its home.

        Raises:
            ZygoteError: the child could not be forked. (If the program is missing, the child is started and ends with
                NOT_STARTED_STATUS.)
        """
        environment = child_environment(folder)
        return await self._spawn(
            lambda number: Execute(child=number, argv=argv, environment=environment, folder=folder, limits=limits),
            descriptors,
        )

    async def _spawn(self, request: Callable[[int], Request], descriptors: list[int]) -> Child:
        await self.ready()
        self._last_number += 1
        number = self._last_number
        child = self._children[number] = Child(number, self)
        try:
            await self.send(request(number), descriptors)
        except BaseException:
            # The zygote did not get the request, so there is no child to end.
            self._children.pop(number, None)
            raise
        try:
            await asyncio.shield(child.started)
        except asyncio.CancelledError:
            # The child may have been forked, or may be forked later. The caller does not get it, so it is ended here.
            await to_its_end(child.end())
            raise
        return child

    async def send(self, request: Request, descriptors: list[int] | None = None) -> None:
        """Send one packet to the zygote.

        Raises:
            ZygoteError: there is no zygote.
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
        raise ZygoteError("the zygote is gone")

    async def _writable(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        self._writable_again = writable
        loop.add_writer(connection, resolve, writable, None)
        try:
            await writable
        finally:
            # A closed socket has no writer any more, and its number may be that of another descriptor.
            if connection is self._socket:
                loop.remove_writer(connection)

    async def _start(self) -> None:
        if self._process is not None:
            await self._stop()
            await asyncio.sleep(self._pause_seconds)
        try:
            async with asyncio.timeout(self._start_seconds):
                program = await asyncio.to_thread(self._choose, self._failed_starts)
        except TimeoutError:
            raise ZygoteError("the disk with the packages does not respond") from None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = await asyncio.to_thread(start_zygote, program, theirs)
        except OSError as error:
            ours.close()
            raise ZygoteError(f"the zygote cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        ours.setblocking(False)  # noqa: FBT003  positional only
        # This is sent as a packet and not as an argument: the URL of a proxy may contain a password, and every user of
        # the machine can read command lines.
        ours.send(program.preload)
        self._socket = ours
        self._started_at = time.monotonic()
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(ours, self._receive)
        self._watchdog = asyncio.create_task(self._watch(self._process, self._ready), name="zygote-watchdog")

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            packet = self._socket.recv(MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._on_zygote_death()
            return
        self._handle(decode_reply(packet))

    def _handle(self, reply: Reply) -> None:
        match reply:
            case Ready():
                self._failed_starts = 0
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(reply)
            case Started():
                child = self._children[reply.child]
                child.pid = reply.pid
                resolve(child.started, None)
            case Pong():
                if self._pong is not None:
                    resolve(self._pong, None)
            case Refused():
                self._children.pop(reply.child).fail(ZygoteError(f"no child: {reply.reason}"))
            case Ended():
                resolve(self._children.pop(reply.child).ended, reply)

    async def _watch(self, process: subprocess.Popen[bytes], ready: asyncio.Future[Ready]) -> None:
        """Kill the zygote if it does not reply. Ends with the zygote."""
        with contextlib.suppress(ZygoteError):
            await asyncio.shield(ready)
            while self._process is process:
                await asyncio.sleep(PING_SECONDS)
                self._pong = asyncio.get_running_loop().create_future()
                pinging = asyncio.create_task(self._ping(), name="zygote-ping")
                try:
                    await self._until_pong(self._pong)
                finally:
                    pinging.cancel()
                    await asyncio.wait([pinging])
                if not self._pong.done():
                    logger.error("zygote hangs", extra={"zygote_pid": process.pid, "seconds": self._hang_seconds})
                    process.kill()
                    self._on_zygote_death()
                if self._socket is None:
                    return

    async def _ping(self) -> None:
        with contextlib.suppress(ZygoteError):
            await self.send(Ping())

    async def _until_pong(self, pong: asyncio.Future[None]) -> None:
        """Wait for the reply. This counts steps of a second: while this process is stopped, too, no time passes."""
        for _ in range(self._hang_seconds):
            if pong.done() or self._socket is None:
                return
            await asyncio.wait([pong], timeout=1.0)

    def _on_zygote_death(self) -> None:
        """Handle the death of the zygote, which has closed its end of the socket."""
        self._close_socket()
        error = ZygoteError("the zygote died")
        if self._ready is not None and not self._ready.done():
            self._failed_starts += 1
            self._ready.set_exception(error)
            self._ready.exception()
        for child in self._children.values():
            child.fail(error)
        self._children.clear()
        survived = time.monotonic() - self._started_at > LONGEST_PAUSE_SECONDS
        self._pause_seconds = FIRST_PAUSE_SECONDS if survived else min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        logger.error("zygote died", extra={"restart_pause_seconds": self._pause_seconds})

    async def _stop(self) -> None:
        self._close_socket()
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait([self._watchdog])
            self._watchdog = None
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_reap_zygote, process)

    def _close_socket(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
            if self._writable_again is not None:
                resolve(self._writable_again, None)

    async def close(self) -> None:
        """End the zygote and all its children. Returns when no process is left."""
        children = list(self._children.values())
        await self._stop()
        for child in children:
            child.fail(ZygoteError("closed"))
        self._children.clear()


def child_environment(folder: str) -> dict[str, str]:
    """Return the environment of an executed program. It has no variable of the server. `folder` is the HOME."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, **NO_DENO_CACHE}


def _reap_zygote(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(TERM_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
