"""Reads /proc: the descendants of a process, their CPU time and memory, and their open files."""

import os
from pathlib import Path


def descendants(pid: int, *, with_zombies: bool = False) -> set[int]:
    """Return the processes below `pid`, without `pid` itself; zombies (ended, not yet reaped) only if asked for."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) and (with_zombies or fields[0] != "Z"):
            parents[int(entry)] = int(fields[1])
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    fields = _stat(pid)
    return fields is not None and fields[0] != "Z"


def processes_with(text: str) -> list[int]:
    """Return the running processes whose command line contains `text`, except this one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command and is_running(int(entry)):
                found.append(int(entry))
    return found


def descriptor_count(pid: int) -> int:
    """Return how many descriptors a process holds open, or 0 if the kernel hides them.

    It shows those of a server and of a zygote to root only, because they are not dumpable (proc(5)).
    """
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has in RAM, shared pages included."""
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process itself has used, in user space and in the kernel, without its children's."""
    fields = _stat(pid)
    assert fields is not None, f"no process {pid}"
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name of the program; None if the process does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def is_warm_solver(pid: int) -> bool:
    """Whether a process is a deno that the solver keeps: its program is in its arguments."""
    try:
        return b"data:text/javascript," in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
