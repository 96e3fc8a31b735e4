"""Which part of a simulated fleet is full first, and at which rate."""

from collections import Counter
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from scripts.fleet.figures import Counts, Sample, attempts, figures
from scripts.fleet.load import Load
from scripts.fleet.steps import Part, Step, full_at, reasons_to_stop, report
from tests.stand.valkey import RedisUse


def sample(at: float, *, node: float, loops: list[float], conflicts: int) -> Sample:
    counts = [
        Counts(cpu_seconds=loop + 1.0, loop_seconds=loop, writes=conflicts, conflicts=conflicts) for loop in loops
    ]
    nodes = [RedisUse(cpu_seconds=use, commands=round(use * 100)) for use in (node / 2, node)]
    return Sample(at=at, nodes=nodes, counts=counts, client_seconds=0.0)


def step(
    per_hour: float, *, node: float, loop: float, conflicts: int = 0, conversions: Mapping[str, int] | None = None
) -> Step:
    """Return a step of 10 s with 2 instances. Idle ones use a tenth of a core of Redis."""
    before = sample(0.0, node=0.0, loops=[0.0], conflicts=0)
    jobs = round(per_hour / 360.0)
    return Step(
        per_hour=per_hour,
        instances=2,
        idle=figures(before, sample(10.0, node=1.0, loops=[0.0], conflicts=0), instances=2, cores=None),
        under_load=figures(
            before, sample(10.0, node=10.0 * node, loops=[20.0 * loop], conflicts=conflicts), instances=2, cores=None
        ),
        limit=1.0,
        accepted=jobs,
        new_links=jobs,
        polls=0,
        queued_before=0,
        queued=0,
        unfinished=0,
        load=Load(submitted=jobs),
        conversions=conversions or {},
        waits=[],
        mean_seconds=1.0,
    )


def rounded(rates: Mapping[Part, tuple[float, str]]) -> dict[Part, tuple[int, str]]:
    return {part: (round(rate), how) for part, (rate, how) in rates.items()}


def test_figures_are_those_of_the_busiest_node_and_the_mean_instance() -> None:
    before = sample(0.0, node=0.0, loops=[0.0, 0.0], conflicts=0)
    busy = figures(before, sample(10.0, node=4.5, loops=[2.0, 3.0], conflicts=90), instances=2, cores=8)
    assert (busy.redis, busy.redis_least, busy.loop, busy.instance) == (0.45, 0.225, 0.3, 0.25)
    assert (busy.redis_seconds, busy.conflicts, busy.writes) == (6.75, 180, 180)


def test_a_part_that_reaches_its_limit_is_full_between_the_last_two_steps() -> None:
    steps = [step(36_000, node=0.4, loop=0.1), step(72_000, node=0.7, loop=0.2), step(144_000, node=1.3, loop=0.4)]
    found = rounded(full_at(steps))
    assert found[Part.REDIS] == (108_000, "measured")
    assert found[Part.LOOP] == (360_000, "projected")
    # 2 instances of 20 workers with conversions of 1 s.
    assert found[Part.WORKERS] == (144_000, "measured")
    assert found[Part.BUDGETS] == (240_000, "computed")
    assert Part.STATES not in found, "no use of it was seen"
    assert list(found) == [Part.CORES, Part.REDIS, Part.WORKERS, Part.BUDGETS, Part.LOOP]
    assert [reasons_to_stop(each) for each in steps] == [[], [], ["full: a Redis node", "full: the workers"]]
    assert "\n2. a Redis node: 108,000 an hour (measured)\n" in report(steps)


def test_one_step_is_projected_from_idle_instances() -> None:
    assert rounded(full_at([step(36_000, node=0.4, loop=0.1)]))[Part.REDIS] == (108_000, "projected")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"queued": 11}, "the queue grows without bound"),
        ({"unfinished": 1}, "jobs have not ended"),
        ({"load": Load(submitted=100, unknown=1)}, "jobs were lost"),
        ({"load": Load(submitted=100, refused=Counter({"queue_full": 2}))}, "jobs are refused"),
    ],
)
def test_a_rate_that_is_too_high_ends_the_steps(changes: dict[str, object], reason: str) -> None:
    calm = step(36_000, node=0.4, loop=0.1)
    assert reasons_to_stop(calm) == []
    assert reasons_to_stop(replace(calm, **changes)) == [reason]


def test_states_that_conflict_as_often_as_they_are_written_are_full() -> None:
    contended = step(36_000, node=0.4, loop=0.1, conflicts=90)
    assert reasons_to_stop(contended) == ["full: the shared states of the identities"]


def test_conflicts_of_idle_instances_do_not_count() -> None:
    before, after = sample(0.0, node=0.0, loops=[0.0], conflicts=0), sample(10.0, node=1.0, loops=[0.0], conflicts=90)
    calm = step(36_000, node=0.4, loop=0.1, conflicts=1)
    starting = replace(calm, idle=figures(before, after, instances=2, cores=None))
    assert full_at([starting]) == full_at([calm])
    assert Part.STATES in full_at([starting])


def test_attempts_in_several_processes_are_added() -> None:
    assert attempts([Counts(started={"a": 1, "b": 1}), Counts(started={"a": 1})]) == {"a": 2, "b": 1}
    assert step(36_000, node=0.4, loop=0.1, conversions={"a": 2, "b": 1}).again == 1
