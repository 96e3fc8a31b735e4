"""The zygote: one single-threaded process with everything preloaded, which forks every child process of an instance.

It keeps a slow-to-import program in memory, so that starting it again is a fork, and it applies limits and profiles
between fork and exec, so that the threaded server needs no preexec function. The caller of `serve` chooses what is
preloaded; this module does not depend on it.

Rules: the zygote never waits for a running child, because the server would wait too; it signals only process groups
whose leader it has not reaped; and it ends all groups when the server closes its end of the socket.

Why not the forkserver of the standard library's `multiprocessing`: with the same preload, on 2 cores, it takes 11.4 ms
from the request to a running child, and this zygote takes 1.9 ms (both use 0.6 ms of the server's CPU time). It also
executes no other programs, so ffmpeg would still need another way to get its limits.
"""

import contextlib
import gc
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Protocol

from msgspec import json

from ytmp3.converter.sandbox.confinement import Confinement
from ytmp3.converter.sandbox.limits import Kernel, limit_open_files
from ytmp3.converter.sandbox.protocol import (
    EVENTS_DESCRIPTOR,
    MAX_PACKET_BYTES,
    NOT_STARTED_STATUS,
    Ended,
    Execute,
    Fork,
    Ping,
    Pong,
    Ready,
    Refused,
    Reply,
    Request,
    Signal,
    Started,
    decode_request,
)

_OWN_CHILDREN: Final = Path("/proc/thread-self/children")

_CHANGED_SIGNALS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that this process or Python itself ignores. An ignored signal stays ignored after exec, which programs do not
expect, so the child resets these signals before exec."""

MAX_DESCRIPTORS: Final = 8
"""Most file descriptors that one request may carry. Real requests carry at most five (a youtube child's log, events,
permits, solver and tokens)."""

END_SECONDS: Final = 1.0
"""Longest wait, in seconds, for killed children before the zygote exits. They end within milliseconds, unless one is
stuck in the kernel."""

END_PAUSE_SECONDS: Final = 0.005
"""Pause, in seconds, between two checks during that wait."""

ORPHAN_SWEEP_SECONDS: Final = 0.05
"""Pause, in seconds, between two sweeps for orphans, while there are any."""


class Preloaded(Protocol):
    """What the zygote keeps in memory and runs in forked children."""

    def ready(self) -> bytes:
        """Describe what is loaded, for the server. Called once, in the zygote."""

    def run(self, task: bytes, events: int, leave_everything: Callable[[], object]) -> int:
        """Do one task in a forked child and return the exit status.

        `events` is the descriptor for events to the server. `leave_everything` removes the child's access to files, the
        network and programs; only open descriptors stay usable.
        """


class Zygote:
    """Forks children on request, reaps them, and reports both to the server."""

    def __init__(self, server: socket.socket, kernel: Kernel, confinement: Confinement, preloaded: Preloaded) -> None:
        self._server = server
        self._kernel = kernel
        self._confinement = confinement
        self._preloaded = preloaded
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, int] = {}  # number of the child -> its pid, which is also its process group
        self._orphans_left = False

    def serve(self) -> None:
        """Serve until the server closes its end of the socket; then end all children."""
        self._selector.register(self._server, selectors.EVENT_READ)
        try:
            while self._serve_once():
                pass
        finally:
            self._end_all()

    def _serve_once(self) -> bool:
        """Wait for requests and ended children, and handle them. False when the server has closed its end."""
        for key, _ in self._selector.select(ORPHAN_SWEEP_SECONDS if self._orphans_left else None):
            if key.fileobj is not self._server:
                self._reap(key.data, key.fd)
            elif not self._receive():
                return False
        if self._orphans_left:
            self._sweep_orphans()
        return True

    def _receive(self) -> bool:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._server, MAX_PACKET_BYTES, MAX_DESCRIPTORS)
        except ConnectionError:
            return False
        if not packet:
            return False
        try:
            self._handle(decode_request(packet), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _handle(self, request: Request, descriptors: list[int]) -> None:
        match request:
            case Ping():
                self._send(Pong())
            case Signal():
                if request.child in self._children:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._children[request.child], request.signal)
            case Fork() | Execute():
                self._start(request, descriptors)

    def _start(self, request: Fork | Execute, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._send(Refused(child=request.child, reason=os.strerror(error.errno or 0)))
            return
        if pid == 0:
            self._run_child(request, descriptors)
        # The child makes the same call: whichever runs first, the group exists before it gets a signal.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        try:
            self._watch(request.child, pid)
        except OSError as error:
            # No descriptor is left for a pidfd, so the zygote would not notice the child's end: it kills the child now.
            # The child has only just been forked, so the wait takes no noticeable time.
            _kill_group(pid)
            os.waitpid(pid, 0)
            self._orphans_left = True
            self._send(Refused(child=request.child, reason=os.strerror(error.errno or 0)))
            return
        self._children[request.child] = pid
        self._send(Started(child=request.child, pid=pid))

    def _watch(self, child: int, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            self._selector.register(pidfd, selectors.EVENT_READ, child)
        except OSError:
            os.close(pidfd)
            raise

    def _run_child(self, request: Fork | Execute, descriptors: list[int]) -> NoReturn:
        """Turn the forked process into the child. Never returns into the zygote's loop."""
        status = NOT_STARTED_STATUS
        try:
            # From here on, stderr is the pipe from which the server reads the child's errors.
            os.dup2(descriptors[2] if isinstance(request, Execute) else descriptors[0], 2)
            self._kernel.limit(request.limits, self._pid)
            if isinstance(request, Execute):
                self._execute(request, descriptors)
            log, events, *more = descriptors
            _arrange([os.open(os.devnull, os.O_RDONLY), log, log, events, *more])
            limit_open_files(self._kernel.open_files)
            self._confinement.confine(request.limits, -1)
            status = self._preloaded.run(request.task, EVENTS_DESCRIPTOR, self._confinement.leave_everything)
        except OSError as error:
            os.write(2, f"not started: {error.strerror}\n".encode())
        finally:
            # Not sys.exit, which would run the finalizers of the zygote's objects here.
            os._exit(status)

    def _execute(self, request: Execute, descriptors: list[int]) -> NoReturn:
        """Execute the program of a request. Raises OSError."""
        for number in _CHANGED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if request.limits.profile is None:
            _arrange(descriptors)
            limit_open_files(self._kernel.open_files)
            os.chdir(request.folder)
            self._confinement.confine(request.limits, -1)
            os.execve(request.argv[0], request.argv, request.environment)  # noqa: S606  no shell is the point
        # The program is executed through a descriptor above the limit, so that the filter can allow exactly this one
        # start (see `seccomp.Rules.program`).
        program = self._kernel.open_files
        os.dup2(os.open(request.argv[0], os.O_PATH | os.O_CLOEXEC), program, inheritable=False)
        _arrange(descriptors, keep=program)
        limit_open_files(self._kernel.open_files)
        os.chdir(request.folder)
        self._confinement.confine(request.limits, program)
        os.execve(program, request.argv, request.environment)  # noqa: S606

    def _reap(self, child: int, pidfd: int) -> None:
        """Reap an ended child. Until then it is a zombie, so its group can be signalled: its pid is not reused yet."""
        pid = self._children.pop(child)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _kill_group(pid)
        _, status = os.waitpid(pid, 0)
        self._send(Ended(child=child, status=os.waitstatus_to_exitcode(status)))
        self._orphans_left = True

    def _sweep_orphans(self) -> None:
        """End descendants that left their process group (setsid): as a subreaper, this process has inherited them."""
        self._orphans_left = False
        known = set(self._children.values())
        for pid in _own_children():
            if pid not in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                reaped, _ = os.waitpid(pid, os.WNOHANG)
                self._orphans_left |= not reaped

    def _end_all(self) -> None:
        """Kill and reap all descendants, so that none is left when this process ends. Takes at most END_SECONDS."""
        for pid in self._children.values():
            _kill_group(pid)
        # With an empty list of children, the sweep treats every descendant as an orphan and kills it.
        self._children.clear()
        deadline = time.monotonic() + END_SECONDS
        self._orphans_left = True
        while self._orphans_left and time.monotonic() < deadline:
            self._sweep_orphans()
            time.sleep(END_PAUSE_SECONDS)

    def _send(self, reply: Reply) -> None:
        with contextlib.suppress(ConnectionError):  # the server is gone, which the next receive notices
            self._server.send(json.encode(reply))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _own_children() -> list[int]:
    try:
        return [int(pid) for pid in _OWN_CHILDREN.read_text("ascii").split()]
    except OSError:
        return []  # kernel without CONFIG_PROC_CHILDREN: process groups are still ended


def _arrange(descriptors: list[int], *, keep: int | None = None) -> None:
    """Make `descriptors` this process's 0, 1, 2, ... and close all others but `keep`."""
    high = [os.dup2(descriptor, 64 + index, inheritable=False) for index, descriptor in enumerate(descriptors)]
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, index)
    end = os.sysconf("SC_OPEN_MAX")
    os.closerange(len(high), end if keep is None else keep)
    if keep is not None:
        os.closerange(keep + 1, end)


def _own_socket() -> socket.socket:
    """Take the socket from descriptor 0, and leave /dev/null there."""
    server = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return server


def serve(preload: Callable[[bytes], Preloaded]) -> None:
    """Run the zygote: preload, then serve until the server closes its end of the socket, which is descriptor 0.

    Called by the `__main__` of a program that the server's `Spawner` has started. `preload` gets the server's first
    packet.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        # Ctrl-C in a terminal signals the server's children as well. The server then drains, and its children must keep
        # running until the drain ends.
        signal.signal(number, signal.SIG_IGN)
    # Imports make many objects and next to no garbage, which the collector would search again and again: without it a
    # start takes about a tenth less CPU time.
    gc.disable()
    server = _own_socket()
    first_packet = server.recv(MAX_PACKET_BYTES)
    kernel = Kernel()
    kernel.become_subreaper()
    kernel.lower_session_priority()
    kernel.raise_zygote_oom_score()
    kernel.forbid_new_privileges()
    kernel.hide_memory()
    _raise_open_files(kernel.open_files)
    confinement = Confinement(kernel)
    protections = confinement.find_out()
    confinement.prepare()
    preloaded = preload(first_packet)
    ready = Ready(preloaded=preloaded.ready(), protections=protections)
    # The memory in use now is shared copy-on-write with every child. gc.freeze keeps the garbage collector from writing
    # to it, because each write would copy a page.
    gc.collect()
    gc.freeze()
    gc.enable()
    zygote = Zygote(server, kernel, confinement, preloaded)
    try:
        server.send(json.encode(ready))
    except BrokenPipeError:
        return  # The server has ended, or has waited for too long on a busy machine.
    zygote.serve()


def _raise_open_files(children: int) -> None:
    """Raise the limit of open descriptors above that of the children, for the descriptor of a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft <= children:
        resource.setrlimit(resource.RLIMIT_NOFILE, (children + 1, hard))
