"""Two proxies in a row: the limits and the service see the client's address, not that of the outer proxy."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, web

from tests.stand.nginx import Nginx, running_nginx, write_configuration
from tests.stand.ports import free_port
from tests.system.scripted_instances import LINK, Instance

REAL_IP = "set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n"
CLIENTS = ("127.0.0.2", "127.0.0.3")
"""Addresses of this machine from which the clients connect; the outer proxy connects from 127.0.0.1."""
AT_ONCE = 90
"""Requests at once: more than a burst of POSTs (40), fewer than the connections of one address (100)."""


async def test_each_client_of_an_outer_proxy_has_its_own_address_and_limits(tmp_path: Path) -> None:
    instance = Instance("only")
    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", instance.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream = "{}:{}".format(*runner.addresses[0][:2])
        inner = Nginx(tmp_path / "inner", free_port())
        write_configuration(inner.folder, port=inner.port, upstreams=[upstream], tracks=tmp_path, is_limited=True)
        (inner.folder / "real_ip.conf").write_text(REAL_IP)
        await inner.start()
        stack.push_async_callback(inner.stop)
        outer = await stack.enter_async_context(
            running_nginx(tmp_path / "outer", [f"127.0.0.1:{inner.port}"], tmp_path, is_limited=False)
        )
        clients = [
            await stack.enter_async_context(ClientSession(connector=TCPConnector(local_addr=(address, 0))))
            for address in CLIENTS
        ]

        async def post(client: ClientSession) -> int:
            forged = {"X-Forwarded-For": "198.51.100.7"}
            async with client.post(f"{outer.url}/extract", json=LINK, headers=forged) as response:
                return response.status

        first, second = clients
        # Many at once: a busy machine may take longer for one after the other than the limit takes to admit the next.
        statuses: set[int] = set()
        while 429 not in statuses:
            statuses |= set(await asyncio.gather(*(post(first) for _ in range(AT_ONCE))))
        assert statuses == {200, 429}
        assert await post(second) == 200
        assert [seen["x-forwarded-for"] for seen in instance.headers[:: len(instance.headers) - 1]] == list(CLIENTS)
