"""The seccomp filter that removes network access from a process and its descendants. Pure: builds the BPF program.

Constants are from linux/seccomp.h, linux/bpf_common.h and the system call tables of the two architectures.
"""

import errno
import struct
from typing import Final

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

# System calls for the network, and calls that affect other processes or circumvent the filter: socket, connect, accept,
# sendto, recvfrom, sendmsg, recvmsg, bind, listen, socketpair, ptrace, kill, tkill, accept4, recvmmsg, sendmmsg,
# process_vm_readv, process_vm_writev, bpf, userfaultfd, pidfd_send_signal, io_uring_*, pidfd_open, pidfd_getfd,
# rt_sigqueueinfo, rt_tgsigqueueinfo. tgkill stays allowed, because abort() uses it on its own process, and a program
# that aborts must end with SIGABRT at once. To signal another process with tgkill, a process needs the id of one of its
# threads.
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


_PAIR_CALLS: Final = {"x86_64": (53, 45), "aarch64": (199, 207)}
"""socketpair and recvfrom: sockets that are connected to each other and reach nothing else. deno does not run without
them, because tokio and signal-hook, which it is built on, wake their threads through such a pair. sendto stays refused:
it could name another socket of this machine."""


def network_filter(machine: str, *, allows_pairs: bool = False) -> bytes | None:
    """Return the BPF program that refuses the calls above with EPERM; None for an architecture without a table.

    `allows_pairs`: do not refuse what a pair of connected sockets needs.
    `machine` is the result of `platform.machine()`. A system call of another architecture (32-bit code on a 64-bit
    kernel) kills the process, because its call numbers have other meanings.
    """
    if machine not in _REFUSED_CALLS:
        return None
    architecture, refused = _REFUSED_CALLS[machine]
    if allows_pairs:
        refused = tuple(call for call in refused if call not in _PAIR_CALLS[machine])
    calls = len(refused)
    program = [
        _instruction(_LOAD_WORD, _OFFSET_OF_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        _instruction(_RETURN, _RET_KILL_PROCESS),
        _instruction(_LOAD_WORD, _OFFSET_OF_NUMBER),
        # On x86-64, the x32 numbers denote the same calls a second time. No aarch64 number is that high.
        _instruction(_JUMP_IF_AT_LEAST, _X32_BIT, if_true=calls + 1),
        *(_instruction(_JUMP_IF_EQUAL, call, if_true=calls - index) for index, call in enumerate(refused)),
        _instruction(_RETURN, _RET_ALLOW),
        _instruction(_RETURN, _RET_ERRNO | errno.EPERM),
    ]
    return b"".join(program)


def _instruction(code: int, operand: int, *, if_true: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, 0, operand)
