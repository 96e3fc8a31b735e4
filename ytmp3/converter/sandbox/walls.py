"""The walls around every tool, put up in the forked child before it does anything: no way back, and nothing inherited.

Own process group (so that one signal reaches all of it), death with its parent, limits on file size, CPU time, open
files and memory, low priority and bulk scheduling, a place before the server in the OOM killer's line, and for ffmpeg a
seccomp filter without network. Runs between fork and exec of a single-threaded process, so plain Python is allowed
there; it imports little.

No RLIMIT_NPROC: it counts all processes of the user, the server's own included, and does nothing for root.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from pathlib import Path
from typing import Final

from ytmp3.converter.sandbox.protocol import Walls

OPEN_FILES: Final = 256
TOOL_OOM_SCORE: Final = 500
ZYGOTE_OOM_SCORE: Final = 250
"""Over the server's own, in thousandths of the memory there is: a tool is lost rather than the zygote, and that rather
than the server. Not absolute: Kubernetes starts the server with 980 where its pod asks for 2 % of a node's memory."""
MOST_OOM_SCORE: Final = 1000
SESSION_NICENESS: Final = b"10"
"""Of all tools together against everything else on the machine."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2

# linux/seccomp.h, linux/bpf_common.h
_RET_ALLOW: Final = 0x7FFF0000
_RET_KILL_PROCESS: Final = 0x80000000
_RET_ERRNO: Final = 0x00050000
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_OFFSET_OF_NUMBER: Final = 0
_OFFSET_OF_ARCHITECTURE: Final = 4
_X32_BIT: Final = 0x40000000

# Network, and the calls by which a process reaches into another one or around the filter: socket, connect, accept,
# sendto, recvfrom, sendmsg, recvmsg, bind, listen, socketpair, ptrace, kill, tkill, accept4, recvmmsg, sendmmsg,
# process_vm_readv, process_vm_writev, bpf, userfaultfd, pidfd_send_signal, io_uring_*, pidfd_open, pidfd_getfd,
# rt_sigqueueinfo, rt_tgsigqueueinfo. Not tgkill: abort() is a tgkill to the own process, and a tool that gives up by it
# must end with SIGABRT at once; what another process may be sent by it needs its thread's number and is one signal.
_REFUSED_CALLS: Final[dict[str, tuple[int, tuple[int, ...]]]] = {
    "x86_64": (
        0xC000003E,
        (
            *(41, 42, 43, 44, 45, 46, 47, 49, 50, 53, 101, 62, 200, 288, 299, 307, 310, 311, 321, 323),
            *(424, 425, 426, 427, 434, 438, 129, 297),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(198, 203, 202, 206, 207, 211, 212, 200, 201, 199, 117, 129, 130, 242, 243, 269, 270, 271, 280, 282),
            *(424, 425, 426, 427, 434, 438, 138, 240),
        ),
    ),
}


class Kernel:
    """The calls that Python has no name for. Made once, before any fork: loading libc costs a millisecond."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        self._filter = _network_filter(platform.machine())
        self._oom_score = max(0, _read_number("/proc/self/oom_score_adj"))
        self.takes_filters = False
        """Set by whoever has asked. Then no tool that is to be without network starts with it."""

    def yield_to_other_sessions(self) -> None:
        """Let this process's session, which it leads, give way to every other one (autogroup niceness, sched(7)).

        Where the kernel groups by session, a tool's niceness counts only inside its session. So all tools share the
        zygote's, and it gives way as a whole. With a session for each tool the shares were so many and so small that
        one encoder kept a core for 40 to 90 ms while the server waited for it: p99 under 20 songs and 1,000 queued was
        38 ms for a status and 50 ms for /health, with one session 4 and 6 ms (pairs of one hour, 2 cores).
        """
        _write("/proc/self/autogroup", SESSION_NICENESS)

    def precede_the_server(self) -> None:
        """Let this process, the zygote, be killed for want of memory before the server that started it."""
        self._raise_oom_score(ZYGOTE_OOM_SCORE)

    def adopt_orphans(self) -> None:
        """Make this process the parent of descendants that lose theirs (PR_SET_CHILD_SUBREAPER)."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def raise_walls(self, walls: Walls, parent: int) -> None:
        """Put up the walls in this process, a fresh child of `parent`. Ends it if the parent is gone already.

        Raises:
            OSError: a wall does not stand; nothing may run here.
        """
        os.setpgid(0, 0)
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
        _limit(resource.RLIMIT_FSIZE, walls.file_bytes)
        _limit(resource.RLIMIT_CPU, walls.cpu_seconds)
        if walls.memory_bytes:
            _limit(resource.RLIMIT_AS, walls.memory_bytes)
        if walls.data_bytes:
            _limit(resource.RLIMIT_DATA, walls.data_bytes)
        os.nice(walls.niceness)
        # An encoder's five threads wake each other thousands of times a second. As SCHED_BATCH none of those wakings
        # takes the core from the server: the p99 of a status with 20 songs converting is halved.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if walls.core is not None:
            with contextlib.suppress(OSError):  # taken from us since: then it has all that are left
                os.sched_setaffinity(0, {walls.core})
        self._raise_oom_score(TOOL_OOM_SCORE)
        if not walls.network:
            self.leave_network()

    def leave_network(self) -> None:
        """Wall this process off from the network, where the kernel takes filters.

        Raises:
            OSError: it takes them, and did not take this one.
        """
        if not self.refuse_network() and self.takes_filters:
            raise OSError(errno.EPERM, "the network cannot be walled off")

    def refuse_network(self) -> bool:
        """Install the seccomp filter; it is inherited by every descendant. False where the kernel has none."""
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if self._filter is None:
            return False
        program = ctypes.create_string_buffer(self._filter, len(self._filter))
        # struct sock_fprog: a count of 8-byte instructions, padding, a pointer.
        header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(self._filter) // 8, ctypes.addressof(program)))
        return self._prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header)) == 0

    def _raise_oom_score(self, by: int) -> None:
        _write("/proc/self/oom_score_adj", b"%d" % min(MOST_OOM_SCORE, self._oom_score + by))

    def _prctl(self, option: int, value: int, more: int = 0) -> int:
        return int(self._libc.prctl(option, value, more, 0, 0))


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (bound, bound))


def _read_number(path: str) -> int:
    try:
        return int(Path(path).read_bytes())
    except OSError:
        return 0  # no /proc: there is nothing to write it to either


def _write(path: str, text: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # no /proc in some sandboxes, no autogroup in some kernels: the other walls stand
    try:
        os.write(descriptor, text)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _network_filter(machine: str) -> bytes | None:
    """Return the BPF program that answers the refused calls with EPERM, or None for an unknown architecture."""
    if machine not in _REFUSED_CALLS:
        return None
    architecture, refused = _REFUSED_CALLS[machine]
    calls = len(refused)
    program = [
        _instruction(_LOAD_WORD, _OFFSET_OF_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        _instruction(_RETURN, _RET_KILL_PROCESS),
        _instruction(_LOAD_WORD, _OFFSET_OF_NUMBER),
        # The x32 numbers of an x86-64 kernel name the same calls a second time; no aarch64 number is that high.
        _instruction(_JUMP_IF_AT_LEAST, _X32_BIT, if_true=calls + 1),
        *(_instruction(_JUMP_IF_EQUAL, call, if_true=calls - index) for index, call in enumerate(refused)),
        _instruction(_RETURN, _RET_ALLOW),
        _instruction(_RETURN, _RET_ERRNO | errno.EPERM),
    ]
    return b"".join(program)


def _instruction(code: int, operand: int, *, if_true: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, 0, operand)
