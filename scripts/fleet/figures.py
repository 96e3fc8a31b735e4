"""Computes the figures of a fleet from what was measured before and after a time under load. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from scripts.bench.measure import median, p99
from scripts.fleet.load import Load

FULL: Final = 0.85
"""The share of its one core from which the event loop of a process or a Redis node counts as full, as does the
machine."""


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
    started: dict[str, int] = {}
    """Attempts, by video."""


class RedisUse(Struct, frozen=True, kw_only=True):
    """What one Redis node has used and done since its start."""

    cpu_seconds: float
    """CPU time of the thread that runs the commands. It has one core."""
    commands: int


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


def full_part(under_load: Figures) -> str:
    """Name the part that is nearest to its limit, whether it has reached it or not."""
    shares = {
        "a Redis node": under_load.redis,
        "the event loop of an instance": under_load.instance,
        "the event loop of a process of this simulation": under_load.loop,
        "the cores of this machine": under_load.machine,
        "the shared states of the identities": under_load.conflicts / max(1, under_load.conflicts + under_load.writes),
    }
    return max(shares, key=shares.__getitem__)


def per_job(under_load: Figures, idle: Figures, jobs: int) -> Mapping[str, float]:
    """Return what a job costs beside the cost of idle instances: CPU milliseconds and commands."""
    jobs = max(1, jobs)
    part = under_load.seconds / idle.seconds
    return {
        "redis": 1000.0 * (under_load.redis_seconds - idle.redis_seconds * part) / jobs,
        "instances": 1000.0 * (under_load.instance_seconds - idle.instance_seconds * part) / jobs,
        "commands": (under_load.commands_per_second - idle.commands_per_second) * under_load.seconds / jobs,
    }


def projected(under_load: Figures, idle: Figures, per_hour: float, instances: int) -> dict[str, float]:
    """Return the conversions an hour at which each part would be full, if its use grows in proportion."""
    redis = (under_load.redis - idle.redis) / per_hour
    loop = (under_load.instance - idle.instance) / per_hour
    return {
        "Redis node": (FULL - idle.redis) / redis,
        f"event loops of {instances} instances": (FULL - idle.instance) / loop,
    }


def attempts(counts: Sequence[Counts]) -> Mapping[str, int]:
    """Return the attempts of each video in all processes."""
    found: dict[str, int] = {}
    for each in counts:
        for video_id, number in each.started.items():
            found[video_id] = found.get(video_id, 0) + number
    return found


def latencies(seconds: Sequence[float]) -> str:
    """Return the median and the 99th percentile, in milliseconds."""
    return f"{1000 * median(seconds):.1f} / {1000 * p99(seconds):.1f} ms" if seconds else "none"


def report(load: Load, idle: Figures, under_load: Figures, after: Sample, *, per_hour: float, instances: int) -> str:
    """Return the table of one rate."""
    ended = load.ended
    of_videos = attempts(after.counts)
    twice = sum(number - 1 for number in of_videos.values() if number > 1)
    jobs = len(load.accepted)
    costs = per_job(under_load, idle, jobs)
    refused = f"{load.refused.total()}" + (f" {dict(load.refused)}" if load.refused else "")
    states = f"{under_load.writes} writes, {under_load.conflicts} conflicts, {under_load.reads} reads"
    commands_now, commands_idle = under_load.commands_per_second, idle.commands_per_second
    rows = {
        "jobs": f"{jobs} accepted, {refused} refused, {ended['completed']} completed, {ended['failed']} failed",
        "jobs lost": f"{load.unknown}",
        "conversions": f"{len(of_videos)} for {load.new_links} links; {twice} converted again",
        "status polls": f"{load.polls}, {load.polls / max(1, jobs):.1f} a job",
        "POST, p50 / p99": latencies(load.post_seconds),
        "status, p50 / p99": latencies(load.poll_seconds),
        "POST to the end seen, p50 / p99": latencies(load.job_seconds),
        "Redis, share of a core": f"{under_load.redis:.1%} (idle instances {idle.redis:.1%})",
        "Redis commands a second, also inside scripts": f"{commands_now:.0f} (idle {commands_idle:.0f})",
        "Redis, a job": f"{costs['redis']:.2f} CPU ms, {costs['commands']:.1f} commands",
        "instances, a job": f"{costs['instances']:.1f} CPU ms",
        "event loop, an instance": f"{under_load.instance:.1%} of a core (idle {idle.instance:.1%})",
        "states of identities": states,
        "cores of this machine": f"{under_load.machine:.0%}",
        "nearest to its limit": full_part(under_load),
    }
    if not under_load.machine:
        # On virtual time, requests take none.
        for name in ("POST, p50 / p99", "status, p50 / p99", "cores of this machine"):
            del rows[name]
    for part, most in projected(under_load, idle, per_hour, instances).items():
        rows[f"{part}: full at"] = f"{most:,.0f} an hour"
    head = f"\n{per_hour:,.0f} conversions an hour, {instances} instances, {under_load.seconds:.0f} s\n\n"
    return (
        head + "| what | how much |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    )
