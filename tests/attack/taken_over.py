"""What a taken-over tool tries: run in the place of ffmpeg, deno, the youtube child, or its picture decoder.

Uses the standard library only, because it also runs as a program of its own: `python taken_over.py TARGETS-AS-JSON`
prints the results as JSON. Each attempt is harmless if it succeeds.
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

# x86-64, aarch64
NUMBERS = {
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "open_by_handle_at": (304, 265),
    "execveat": (322, 281),
    "newest": (467, 467),
}
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
HARMLESS = signal.SIGURG
"""A signal that is ignored by default."""


def call(name: str, *arguments: Any) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(LIBC.syscall(ctypes.c_long(NUMBERS[name][COLUMN]), *words))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    content = os.read(descriptor, 100)
    os.close(descriptor)
    return repr(content)


def open_for(path: str, flags: int) -> str:
    os.close(os.open(path, flags, 0o600))
    return "opened"


def start(execute: Callable[[], object]) -> str:
    """Execute a program: in a new process, or in place of this one if there may be none."""
    try:
        pid = os.fork()
    except OSError:
        execute()
        return "executed"
    if pid == 0:
        try:
            execute()
        finally:
            os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 99:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    return f"ended with {status}"


def execute_from_memory() -> str:
    descriptor = call("memfd_create", b"program", 0)
    return f"memory file {descriptor}"


def look_into(pid: int) -> str:
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(buffer), 8)
    # Any address. The program of a process that runs the same Python lies at another one, so a mistake may follow.
    remote = struct.pack("PN", 0x400000, 8)
    return f"{call('process_vm_readv', pid, local, 1, remote, 1, 0)} bytes"


def trace(pid: int) -> str:
    # PTRACE_SEIZE: unlike PTRACE_ATTACH, it does not stop the other process, which would then never go on.
    if LIBC.ptrace(0x4206, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "attached"


def own_signals(pid: int) -> str:
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETOWN, pid)
    os.close(ours)
    os.close(theirs)
    return "owner set"


def connect(family: int, address: Any) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(address)
    return "connected"


def grow_file(descriptor: int) -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return "no limit"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.pwrite(descriptor, b"x", limit)
    return "written beyond the limit"


def new_namespace() -> str:
    if LIBC.unshare(0x10000000) == -1:
        raise OSError(ctypes.get_errno(), "unshare")
    return "new user namespace"


def clone_into_namespace() -> str:
    pid = int(LIBC.syscall(ctypes.c_long((56, 220)[COLUMN]), ctypes.c_long(0x10000000 | 17), None, None, None, None))
    if pid == -1:
        raise OSError(ctypes.get_errno(), "clone")
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned"


def attempts(targets: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return every attempt by name. `targets`: see `cell.Targets`."""
    server, zygote, data = targets["server"], targets["zygote"], targets["data"]
    found: dict[str, Callable[[], object]] = {
        "start a shell": lambda: start(lambda: os.execv("/bin/sh", ("sh", "-c", "exit 0"))),
        "execute a file in memory": execute_from_memory,
        "execute by descriptor": lambda: start(lambda: call("execveat", -100, b"/bin/sh", None, None, 0)),
        "write into the program": lambda: open_for(targets["program"], os.O_RDWR),
        "grow a file beyond its limit": lambda: grow_file(targets["output"]),
        "read the API keys": lambda: read(f"{data}/keys"),
        "append an API key": lambda: open_for(f"{data}/keys", os.O_WRONLY | os.O_APPEND),
        "read the cookies": lambda: read(f"{data}/cookies"),
        "list the tracks": lambda: os.listdir(f"{data}/tracks"),
        "read a track": lambda: read(f"{data}/tracks/other.mp3"),
        "overwrite a track": lambda: open_for(f"{data}/tracks/other.mp3", os.O_RDWR),
        "truncate a track": lambda: os.truncate(f"{data}/tracks/other.mp3", 5),
        "empty a track": lambda: open_for(f"{data}/tracks/other.mp3", os.O_WRONLY | os.O_TRUNC),
        "change the mode of a track": lambda: os.chmod(f"{data}/tracks/other.mp3", 0o666),
        "change the time of a track": lambda: os.utime(f"{data}/tracks/other.mp3", (1, 1)),
        "rename a track": lambda: os.rename(f"{data}/tracks/first.mp3", f"{data}/tracks/x.mp3"),
        "remove a track": lambda: os.unlink(f"{data}/tracks/second.mp3"),
        "publish a track": lambda: open_for(f"{data}/tracks/new.mp3", os.O_WRONLY | os.O_CREAT),
        "change the mode of the data folder": lambda: os.chmod(data, 0o777),
        "change the records": lambda: open_for(f"{data}/jobs.sqlite3", os.O_RDWR),
        "list another conversion's files": lambda: os.listdir(f"{data}/scratch/other"),
        "read another conversion's files": lambda: read(f"{data}/scratch/other/spool"),
        "change another conversion's files": lambda: open_for(f"{data}/scratch/other/spool", os.O_RDWR),
        "link to another conversion's files": lambda: os.link(f"{data}/scratch/other/spool", targets["link"]),
        "leave a symbolic link for the server": lambda: os.symlink(f"{data}/keys", targets["link"] + "-2"),
        "leave a pipe for the server": lambda: os.mkfifo(targets["link"] + "-3"),
        "read a file outside the data folder": lambda: read(targets["outside"]),
        "write a file outside the data folder": lambda: open_for(targets["new"], os.O_WRONLY | os.O_CREAT),
        "read a file of the system": lambda: read("/etc/passwd"),
        "open a file by its handle": lambda: call("open_by_handle_at", -100, b"\0" * 16, 0),
    }
    for name, pid in (("server", server), ("zygote", zygote)):
        found |= of_process(name, pid)
    return found | of_kernel() | of_network(targets)


def of_process(name: str, pid: int) -> dict[str, Callable[[], object]]:
    # siginfo_t: signal, error, code (SI_QUEUE), padding.
    information = struct.pack("iii", HARMLESS, 0, -1).ljust(128, b"\0")

    def lower_limit() -> str:
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        return "limit set"

    return {
        f"kill the {name}": lambda: os.kill(pid, HARMLESS),
        f"kill the {name} by tkill": lambda: call("tkill", pid, HARMLESS),
        f"kill the {name} by tgkill": lambda: call("tgkill", pid, pid, HARMLESS),
        f"kill the {name} by its group": lambda: os.killpg(os.getpgid(pid), HARMLESS),
        f"queue a signal for the {name}": lambda: call("rt_sigqueueinfo", pid, HARMLESS, information),
        f"queue a signal for a thread of the {name}": lambda: call(
            "rt_tgsigqueueinfo", pid, pid, HARMLESS, information
        ),
        f"let the kernel signal the {name}": lambda: own_signals(pid),
        f"signal the {name} by descriptor": lambda: call(
            "pidfd_send_signal", call("pidfd_open", pid, 0), HARMLESS, None, 0
        ),
        f"take a descriptor of the {name}": lambda: call("pidfd_getfd", call("pidfd_open", pid, 0), 0, 0),
        f"set a limit of the {name}": lower_limit,
        f"set the priority of the {name}": lambda: os.setpriority(
            os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid)
        ),
        f"bind the {name} to a core": lambda: os.sched_setaffinity(pid, os.sched_getaffinity(pid)),
        f"read the environment of the {name}": lambda: read(f"/proc/{pid}/environ"),
        f"read the command line of the {name}": lambda: read(f"/proc/{pid}/cmdline"),
        f"read the memory of the {name}": lambda: open_for(f"/proc/{pid}/mem", os.O_RDONLY),
        f"write the memory of the {name}": lambda: open_for(f"/proc/{pid}/mem", os.O_RDWR),
        f"read the memory of the {name} by process_vm_readv": lambda: look_into(pid),
        f"see the memory map of the {name}": lambda: read(f"/proc/{pid}/maps"),
        f"see the descriptors of the {name}": lambda: os.listdir(f"/proc/{pid}/fd"),
        f"open a file through the {name}": lambda: os.listdir(f"/proc/{pid}/cwd"),
        f"open a file through the root of the {name}": lambda: os.listdir(f"/proc/{pid}/root/etc"),
        f"trace the {name}": lambda: trace(pid),
        f"compare with the {name}": lambda: call("kcmp", os.getpid(), pid, 0, 0, 0),
    }


def of_kernel() -> dict[str, Callable[[], object]]:
    return {
        "make a user namespace": new_namespace,
        "clone into a user namespace": clone_into_namespace,
        "use io_uring": lambda: call("io_uring_setup", 1, b"\0" * 128),
        "use bpf": lambda: call("bpf", 0, b"\0" * 128, 128),
        "use userfaultfd": lambda: call("userfaultfd", 1),
        "use perf_event_open": lambda: call("perf_event_open", b"\0" * 128, 0, -1, -1, 0),
        "use the kernel's keys": lambda: call("keyctl", 0, -3, 1),
        "use a call that is newer than the filter": lambda: call("newest", -1, b"", 0, None, 0),
        "write a kernel setting": lambda: open_for("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "list all processes": lambda: os.listdir("/proc"),
    }


def of_network(targets: dict[str, Any]) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {
        "connect to an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + targets["abstract"]),
        "connect to a Unix socket": lambda: connect(socket.AF_UNIX, targets["socket"]),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    }
    if not targets["may_connect"]:
        found["connect to a port of this machine"] = lambda: connect(socket.AF_INET, ("127.0.0.1", targets["port"]))
    if not targets["has_network"]:
        found |= {
            "open a socket": lambda: socket.socket(socket.AF_INET).close(),
            "open an IPv6 socket": lambda: socket.socket(socket.AF_INET6).close(),
            "open a datagram socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
            "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        }
    return found


def attack(targets: dict[str, Any]) -> dict[str, str]:
    """Try everything. Returns, by attempt, "refused" with the error, or what was achieved."""
    results = {}
    for name, attempt in attempts(targets).items():
        try:
            results[name] = f"DONE: {attempt()}"
        except OSError as error:
            results[name] = f"refused: {error.strerror}"
    return results


if __name__ == "__main__":
    print(json.dumps(attack(json.loads(sys.argv[1]))))
