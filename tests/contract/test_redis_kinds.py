"""Servers that answer like Redis but cannot be the job store are named at the start and in `/health`."""

import contextlib
from collections.abc import Callable
from typing import Final, cast

import pytest
import redis

from tests.contract.redis_servers import MakeStore, MakeValkey
from tests.stand.ports import free_port
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.core.errors import StoreUnusable

HALF_OF_SLOTS: Final = 8192


def settings() -> dict[str, str]:
    return {"cluster-enabled": "yes", "cluster-node-timeout": "60000", "cluster-port": str(free_port())}


def command(server: Valkey, *arguments: str) -> object:
    with contextlib.closing(redis.Redis(host="127.0.0.1", port=server.port, protocol=2)) as client:
        execute = cast("Callable[..., object]", client.execute_command)
        return execute(*arguments)


async def test_a_node_of_a_cluster_is_named_also_if_it_owns_the_key_of_the_check(
    make_valkey: MakeValkey, make_store: MakeStore
) -> None:
    first, second = make_valkey(settings()), make_valkey(settings())
    command(first, "CLUSTER", "ADDSLOTSRANGE", "0", str(HALF_OF_SLOTS - 1))
    command(second, "CLUSTER", "ADDSLOTSRANGE", str(HALF_OF_SLOTS), str(2 * HALF_OF_SLOTS - 1))
    command(second, "CLUSTER", "SET-CONFIG-EPOCH", "2")
    command(first, "CLUSTER", "MEET", "127.0.0.1", str(second.port), second.settings["cluster-port"])

    async def is_one_cluster() -> bool:
        return all("cluster_size:2" in str(command(server, "CLUSTER", "INFO")) for server in (first, second))

    await until(is_one_cluster, "both nodes know each other")
    for server in (first, second):
        store = make_store(server.address)
        for check in (store.open, store.ping):
            with pytest.raises(StoreUnusable, match=r"one node of a Redis Cluster.*REDIS_ADDR"):
                await check()


async def test_a_sentinel_is_named(make_valkey: MakeValkey, make_store: MakeStore) -> None:
    server = make_valkey(start=False)
    server.start(as_sentinel=True)
    store = make_store(server.address)
    for check in (store.open, store.ping):
        with pytest.raises(StoreUnusable, match=r"this is a Sentinel.*REDIS_ADDR"):
            await check()
