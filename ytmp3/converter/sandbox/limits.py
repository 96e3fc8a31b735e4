"""Limits that a forked child process applies to itself before anything else. It cannot remove them again.

Each child gets its own process group (so that one signal reaches all descendants), a signal when its parent dies,
limits on file size, CPU time, open files and memory, a low scheduling priority, and a higher OOM score than the server.
`confinement` then decides what it can reach. This code runs between fork and exec. The process has only one thread, so
running Python there is safe.

RLIMIT_NPROC is not used: it counts all processes of the user, including the server's, and does not bind root.
"""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ytmp3.converter.sandbox.protocol import ResourceLimits

OPEN_FILES: Final = 256
"""Most open descriptors of a child (RLIMIT_NOFILE). yt-dlp and ffmpeg need far fewer."""

CHILD_OOM_SCORE: Final = 500
ZYGOTE_OOM_SCORE: Final = 250
"""These are added to the server's oom_score_adj (unit: a thousandth of the machine's memory). So the kernel's OOM
killer kills a child before the zygote, and the zygote before the server. They are relative, because Kubernetes sets up
to 980 for a container whose pod requests little memory."""

MAX_OOM_SCORE: Final = 1000
"""The kernel's upper bound of oom_score_adj."""

SESSION_NICENESS: Final = b"10"
"""Niceness of the zygote's session, which contains all children, relative to the other sessions of the machine."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38


class Kernel:
    """Kernel settings for which Python has no function, mostly prctl(2).

    The zygote creates one object before any fork, because loading libc takes a millisecond.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        self._oom_score = max(0, _read_number("/proc/self/oom_score_adj"))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.open_files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard - 1)
        """The limit of open descriptors of the children. The zygote's own limit is above it."""

    def call(self, name: str, *arguments: object) -> int:
        """Call a function of libc.

        Raises:
            OSError: it returned -1.
        """
        result = int(getattr(self._libc, name)(*arguments))
        if result == -1:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result

    def system_call(self, number: int, *arguments: object) -> int:
        """Make a system call that libc has no function for. Raises OSError."""
        words = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
        return self.call("syscall", ctypes.c_long(number), *words)

    def prctl(self, option: int, value: int, more: int = 0) -> None:
        """Change an attribute of this process (prctl(2)). Raises OSError."""
        if self._libc.prctl(option, value, more, 0, 0) == -1:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl {option}: {os.strerror(number)}")

    def forbid_new_privileges(self) -> None:
        """Make set-user-ID programs run without their privileges, here and in all descendants. A filter needs it."""
        self.prctl(_PR_SET_NO_NEW_PRIVS, 1)

    def hide_memory(self) -> None:
        """Close `/proc/PID` of this process (environment, memory, descriptors) to other processes of the same user.

        Children inherit it, until they execute a program. root can still look; that is what Landlock and the filter are
        for. It also disables core dumps.
        """
        self.prctl(_PR_SET_DUMPABLE, 0)

    @contextlib.contextmanager
    def with_own_proc_files(self) -> Iterator[None]:
        """Make `/proc/self` writable for a moment: the files of a process that is hidden belong to root."""
        self.prctl(_PR_SET_DUMPABLE, 1)
        try:
            yield
        finally:
            self.prctl(_PR_SET_DUMPABLE, 0)

    def lower_session_priority(self) -> None:
        """Lower the priority of this process's session (autogroup niceness, sched(7)). This process must lead it.

        If the kernel schedules by session, niceness has an effect only inside a session. Therefore all children share
        the zygote's session, and the session as a whole gets a lower priority. With one session for each child, an
        encoder could keep the server from a core for 40 to 90 ms. Measured on 2 cores with 20 songs in progress and
        1,000 queued: the p99 was 38 ms for a status and 50 ms for /health; with one session for all it is 4 and 6 ms.
        """
        _write("/proc/self/autogroup", SESSION_NICENESS)

    def raise_zygote_oom_score(self) -> None:
        """Make the OOM killer prefer this process, the zygote, to the server that started it."""
        self._raise_oom_score(ZYGOTE_OOM_SCORE)

    def become_subreaper(self) -> None:
        """Make this process the parent of descendants whose own parent has ended (PR_SET_CHILD_SUBREAPER)."""
        self.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def limit(self, limits: ResourceLimits, parent: int) -> None:
        """Apply the limits to this process, which `parent` has just forked. Exits if the parent has died already.

        Raises:
            OSError: a limit could not be applied, so the child must not run.
        """
        os.setpgid(0, 0)
        self.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
        _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
        if limits.memory_bytes:
            _limit(resource.RLIMIT_AS, limits.memory_bytes)
        if limits.data_bytes:
            _limit(resource.RLIMIT_DATA, limits.data_bytes)
        os.nice(limits.niceness)
        # The five threads of an encoder wake each other thousands of times a second. Under SCHED_BATCH a woken thread
        # does not preempt the server: the p99 of a status request with 20 songs in progress is halved.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if limits.core is not None:
            # This fails if the core was removed from this process's cpuset. Then all remaining cores are used.
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {limits.core})
        with self.with_own_proc_files():
            self._raise_oom_score(CHILD_OOM_SCORE)

    def _raise_oom_score(self, by: int) -> None:
        _write("/proc/self/oom_score_adj", b"%d" % min(MAX_OOM_SCORE, self._oom_score + by))


def limit_open_files(number: int) -> None:
    """Set the limit of open descriptors; those above it stay open."""
    _limit(resource.RLIMIT_NOFILE, number)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (bound, bound))


def _read_number(path: str) -> int:
    try:
        return int(Path(path).read_bytes())
    except OSError:
        return 0  # without /proc the value cannot be written either


def _write(path: str, text: bytes) -> None:
    """Write a kernel setting. If this kernel or container does not have it, the other limits work without it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, text)
    except OSError:
        pass
    finally:
        os.close(descriptor)
