"""The system call filter of each kind of child, run by an interpreter of BPF: also for the other architecture."""

import errno
import struct
from typing import Final

import pytest
from msgspec import structs

from ytmp3.converter.sandbox import system_calls
from ytmp3.converter.sandbox.seccomp import Rules, Sockets, Starts, filter_of, filter_program

PID: Final = 1234
PROGRAM: Final = 256
ALLOWED, REFUSED, UNKNOWN, KILLED = "allowed", "refused", "unknown", "killed"
RESULTS: Final = {
    0x7FFF0000: ALLOWED,
    0x00050000 | errno.EPERM: REFUSED,
    0x00050000 | errno.ENOSYS: UNKNOWN,
    0x80000000: KILLED,
}
MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

FFMPEG = Rules(pid=PID, sockets=Sockets.NONE, starts=Starts.ONE, program=PROGRAM)
DENO = Rules(pid=PID, sockets=Sockets.PAIRS, starts=Starts.ONE, program=PROGRAM)
YOUTUBE = Rules(pid=PID, sockets=Sockets.INTERNET, may_kill=True)
PICTURE = Rules(pid=PID, sockets=Sockets.NONE, starts=Starts.NONE, may_open=False)
SCRIPT = Rules(pid=PID, sockets=Sockets.NONE, may_change_attributes=True)
ALL: Final = {"ffmpeg": FFMPEG, "deno": DENO, "youtube": YOUTUBE, "picture": PICTURE, "script": SCRIPT}


def verdict(program: bytes, architecture: int, number: int, arguments: tuple[int, ...]) -> str:
    """Interpret a filter for one system call (struct seccomp_data)."""
    data = struct.pack("iIQ6Q", number, architecture, 0, *(arguments + (0,) * 6)[:6])
    accumulator = position = 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("HBBI", program, 8 * position)
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("I", data, operand)
            case 0x06:
                return RESULTS[operand]
            case 0x15:
                position += if_true if accumulator == operand else if_false
            case 0x35:
                position += if_true if accumulator >= operand else if_false
            case 0x45:
                position += if_true if accumulator & operand else if_false
            case _:
                raise AssertionError(code)


def called(name: str, rules: Rules, machine: str, *arguments: int) -> str:
    groups = (value for key, value in vars(system_calls).items() if key.isupper() and isinstance(value, dict))
    (both,) = {group[name] for group in groups if name in group}
    architecture, column = MACHINES[machine]
    program = filter_program(machine, rules)
    assert program is not None
    if both[column] is None:
        return REFUSED  # the architecture does not have it
    return verdict(program, architecture, both[column], arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rules", ALL.values(), ids=ALL)
def test_no_process_reaches_other_processes_or_the_kernels_rare_parts(machine: str, rules: Rules) -> None:
    for name in system_calls.PROCESSES | system_calls.KERNEL:
        assert called(name, rules, machine) == REFUSED, name
    assert called("tgkill", rules, machine, PID, PID, 6) == ALLOWED, "abort() signals its own process"
    assert called("tgkill", rules, machine, PID + 1, PID, 6) == REFUSED
    assert called("prlimit64", rules, machine, 0, 7, 0) == ALLOWED
    assert called("prlimit64", rules, machine, PID, 7, 0) == ALLOWED
    assert called("prlimit64", rules, machine, PID + 1, 7, 0) == REFUSED
    assert called("prlimit64", rules, machine, 0, 7, 0x1000) == REFUSED
    assert called("prlimit64", rules, machine, 0, 7, 1 << 32) == REFUSED
    assert called("clone3", rules, machine) == UNKNOWN, "libc calls clone then, whose flags can be seen"
    assert called("clone", rules, machine, 0x10000000 | 0x00010000) == REFUSED
    assert called("clone", rules, machine, 0x003D0F00) == ALLOWED, "a thread"
    assert [called("fcntl", rules, machine, 3, command) for command in (1, 8, 10, 15)] == [ALLOWED] + 3 * [REFUSED]
    assert [called("ioctl", rules, machine, 3, request) for request in (0x541B, 0x8901, 0x5412)] == [
        ALLOWED,
        *(2 * [REFUSED]),
    ]


@pytest.mark.parametrize("machine", MACHINES)
def test_each_kind_of_process_has_its_own_sockets(machine: str) -> None:
    for rules in (FFMPEG, PICTURE, SCRIPT):
        assert {called(name, rules, machine) for name in system_calls.NETWORK} == {REFUSED}
    pairs = {name for name in system_calls.NETWORK if called(name, DENO, machine) == ALLOWED}
    assert pairs == {"socketpair", "recvfrom"}
    families = {family: called("socket", YOUTUBE, machine, family) for family in (1, 2, 10, 16, 17)}
    assert families == {1: REFUSED, 2: ALLOWED, 10: ALLOWED, 16: ALLOWED, 17: REFUSED}
    assert [called(name, YOUTUBE, machine) for name in ("connect", "listen", "accept4")] == [ALLOWED, REFUSED, REFUSED]


@pytest.mark.parametrize("machine", MACHINES)
def test_only_the_program_of_a_child_is_started_and_only_once(machine: str) -> None:
    for rules in (FFMPEG, DENO):
        assert called("execve", rules, machine) == REFUSED
        assert called("execveat", rules, machine, PROGRAM, 0, 0, 0, 0x1000) == ALLOWED
        assert called("execveat", rules, machine, PROGRAM, 0, 0, 0, 0) == REFUSED
        assert called("execveat", rules, machine, 3, 0, 0, 0, 0x1000) == REFUSED
        assert called("clone", rules, machine, 17) == REFUSED, "a new process"
        assert called("fork", rules, machine) == called("vfork", rules, machine) == REFUSED
    assert [called(name, PICTURE, machine) for name in ("execve", "execveat", "fork")] == 3 * [REFUSED]
    assert [called(name, YOUTUBE, machine) for name in ("execve", "kill")] == [ALLOWED, ALLOWED]
    assert called("kill", FFMPEG, machine) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
def test_files_are_opened_where_their_paths_are_restricted(machine: str) -> None:
    for rules in (FFMPEG, DENO, YOUTUBE):
        assert called("openat", rules, machine) == ALLOWED
        assert {called(name, rules, machine) for name in system_calls.FILE_ATTRIBUTES} == {REFUSED}
    assert {called(name, PICTURE, machine) for name in system_calls.PATHS} == {REFUSED}
    assert called("fchmodat", SCRIPT, machine) == ALLOWED


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rules", ALL.values(), ids=ALL)
def test_calls_of_other_architectures_and_newer_kernels_are_not_made(machine: str, rules: Rules) -> None:
    program = filter_program(machine, rules)
    assert program is not None
    architecture, _ = MACHINES[machine]
    assert verdict(program, 0x40000003, 1, ()) == KILLED, "32-bit code"
    assert verdict(program, architecture, 0x40000001, ()) == REFUSED, "x32"
    assert verdict(program, architecture, system_calls.FIRST_UNKNOWN, ()) == UNKNOWN
    assert verdict(program, architecture, 0 if machine == "x86_64" else 63, ()) == ALLOWED, "read"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rules", ALL.values(), ids=ALL)
def test_a_cached_filter_is_the_one_for_the_process(machine: str, rules: Rules) -> None:
    for pid in (1, PID, 2**22):
        mine = structs.replace(rules, pid=pid)
        assert filter_of(machine, mine) == filter_program(machine, mine)


def test_an_architecture_without_a_table_has_no_filter() -> None:
    assert filter_program("riscv64", FFMPEG) is None
