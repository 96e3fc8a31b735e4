"""One real Valkey for each worker of the test run, and the stands that both adapters stand on."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.contract.stands import Ids, RedisStand, SqliteStand, Stand
from tests.stand.valkey import Valkey
from ytmp3.jobstore import JobStore
from ytmp3.jobstore.redis import RedisSettings


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


@pytest.fixture(params=["sqlite", "redis"])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    chosen: Stand
    if request.param == "sqlite":
        chosen = SqliteStand(tmp_path / "jobs.db")
    else:
        server = cast("Valkey", request.getfixturevalue("empty_valkey"))
        chosen = RedisStand(RedisSettings(address=server.address))
    yield chosen
    await chosen.close()


@pytest.fixture
async def store(stand: Stand) -> JobStore:
    return await stand.open()


@pytest.fixture
def ids() -> Ids:
    return Ids()
