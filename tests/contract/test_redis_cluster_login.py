"""A Redis Cluster behind TLS and with an ACL user: the login, and the names of the nodes, apply to all of them."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.contract.harness import Ids, submitted
from tests.contract.redis_servers import ON_CLUSTER, MakeStore, until_it_works
from tests.fake_youtube.certificate import issue
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.redis_cluster import RedisCluster
from ytmp3.core.errors import StoreUnusable

pytestmark = ON_CLUSTER

SECRET = "correct-horse"
RIGHTS = (
    "~ytmp3:*",
    "&ytmp3:*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "+cluster|slots",
    "+cluster|info",
    "+asking",
)


async def test_tls_and_the_login_of_an_acl_user_apply_to_every_node(
    tmp_path: Path, make_store: MakeStore, ids: Ids
) -> None:
    # The Valkey of the wheel has no TLS, so a proxy in front of each node has it. Replicas would use the proxies too.
    nodes = RedisCluster(tmp_path / "cluster", has_replicas=False)
    ca_file, context = issue(tmp_path, ["localhost"])
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes.nodes:
            proxy = await stack.enter_async_context(ChaosProxy(node.port, tls=context))
            node.settings |= {
                "cluster-announce-port": proxy.address.partition(":")[2],
                "cluster-announce-hostname": "localhost",
                "cluster-preferred-endpoint-type": "hostname",
            }
        stack.callback(nodes.stop)
        nodes.start()
        for node in nodes.nodes:
            nodes.command(node, "ACL", "SETUSER", "worker", "on", f">{SECRET}", *RIGHTS)
            nodes.command(node, "ACL", "SETUSER", "default", "resetpass", ">another")
            node.settings["requirepass"] = "another"
        seed = f"localhost:{nodes.nodes[0].settings['cluster-announce-port']}"
        store = make_store(f"clusters://worker:{SECRET}@{seed}?ssl_ca_certs={ca_file}")
        await until_it_works(store.open)
        assert await store.ping() is None
        job_ids = [(await submitted(store, ids.submission(number))).ticket.job.job_id for number in range(30)]
        found = await store.get_many(job_ids)
        assert (set(found.tickets), found.unread) == (set(job_ids), frozenset())
        assert await store.adopt(10) == []
        for node in nodes.nodes:
            with contextlib.closing(node.client()) as client:
                assert cast("Callable[[], int]", client.dbsize)() > 0, "each node has a part of the records"
        for login in ("worker:wrong", "nobody:wrong"):
            with pytest.raises(StoreUnusable, match="login") as refusal:
                await make_store(f"clusters://{login}@{seed}?ssl_ca_certs={ca_file}").open()
            assert "wrong" not in str(refusal.value)
