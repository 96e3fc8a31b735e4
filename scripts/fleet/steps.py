"""Compares the steps of a fleet, one for each rate: which part is full first, and at which rate. Pure.

A share of 1 is the limit of a part. Between two steps, and beyond the last one, shares are taken to follow a straight
line.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from scripts.bench.capacity_model import (
    CORES_PER_INSTANCE,
    MEASURED,
    MOST_IDENTITIES,
    VIDEOS_PER_IDENTITY,
    conversion_seconds,
)
from scripts.bench.measure import median, p99
from scripts.fleet.figures import WORKERS, Figures
from scripts.fleet.load import Load

FULL: Final = 0.85
"""The share of its core at which a Redis node, an event loop or the machine counts as full in real time. On virtual
time it is the whole core."""
CONFLICTS_FULL: Final = 0.5
"""The share of conflicts at which the states of the identities count as full: each change is computed twice."""
GROWS: Final = 0.1
"""The queue grows without bound if so large a share of the accepted jobs is added to it."""
REFUSED: Final = 0.01
"""Most jobs that may be refused, as a share."""


class Part(StrEnum):
    """A part that a rate may fill."""

    REDIS = "a Redis node"
    LOOP = "the event loop of an instance"
    STATES = "the shared states of the identities"
    WORKERS = "the workers"
    PROCESS = "the event loop of a process of this simulation"
    MACHINE = "the cores of this machine"
    BUDGETS = f"{MOST_IDENTITIES} identities of {VIDEOS_PER_IDENTITY:g} videos an hour"
    CORES = f"{CORES_PER_INSTANCE} cores of each instance, for songs of 4 minutes"


COMPUTED: Final = frozenset({Part.BUDGETS, Part.CORES})
"""Parts that are not simulated. Their share is computed from the rate of conversions."""


class Step(Struct, frozen=True, kw_only=True):
    """What was asked and measured at one rate."""

    per_hour: float
    instances: int
    idle: Figures
    """Of the same instances, while nobody asked them."""
    under_load: Figures
    limit: float
    """The share of a core at which a part counts as full."""
    accepted: int
    """Jobs that were accepted in the measured time. `load` has those before and after it, too."""
    new_links: int
    """How many of them were for new links."""
    polls: int
    """In the measured time."""
    queued_before: int
    queued: int
    """Conversions that waited when the measured time began, and when it ended."""
    unfinished: int
    """Jobs that had not ended when the step did."""
    load: Load
    conversions: Mapping[str, int]
    """Attempts of each video."""
    waits: Sequence[float]
    """How long each conversion waited for its start, in seconds."""
    mean_seconds: float
    """The mean duration of a conversion."""

    @property
    def per_second(self) -> float:
        """Conversions that were asked for in a second of the measured time."""
        return self.new_links / self.under_load.seconds

    @property
    def grows(self) -> bool:
        """Whether the queue grows without bound."""
        return self.queued - self.queued_before > GROWS * self.accepted

    @property
    def again(self) -> int:
        """Attempts after the first one of a video. None of the simulated conversions fails."""
        return sum(number - 1 for number in self.conversions.values())


def shares(step: Step, use: Figures) -> dict[Part, float]:
    """Return the share of each part in a use: that under load, or that of idle instances."""
    asked = step.per_second if use is step.under_load else 0.0
    # Instances that have just started write other values; that says nothing about the identities.
    conflicts = use.conflicts if use is step.under_load else 0
    song = conversion_seconds(MEASURED, 4.0)
    found = {
        Part.REDIS: use.redis / step.limit,
        Part.LOOP: use.instance / step.limit,
        Part.STATES: conflicts / max(1, conflicts + use.writes) / CONFLICTS_FULL,
        Part.WORKERS: asked * step.mean_seconds / (step.instances * WORKERS),
        Part.BUDGETS: asked * 3600.0 / (MOST_IDENTITIES * VIDEOS_PER_IDENTITY),
        Part.CORES: asked * song / (step.instances * CORES_PER_INSTANCE),
    }
    if use.machine:
        found |= {Part.PROCESS: use.loop / step.limit, Part.MACHINE: use.machine / step.limit}
    return found


def reasons_to_stop(step: Step) -> list[str]:
    """Say what shows that a rate is too high. Computed parts do not count: the simulation does not need them."""
    load = step.load
    found = shares(step, step.under_load)
    reasons = [f"full: {part}" for part, share in found.items() if share >= 1.0 and part not in COMPUTED]
    if step.grows:
        reasons.append("the queue grows without bound")
    if load.refused.total() > REFUSED * load.submitted:
        reasons.append("jobs are refused")
    if load.unknown:
        reasons.append("jobs were lost")
    if step.unfinished:
        reasons.append("jobs have not ended")
    return reasons


def full_at(steps: Sequence[Step]) -> dict[Part, tuple[float, str]]:
    """Return the rate an hour at which each part is full, and how it is known. Sorted: the first one is full first.

    A part whose use does not grow with the rate is left out.
    """
    found: dict[Part, tuple[float, str]] = {}
    under_load = [shares(step, step.under_load) for step in steps]
    is_fixed = len({step.instances for step in steps}) == 1
    for part in under_load[0]:
        # What idle instances use does not grow with the rate, unless their number does.
        points = [(0.0, shares(steps[0], steps[0].idle)[part] if is_fixed else 0.0)]
        points += [(step.per_hour, share[part]) for step, share in zip(steps, under_load, strict=True)]
        after = next((number for number, (_, share) in enumerate(points) if share >= 1.0), len(points) - 1)
        (lower, less), (upper, more) = points[max(0, after - 1)], points[max(1, after)]
        if more > less:
            how = "computed" if part in COMPUTED else "measured" if more >= 1.0 else "projected"
            found[part] = (lower + (1.0 - less) / (more - less) * (upper - lower), how)
    return dict(sorted(found.items(), key=lambda each: each[1]))


def per_job(step: Step) -> dict[str, float]:
    """Return what a job costs beside the cost of idle instances: CPU milliseconds and commands."""
    use, idle, jobs = step.under_load, step.idle, max(1, step.accepted)
    part = use.seconds / idle.seconds
    return {
        "redis": 1000.0 * (use.redis_seconds - idle.redis_seconds * part) / jobs,
        "instances": 1000.0 * (use.instance_seconds - idle.instance_seconds * part) / jobs,
        "commands": (use.commands_per_second - idle.commands_per_second) * use.seconds / jobs,
    }


def latencies(seconds: Sequence[float]) -> str:
    """Return the median and the 99th percentile, in milliseconds."""
    return f"{1000 * median(seconds):.1f} / {1000 * p99(seconds):.1f} ms" if seconds else "none"


def rows(step: Step) -> dict[str, str]:
    """Return the column of a step, by the names of its rows."""
    load, use, idle, costs = step.load, step.under_load, step.idle, per_job(step)
    refused = f"{load.refused.total()}" + (f" {dict(load.refused)}" if load.refused else "")
    nodes = "" if use.redis == use.redis_least else f", least busy node {use.redis_least:.1%}"
    found = {
        "instances": f"{step.instances}",
        "jobs": f"{len(load.accepted)} accepted, {refused} refused, {load.ended['completed']} completed,"
        f" {load.ended['failed']} failed",
        "jobs lost": f"{load.unknown}",
        "conversions": f"{len(step.conversions)} for {load.new_links} links; {step.again} converted again",
        "measured": f"{use.seconds:.1f} s, {step.accepted} jobs",
        "status polls, a job": f"{step.polls / max(1, step.accepted):.1f}",
        "POST to start, p50 / p99": latencies(step.waits),
        "POST to the end seen, p50 / p99": latencies(load.job_seconds),
        "queue, before and after": f"{step.queued_before}, {step.queued}",
        "Redis, share of a core": f"{use.redis:.1%} (idle instances {idle.redis:.1%}{nodes})",
        "Redis commands a second, also inside scripts": f"{use.commands_per_second:.0f}"
        f" (idle {idle.commands_per_second:.0f})",
        "Redis, a job": f"{costs['redis']:.2f} CPU ms, {costs['commands']:.1f} commands",
        "instances, a job": f"{costs['instances']:.1f} CPU ms",
        "event loop, an instance": f"{use.instance:.1%} of a core (idle {idle.instance:.1%})",
        "states of identities": f"{use.writes} writes, {use.conflicts} conflicts, {use.reads} reads",
    }
    if use.machine:
        found["POST, p50 / p99"] = latencies(load.post_seconds)
        found["status, p50 / p99"] = latencies(load.poll_seconds)
    for part, share in shares(step, use).items():
        found[f"share of {part}" + (" (computed)" if part in COMPUTED else "")] = f"{share:.0%}"
    return found


def report(steps: Sequence[Step]) -> str:
    """Return the table of all steps, and which part is full first."""
    columns = [rows(step) for step in steps]
    head = "| conversions an hour | " + " | ".join(f"{step.per_hour:,.0f}" for step in steps) + " |\n"
    lines = [f"| {name} | " + " | ".join(column[name] for column in columns) + " |\n" for name in columns[0]]
    order = [f"{part}: {rate:,.0f} an hour ({how})" for part, (rate, how) in full_at(steps).items()]
    return (
        "\n"
        + head
        + "|---|"
        + "---|" * len(steps)
        + "\n"
        + "".join(lines)
        + "\nFull, in this order:\n"
        + "".join(f"{number}. {each}\n" for number, each in enumerate(order, 1))
    )
