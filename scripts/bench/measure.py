"""What a process tree costs: CPU seconds, memory. CPU is the currency; wall time on shared cores is noise."""

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
    """One measured batch."""

    cpu_seconds: float
    wall_seconds: float
    peak_pss_mb: float = 0.0


def tree_cpu_seconds(pid: int) -> float:
    """CPU of a process, its live descendants, and all of theirs that have ended and been waited for.

    A tool that has ended is in the zygote's account (it reaps them), a live one has its own: none is counted twice.
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
    """Memory of a process tree, shared pages counted once (PSS), in MB."""
    kilobytes = 0
    for member in {pid, *descendants(pid)}:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def children_cpu_seconds() -> float:
    """CPU of our own children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def peak_pss_during(pid: int, work: Awaitable[float]) -> tuple[float, float]:
    """Return what `work` returns, and the highest memory seen meanwhile."""
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
