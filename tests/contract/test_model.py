"""One Hypothesis state machine for both adapters: any program of operations has the results of a simple model.

YTMP3_SOAK_PROGRAMS=10000 python -m pytest tests/contract/test_model.py     the long run, with programs of 200 steps
make redis-cluster-test                                                     also on a Redis Cluster
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from tests.contract.clock_machine import ClockMachine
from tests.contract.conftest import CLUSTERS, cluster_harness
from tests.contract.harness import Harness, RedisHarness, SqliteHarness
from tests.contract.time_machine import TimeMachine
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from ytmp3.jobstore.redis import RedisSettings

pytestmark = pytest.mark.fuzz


SOAK_PROGRAMS: Final = int(os.environ.get("YTMP3_SOAK_PROGRAMS", "0"))


PROGRAMS: Final = SOAK_PROGRAMS or 25


STEPS: Final = 200 if SOAK_PROGRAMS else 40


PROGRAM_SETTINGS: Final = settings(
    max_examples=PROGRAMS,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


CLOCK_PROGRAMS: Final = SOAK_PROGRAMS or 5 * FUZZ_FACTOR
"""Fewer, because each ends with a wait of two leases, in which the store is asked every few seconds."""


def run_programs(make_harness: Callable[[], Harness]) -> None:
    class Machine(TimeMachine):
        def __init__(self) -> None:
            super().__init__(make_harness)

    run_state_machine_as_test(Machine, settings=PROGRAM_SETTINGS)


@pytest.mark.timeout(0 if SOAK_PROGRAMS else 1200)
def test_any_program_on_sqlite_behaves_as_the_model(tmp_path: Path) -> None:
    def make_harness() -> Harness:
        return SqliteHarness(Path(tempfile.mkdtemp(dir=tmp_path)) / "jobs.db")

    run_programs(make_harness)


@pytest.fixture(params=["redis", *CLUSTERS])
def make_redis_harness(request: pytest.FixtureRequest) -> Callable[[], RedisHarness]:
    """Make harnesses on an empty server, or on an empty cluster."""
    if request.param == "cluster":
        return _on_cluster(cast("RedisCluster", request.getfixturevalue("redis_cluster")))
    return _on_server(cast("Valkey", request.getfixturevalue("valkey")))


def _on_cluster(nodes: RedisCluster) -> Callable[[], RedisHarness]:
    def make_harness() -> RedisHarness:
        nodes.empty()
        return cluster_harness(nodes)

    return make_harness


def _on_server(valkey: Valkey) -> Callable[[], RedisHarness]:
    def make_harness() -> RedisHarness:
        client = valkey.client()
        client.flushall()
        client.script_flush()
        client.close()
        return RedisHarness(RedisSettings(address=valkey.address))

    return make_harness


@pytest.mark.timeout(0 if SOAK_PROGRAMS else 1200)
def test_any_program_on_redis_behaves_as_the_model(make_redis_harness: Callable[[], RedisHarness]) -> None:
    run_programs(make_redis_harness)


@pytest.mark.attack
@pytest.mark.timeout(0 if SOAK_PROGRAMS else 1200)
def test_any_program_with_steps_of_the_clock_takes_nothing_early_and_leaves_nothing(
    make_redis_harness: Callable[[], RedisHarness],
) -> None:
    class Machine(ClockMachine):
        def __init__(self) -> None:
            super().__init__(make_redis_harness)

    run_state_machine_as_test(Machine, settings=settings(PROGRAM_SETTINGS, max_examples=CLOCK_PROGRAMS))
