"""CPU time and memory of a process tree. CPU time is compared first: wall time on shared cores is mostly noise."""

import asyncio
import resource
import statistics
from collections.abc import Awaitable, Sequence
from pathlib import Path

from msgspec import Struct

from tests.stand.processes import descendants

TICKS_PER_SECOND = 100  # Linux: USER_HZ, fixed for user space
SAMPLE_SECONDS = 0.25


class Cost(Struct, frozen=True, kw_only=True):
    """What one batch of work cost."""

    cpu_seconds: float
    wall_seconds: float
    peak_pss_mb: float = 0.0


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of its running descendants, and of all of theirs that have ended.

    The kernel adds a child's time to its parent's when the parent waits for its end. So a child process that has ended
    is counted with the zygote, which waits for it, and a running one by itself: none is counted twice.
    """
    total = 0
    for member in {pid, *descendants(pid)}:
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS_PER_SECOND


def tree_pss_mb(pid: int) -> float:
    """Return the memory of a process tree in MiB. A page that several processes share is counted once (PSS)."""
    kilobytes = 0
    for member in {pid, *descendants(pid)}:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def children_cpu_seconds() -> float:
    """Return the CPU time of those children of this process that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def peak_pss_during(pid: int, work: Awaitable[float]) -> tuple[float, float]:
    """Return the result of `work`, and the highest memory of the process tree that was sampled meanwhile, in MiB."""
    task = asyncio.ensure_future(work)
    peak = 0.0
    while not task.done():
        peak = max(peak, await asyncio.to_thread(tree_pss_mb, pid))
        await asyncio.wait([task], timeout=SAMPLE_SECONDS)
    return task.result(), peak


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
