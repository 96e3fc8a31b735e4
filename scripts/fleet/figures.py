"""Computes the figures of a fleet from what was measured before and after a time under load. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from tests.stand.valkey import RedisUse

WORKERS: Final = 20
"""Workers of an instance: the default WORKER_POOL_SIZE."""


class Counts(Struct, frozen=True, kw_only=True):
    """What the instances of one process have used and done since their start."""

    cpu_seconds: float = 0.0
    """CPU time of the process, with its threads."""
    loop_seconds: float = 0.0
    """CPU time of the event loop, which all instances of the process share."""
    reads: int = 0
    """How often the states of the identities were read, to change them."""
    writes: int = 0
    """How often that change was written."""
    conflicts: int = 0
    """How often it was not, because another instance had changed the states meanwhile."""
    queued: int = 0
    """Conversions that wait now."""
    active: int = 0
    """Conversions that run now."""
    planned_seconds: float = 0.0
    """The durations of all attempts that have begun, added."""
    started: dict[str, int] = {}
    """Attempts, by video."""
    begun_at: dict[str, float] = {}
    """When the first attempt of each video began, by the clock of `Sample.at`."""


class Sample(Struct, frozen=True, kw_only=True):
    """Everything at one moment."""

    at: float
    """In seconds, of a monotonic clock."""
    nodes: list[RedisUse]
    counts: list[Counts]
    """Of each process."""
    client_seconds: float
    """CPU time of the process with the clients."""


class Figures(Struct, frozen=True, kw_only=True):
    """The use of each part in one time. Shares are of one core, but `machine`, which is of all cores."""

    seconds: float
    redis: float
    """Of the busiest node."""
    redis_least: float
    """Of the least busy node."""
    commands_per_second: float
    redis_seconds: float
    """CPU time of all nodes."""
    loop: float
    """Of the busiest process; 0 on virtual time."""
    instance: float
    """Of the mean instance: what its event loop would use in a process of its own."""
    loop_seconds: float
    """CPU time of the event loops of all processes."""
    instance_seconds: float
    """CPU time of all processes, with the threads that write files."""
    machine: float
    reads: int
    writes: int
    conflicts: int


def figures(before: Sample, after: Sample, *, instances: int, cores: int | None) -> Figures:
    """Return the figures of the time between two samples. `cores`: None on virtual time, which waits for the cores."""
    seconds = after.at - before.at
    nodes = [(b, a) for b, a in zip(before.nodes, after.nodes, strict=True)]
    processes = [(b, a) for b, a in zip(before.counts, after.counts, strict=True)]
    node_seconds = [a.cpu_seconds - b.cpu_seconds for b, a in nodes]
    loops = [a.loop_seconds - b.loop_seconds for b, a in processes]
    instance_seconds = sum(a.cpu_seconds - b.cpu_seconds for b, a in processes)
    all_seconds = instance_seconds + sum(node_seconds) + after.client_seconds - before.client_seconds
    return Figures(
        seconds=seconds,
        redis=max(node_seconds) / seconds,
        redis_least=min(node_seconds) / seconds,
        commands_per_second=sum(a.commands - b.commands for b, a in nodes) / seconds,
        redis_seconds=sum(node_seconds),
        loop=max(loops) / seconds if cores else 0.0,
        instance=sum(loops) / seconds / instances,
        loop_seconds=sum(loops),
        instance_seconds=instance_seconds,
        machine=all_seconds / seconds / cores if cores else 0.0,
        reads=sum(a.reads - b.reads for b, a in processes),
        writes=sum(a.writes - b.writes for b, a in processes),
        conflicts=sum(a.conflicts - b.conflicts for b, a in processes),
    )


def attempts(counts: Sequence[Counts]) -> Mapping[str, int]:
    """Return the attempts of each video in all processes."""
    found: dict[str, int] = {}
    for each in counts:
        for video_id, number in each.started.items():
            found[video_id] = found.get(video_id, 0) + number
    return found
