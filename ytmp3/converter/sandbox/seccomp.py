"""The seccomp filter of a process: which system calls it keeps, and with which arguments. Pure: builds the BPF program.

A list of refused calls, and not of allowed ones: ffmpeg, deno and Python change the calls they use with each version,
and an encoder that ends because of a harmless call is worse than a call that Landlock covers as well. Calls that are
newer than the list are refused.

Constants are from linux/seccomp.h, linux/bpf_common.h, linux/sched.h, asm-generic/fcntl.h and asm-generic/ioctls.h.
"""

import errno
import functools
import socket
import struct
from enum import Enum, auto
from typing import Final

from msgspec import Struct, structs

from ytmp3.converter.sandbox import system_calls
from ytmp3.converter.sandbox.system_calls import FIRST_UNKNOWN

_RET_ALLOW: Final = 0x7FFF0000
_RET_KILL_PROCESS: Final = 0x80000000
_RET_ERRNO: Final = 0x00050000
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_JUMP_IF_BITS: Final = 0x45
_RETURN: Final = 0x06
_OFFSET_OF_NUMBER: Final = 0
_OFFSET_OF_ARCHITECTURE: Final = 4
_OFFSET_OF_ARGUMENTS: Final = 16
_X32_BIT: Final = 0x40000000

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""By `platform.machine()`: the kernel's number of the architecture, and its column in `system_calls`."""

_NAMESPACES: Final = 0x7E020080
"""The flags of clone(2) that make a new namespace: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and
NEWTIME."""
_THREAD: Final = 0x00010000
_EMPTY_PATH: Final = 0x1000

_OWNER_COMMANDS: Final = (8, 10, 15)
"""fcntl: F_SETOWN, F_SETSIG and F_SETOWN_EX let the kernel send any signal to another process of the user."""
_OWNER_REQUESTS: Final = (0x8901, 0x8902, 0x5412, 0x541C)
"""ioctl: FIOSETOWN and SIOCSPGRP do so too; TIOCSTI and TIOCLINUX put input into a terminal."""

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""IP, and netlink, by which getaddrinfo asks for the addresses of this machine. No Unix sockets: they lead to other
programs of this machine, and Landlock does not restrict those with a path."""

_ANY_PID: Final = 0x6D79_6964
"""Stands for the process id in a cached program. It is above every real one (2^22), and no other operand is like it."""

_MOST_DISTANT_JUMP: Final = 255
"""A jump of BPF has 8 bits."""

_Names = dict[str, tuple[int | None, int | None]]


class Sockets(Enum):
    """Which sockets a process may make."""

    NONE = auto()
    PAIRS = auto()
    """Pairs that are connected to each other and reach nothing else. deno does not run without them, because tokio and
    signal-hook, which it is built on, wake their threads through such a pair."""
    INTERNET = auto()
    """Outgoing connections by IP, and pairs."""


class Starts(Enum):
    """Which programs and processes a process may start."""

    NONE = auto()
    ONE = auto()
    """The program on `Rules.program`, once. Afterwards threads only."""
    ANY = auto()
    """All that Landlock, or the mount namespace, allows."""


class Rules(Struct, frozen=True, kw_only=True):
    """What a filter allows."""

    pid: int
    """The process that installs the filter. It may send signals to itself, because abort() does."""
    sockets: Sockets
    starts: Starts = Starts.ANY
    program: int = -1
    """The descriptor of the program to start; the limit of open descriptors is not above it. The start closes it. Then
    no descriptor can ever have this number again, so no second program can be started."""
    may_open: bool = True
    """Whether it may open files, where Landlock or the mount namespace allow it."""
    may_change_attributes: bool = False
    """Whether it may change modes, owners and times, and make links. Only for an operator's own script."""
    may_kill: bool = False
    """Whether signals are left to Landlock, which keeps them inside the sandbox."""


def filter_of(machine: str, rules: Rules) -> bytes | None:
    """Return the BPF program as `filter_program` does, from a cached one in which only the process id is replaced.

    The zygote's children share what was cached before the fork, so building a program does not cost each of them.
    """
    cached = _cached_program(machine, structs.replace(rules, pid=_ANY_PID))
    return None if cached is None else cached.replace(_ANY_PID.to_bytes(4, "little"), rules.pid.to_bytes(4, "little"))


@functools.cache
def _cached_program(machine: str, rules: Rules) -> bytes | None:
    return filter_program(machine, rules)


def filter_program(machine: str, rules: Rules) -> bytes | None:
    """Return the BPF program; None for an architecture without a table.

    Refused calls get EPERM, and those that are newer than the table ENOSYS. A system call of another architecture
    (32-bit code on a 64-bit kernel) kills the process, because its call numbers have other meanings.
    """
    if machine not in _ARCHITECTURES:
        return None
    architecture, column = _ARCHITECTURES[machine]
    refused = sorted(number for calls in _refused(rules) for both in calls.values() if (number := both[column]))
    assert len(refused) < _MOST_DISTANT_JUMP
    program = [
        _instruction(_LOAD_WORD, _OFFSET_OF_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        _instruction(_RETURN, _RET_KILL_PROCESS),
        _instruction(_LOAD_WORD, _OFFSET_OF_NUMBER),
        # On x86-64, the x32 numbers denote the same calls a second time. No aarch64 number is that high.
        _instruction(_JUMP_IF_AT_LEAST, _X32_BIT, if_false=1),
        _refusal(errno.EPERM),
        _instruction(_JUMP_IF_AT_LEAST, FIRST_UNKNOWN, if_false=1),
        _refusal(errno.ENOSYS),
    ]
    for name, body in _checks(rules).items():
        number = _number_of(name, column)
        program += [_instruction(_JUMP_IF_EQUAL, number, if_false=len(body)), *body]
    program += [
        *(_instruction(_JUMP_IF_EQUAL, number, if_true=len(refused) - index) for index, number in enumerate(refused)),
        _instruction(_RETURN, _RET_ALLOW),
        _refusal(errno.EPERM),
    ]
    return b"".join(program)


def _number_of(name: str, column: int) -> int:
    number = (system_calls.CHECKED | system_calls.NETWORK | system_calls.EXECUTE)[name][column]
    assert number is not None
    return number


def _refused(rules: Rules) -> list[_Names]:
    """Return the calls that are refused whatever their arguments are."""
    calls = [system_calls.PROCESSES, system_calls.KERNEL]
    network = system_calls.NETWORK
    match rules.sockets:
        case Sockets.NONE:
            calls.append(network)
        case Sockets.PAIRS:
            # sendto stays refused: it could name another socket of this machine.
            calls.append({name: network[name] for name in network.keys() - {"socketpair", "recvfrom"}})
        case Sockets.INTERNET:
            calls.append({name: network[name] for name in ("accept", "accept4", "listen")})
    if not rules.may_kill:
        calls.append(system_calls.KILL)
    if not rules.may_change_attributes:
        calls += [system_calls.FILE_ATTRIBUTES, system_calls.PROGRAMS]
    if rules.starts is not Starts.ANY:
        calls += [system_calls.FORK, {"execve": system_calls.EXECUTE["execve"]}]
    if rules.starts is Starts.NONE:
        calls.append(system_calls.EXECUTE)
    if not rules.may_open:
        calls.append(system_calls.PATHS)
    return calls


def _checks(rules: Rules) -> dict[str, list[bytes]]:
    """Return instructions for calls that depend on their arguments. Each list ends in a return on every path."""
    allow, refuse = _instruction(_RETURN, _RET_ALLOW), _refusal(errno.EPERM)
    first, second, third, fifth = (_argument(number) for number in (0, 1, 2, 4))
    checks = {
        "tgkill": [first, _instruction(_JUMP_IF_EQUAL, rules.pid, if_false=1), allow, refuse],
        # Its own limits may be read, and nothing else: another process of the user could be ended by a limit.
        "prlimit64": [
            first,
            _instruction(_JUMP_IF_EQUAL, 0, if_true=1),
            _instruction(_JUMP_IF_EQUAL, rules.pid, if_false=5),
            third,
            _instruction(_JUMP_IF_EQUAL, 0, if_false=3),
            _argument(2, high=True),
            _instruction(_JUMP_IF_EQUAL, 0, if_false=1),
            allow,
            refuse,
        ],
        "clone": [
            first,
            *(
                [_instruction(_JUMP_IF_BITS, _NAMESPACES, if_true=1)]
                if rules.starts is Starts.ANY
                else [
                    _instruction(_JUMP_IF_BITS, _NAMESPACES, if_true=2),
                    _instruction(_JUMP_IF_BITS, _THREAD, if_false=1),
                ]
            ),
            allow,
            refuse,
        ],
        # Its flags are in memory, which a filter cannot read. libc calls `clone` instead.
        "clone3": [_refusal(errno.ENOSYS)],
        "fcntl": [second, *_none_of(_OWNER_COMMANDS), allow, refuse],
        "ioctl": [second, *_none_of(_OWNER_REQUESTS), allow, refuse],
    }
    if rules.starts is Starts.ONE:
        checks["execveat"] = [
            first,
            _instruction(_JUMP_IF_EQUAL, rules.program, if_false=3),
            fifth,
            _instruction(_JUMP_IF_EQUAL, _EMPTY_PATH, if_false=1),
            allow,
            refuse,
        ]
    if rules.sockets is Sockets.INTERNET:
        checks["socket"] = [
            first,
            *(
                _instruction(_JUMP_IF_EQUAL, family, if_true=len(_FAMILIES) - index)
                for index, family in enumerate(_FAMILIES)
            ),
            refuse,
            allow,
        ]
    return checks


def _none_of(values: tuple[int, ...]) -> list[bytes]:
    """Compare the loaded word with the values. If it is one of them, skip the instruction after this list."""
    return [_instruction(_JUMP_IF_EQUAL, value, if_true=len(values) - index) for index, value in enumerate(values)]


def _argument(number: int, *, high: bool = False) -> bytes:
    """Load the low (or high) 32 bits of an argument. Both architectures are little-endian."""
    return _instruction(_LOAD_WORD, _OFFSET_OF_ARGUMENTS + 8 * number + 4 * high)


def _refusal(number: int) -> bytes:
    return _instruction(_RETURN, _RET_ERRNO | number)


def _instruction(code: int, operand: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)
