"""Fixtures: one real Valkey for each worker of the test run, a cluster, servers for single tests, and both adapters."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final, cast

import pytest
import redis

from tests.contract.harness import PATIENT, POLICY, Harness, Ids, RedisHarness, SqliteHarness
from tests.contract.redis_servers import ON_CLUSTER, MakeStore, MakeValkey
from tests.fakes import Clock
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.redis_cluster import RedisCluster
from tests.stand.valkey import Valkey
from ytmp3.core.ids import InstanceId
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import RedisTimeouts


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def empty_valkey(valkey: Valkey) -> Valkey:
    with contextlib.closing(valkey.client()) as client:
        client.flushall()
    return valkey


@pytest.fixture
def make_valkey(tmp_path: Path) -> Iterator[MakeValkey]:
    """Make servers of the test's own, which it may stop, fill or freeze."""
    servers: list[Valkey] = []

    def make(settings: Mapping[str, str] | None = None, *, start: bool = True) -> Valkey:
        folder = tmp_path / f"valkey-{len(servers)}"
        folder.mkdir()
        server = Valkey(folder, settings=settings)
        servers.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
async def make_store() -> AsyncIterator[MakeStore]:
    """Make stores that are not opened yet. Unless the test sets other timeouts, no busy machine reaches them."""
    stores: list[RedisJobStore] = []

    def make(
        address: str,
        *,
        password: str = "",
        clock: Clock | None = None,
        timeouts: RedisTimeouts | None = None,
        reads_replicas: bool = False,
    ) -> RedisJobStore:
        settings = RedisSettings(address=address, password=password, reads_replicas=reads_replicas)
        store = RedisJobStore(settings, POLICY, InstanceId("a"), clock=clock, timeouts=timeouts or PATIENT)
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
async def proxy(empty_valkey: Valkey) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy(empty_valkey.port) as running_proxy:
        yield running_proxy


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """The cluster of all tests in this process. They are in the group `redis-cluster`, so that there is only one."""
    with RedisCluster(tmp_path_factory.mktemp("redis-cluster")).running() as nodes:
        yield nodes


@pytest.fixture
def empty_cluster(redis_cluster: RedisCluster) -> RedisCluster:
    redis_cluster.empty()
    return redis_cluster


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster that the test may harm."""
    with RedisCluster(tmp_path / "cluster").running() as nodes:
        yield nodes


def cluster_harness(nodes: RedisCluster) -> RedisHarness:
    """Return a harness on a cluster. Its client has the commands of a client of a single server."""
    return RedisHarness(RedisSettings(address=nodes.address), make_client=lambda: cast("redis.Redis", nodes.client()))


# A third store would take half as long again. So `make test` runs on the cluster only a part of the programs of the
# model (test_redis_cluster); `make soak` and `make redis-cluster-test` run everything.
CLUSTERS: Final = [pytest.param("cluster", marks=[pytest.mark.soak, *ON_CLUSTER])] if FUZZ_FACTOR > 1 else []
"""The parameter of tests that also run on a cluster. Empty in `make test`."""


@pytest.fixture
async def valkey_harness(empty_valkey: Valkey) -> AsyncIterator[RedisHarness]:
    """For tests of a single server."""
    chosen = RedisHarness(RedisSettings(address=empty_valkey.address))
    yield chosen
    await chosen.close()


@pytest.fixture(params=["redis", *CLUSTERS])
async def redis_harness(request: pytest.FixtureRequest) -> AsyncIterator[RedisHarness]:
    """For tests of several instances on one store."""
    chosen = _redis_harness(request)
    yield chosen
    await chosen.close()


@pytest.fixture(params=["sqlite", "redis", *CLUSTERS])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    chosen: Harness = SqliteHarness(tmp_path / "jobs.db") if request.param == "sqlite" else _redis_harness(request)
    yield chosen
    await chosen.close()


def _redis_harness(request: pytest.FixtureRequest) -> RedisHarness:
    """Return the harness that the parameter names."""
    if request.param == "cluster":
        return cluster_harness(cast("RedisCluster", request.getfixturevalue("empty_cluster")))
    server = cast("Valkey", request.getfixturevalue("empty_valkey"))
    return RedisHarness(RedisSettings(address=server.address))


@pytest.fixture
async def store(harness: Harness) -> JobStore:
    return await harness.open()


@pytest.fixture
def ids() -> Ids:
    return Ids()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()
