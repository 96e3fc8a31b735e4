"""The zygote: one preloaded, single-threaded process that starts every tool of an instance. `python -m` runs it.

It has yt-dlp in memory, so that a youtube child is a fork, and it puts the walls up between fork and exec, so that the
threaded server needs no preexec function. Rules: it never waits for a child with the server waiting behind it, it
signals only groups whose leader it has not reaped, and it ends every group when the server's end of the socket closes.

Measured on 2 cores against stdlib `multiprocessing` forkserver with the same preload: a child runs 1.9 ms after it was
asked for, there 11.4 ms, with 0.6 ms of the server's CPU in both. The forkserver starts no programs, so ffmpeg would
still need a way of its own to stand behind walls.
"""

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import Final, NoReturn

from msgspec import json

from ytmp3.converter.sandbox.protocol import (
    MAX_PACKET_BYTES,
    STATUS_DESCRIPTOR,
    TOOL_NOT_STARTED,
    Answer,
    Ended,
    Execute,
    ForkYoutube,
    Refused,
    Request,
    Signal,
    Started,
    decode_request,
)
from ytmp3.converter.sandbox.walls import Kernel
from ytmp3.converter.youtube.extractor import Youtube
from ytmp3.converter.youtube.news import Preload

_OWN_CHILDREN: Final = Path("/proc/thread-self/children")

_CHANGED_SIGNALS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""By us, and by Python at its start; what is ignored stays so over exec, and no program expects that."""

MAX_DESCRIPTORS: Final = 8
END_SECONDS: Final = 1.0
END_PAUSE_SECONDS: Final = 0.005
"""For what was killed to be gone: milliseconds, unless it hangs in the kernel."""

ORPHAN_SWEEP_SECONDS: Final = 0.05
"""How soon an orphan that left its group is looked for again, while there are any."""


class Zygote:
    """Forks on request, reaps, reports."""

    def __init__(self, server: socket.socket, kernel: Kernel, youtube: Youtube) -> None:
        self._server = server
        self._kernel = kernel
        self._youtube = youtube
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, int] = {}  # child number -> pid, which is also its group
        self._orphans_left = False

    def serve(self) -> None:
        """Serve until the server closes its end; then end everything."""
        self._selector.register(self._server, selectors.EVENT_READ)
        try:
            while self._turn():
                pass
        finally:
            self._end_all()

    def _turn(self) -> bool:
        for key, _ in self._selector.select(ORPHAN_SWEEP_SECONDS if self._orphans_left else None):
            if key.fileobj is not self._server:
                self._reap(key.data, key.fd)
            elif not self._answer_one():
                return False
        if self._orphans_left:
            self._sweep_orphans()
        return True

    def _answer_one(self) -> bool:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._server, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
        except ConnectionError:
            return False
        if not packet:
            return False
        try:
            self._obey(decode_request(packet), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _obey(self, request: Request, descriptors: list[int]) -> None:
        match request:
            case Signal():
                if request.child in self._children:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._children[request.child], request.signal)
            case ForkYoutube() | Execute():
                self._start(request, descriptors)

    def _start(self, request: ForkYoutube | Execute, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say(Refused(child=request.child, reason=os.strerror(error.errno or 0)))
            return
        if pid == 0:
            self._become(request, descriptors)
        # Also done by the child itself: whoever comes first, the group exists before anyone signals it.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        try:
            self._follow(request.child, pid)
        except OSError as error:
            # No descriptor is left to learn of its end by. It has just begun and is killed: the wait is over at once.
            _kill_group(pid)
            os.waitpid(pid, 0)
            self._orphans_left = True
            self._say(Refused(child=request.child, reason=os.strerror(error.errno or 0)))
            return
        self._children[request.child] = pid
        self._say(Started(child=request.child, pid=pid))

    def _follow(self, child: int, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            self._selector.register(pidfd, selectors.EVENT_READ, child)
        except OSError:
            os.close(pidfd)
            raise

    def _become(self, request: ForkYoutube | Execute, descriptors: list[int]) -> NoReturn:
        """Run in the forked child; never returns into the zygote's loop."""
        status = TOOL_NOT_STARTED
        try:
            # What goes wrong from here on is said where the tool's own complaints are read.
            os.dup2(descriptors[2] if isinstance(request, Execute) else descriptors[0], 2)
            self._kernel.raise_walls(request.walls, self._pid)
            if isinstance(request, Execute):
                _arrange(descriptors)
                for number in _CHANGED_SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
                os.chdir(request.folder)
                os.execve(request.argv[0], request.argv, request.environment)  # noqa: S606  no shell is the point
            log, news = descriptors
            _arrange([os.open(os.devnull, os.O_RDONLY), log, log, news])
            status = self._youtube.run(request.extraction, STATUS_DESCRIPTOR, self._kernel.leave_network)
        except OSError as error:
            os.write(2, f"not started: {error.strerror}\n".encode())
        finally:
            # Not sys.exit: nothing of the zygote's may be finalised here.
            os._exit(status)

    def _reap(self, child: int, pidfd: int) -> None:
        """The child is a zombie: its pid is still its own, so its group can be ended without hitting a stranger."""
        pid = self._children.pop(child)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _kill_group(pid)
        _, status, usage = os.wait4(pid, 0)
        self._say(
            Ended(
                child=child,
                status=os.waitstatus_to_exitcode(status),
                cpu_seconds=usage.ru_utime + usage.ru_stime,
            )
        )
        self._orphans_left = True

    def _sweep_orphans(self) -> None:
        """End descendants that left their group (setsid): as subreaper we have inherited them."""
        self._orphans_left = False
        known = set(self._children.values())
        for pid in _own_children():
            if pid not in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                reaped, _ = os.waitpid(pid, os.WNOHANG)
                self._orphans_left |= not reaped

    def _end_all(self) -> None:
        """Kill and reap everything, so that nothing is left when this process ends; bounded."""
        for pid in self._children.values():
            _kill_group(pid)
        # Known to nobody any more: the sweep takes them all.
        self._children.clear()
        deadline = time.monotonic() + END_SECONDS
        self._orphans_left = True
        while self._orphans_left and time.monotonic() < deadline:
            self._sweep_orphans()
            time.sleep(END_PAUSE_SECONDS)

    def _say(self, answer: Answer) -> None:
        with contextlib.suppress(ConnectionError):  # the server is gone: the next turn sees it
            self._server.send(json.encode(answer))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _own_children() -> list[int]:
    try:
        return [int(pid) for pid in _OWN_CHILDREN.read_text("ascii").split()]
    except OSError:
        return []  # kernel without CONFIG_PROC_CHILDREN: groups are still ended


def _arrange(descriptors: list[int]) -> None:
    """Make `descriptors` this process's 0, 1, 2, ... and close all others."""
    high = [os.dup2(descriptor, 64 + index, inheritable=False) for index, descriptor in enumerate(descriptors)]
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, index)
    os.closerange(len(high), os.sysconf("SC_OPEN_MAX"))


def _own_socket() -> socket.socket:
    """Take the socket from descriptor 0, and leave /dev/null there."""
    server = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return server


def main() -> None:
    """Preload what the server's first packet names, then serve."""
    for number in (signal.SIGINT, signal.SIGHUP):
        # A terminal's ^C is the server's business: it drains, and the tools must live until then.
        signal.signal(number, signal.SIG_IGN)
    server = _own_socket()
    preload = json.decode(server.recv(MAX_PACKET_BYTES), type=Preload)
    kernel = Kernel()
    kernel.adopt_orphans()
    kernel.yield_to_other_sessions()
    kernel.precede_the_server()
    kernel.takes_filters = _network_walls_stand(kernel)
    youtube = Youtube(preload)
    ready = youtube.ready(network_walls=kernel.takes_filters)
    # What is in memory now stays shared with every child: the collector must not touch (and so copy) it.
    gc.collect()
    gc.freeze()
    zygote = Zygote(server, kernel, youtube)
    server.send(json.encode(ready))
    zygote.serve()


def _network_walls_stand(kernel: Kernel) -> bool:
    """Ask in a fork: the filter cannot be taken off again."""
    pid = os.fork()
    if pid == 0:
        os._exit(not kernel.refuse_network())
    return os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    main()
