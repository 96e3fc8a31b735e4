"""A real nginx with the production files in front of two fake instances, which respond as a test tells them."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import ClientSession, web

from tests.stand.nginx import Nginx, running_nginx
from tests.stand.ports import free_port
from tests.stand.raw_http import exchange

LARGE: Final = bytes(range(256)) * 80_000
"""20 MB: more than the 16 MB in memory that docker-compose.yml gives nginx for temporary files."""
LINK: Final = {"url": "https://youtu.be/dQw4w9WgXcQ"}
RAW_SECONDS: Final = 120.0
"""How long a raw request waits for the server to close the connection; all tests send requests that make it close."""


@dataclass(slots=True)
class Instance:
    """A fake instance: responds as `behaviour` says, and remembers the requests that it got."""

    name: str
    behaviour: str = "well"
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests to an instance that is "held" wait for this event."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        security = {"X-Content-Type-Options": "nosniff", "X-Request-Id": request.headers.get("X-Request-Id", "")}
        if self.behaviour == "held":
            await self.released.wait()
        match self.behaviour:
            case "full":
                await request.read()
                return web.json_response({"code": "queue_full"}, status=503, headers=security | {"Retry-After": "7"})
            case "cut":
                await request.read()
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "invalid":
                await request.read()
                assert request.transport is not None
                request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nBad\x00Name: x\r\n\r\nok")
                request.transport.close()
                return web.Response()
            case "large":
                return web.Response(body=LARGE, headers=security)
            case "track":
                return web.Response(
                    headers=security
                    | {"X-Accel-Redirect": "/protected-tracks/a.mp3", "ETag": '"tag"', "Content-Type": "audio/mpeg"}
                )
            case _:
                await request.read()
                return web.json_response({"instance": self.name}, headers=security)


@dataclass(frozen=True, slots=True)
class Site:
    """nginx, the fake instances behind it, the folder of tracks that it sends, and a client."""

    nginx: Nginx
    instances: list[Instance]
    client: ClientSession
    tracks: Path

    def behave(self, behaviour: str) -> None:
        """Tell all instances how to respond from now on."""
        for instance in self.instances:
            instance.behaviour = behaviour

    async def raw(self, request: bytes, *, is_all: bool = False) -> bytes:
        """Send bytes, and return all that comes until nginx closes the connection.

        `is_all`: shut down this side's direction after them. nginx then waits for no rest of the request.
        """
        return await exchange("127.0.0.1", self.nginx.port, request, seconds=RAW_SECONDS, is_all=is_all)

    async def status(self, path: str) -> int:
        async with self.client.get(self.nginx.url + path) as response:
            return response.status

    def arrived(self) -> Counter[tuple[str, str]]:
        """Count the requests that reached an instance, by method and path."""
        return Counter(request for instance in self.instances for request in instance.requests)

    def slow_reader(self, request: bytes) -> socket.socket:
        """Return a connection that has sent a request, and accepts no more than fits into a small buffer."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", self.nginx.port))
        connection.setblocking(False)
        connection.send(request)
        return connection


@asynccontextmanager
async def nginx_site(folder: Path, *, is_limited: bool = False, absent: int = 0) -> AsyncIterator[Site]:
    """Start two fake instances and nginx, which also knows `absent` instances that do not exist.

    With `is_limited` the rate and connection limits are those of production; else none is ever reached.
    """
    instances = [Instance("first"), Instance("second")]
    upstreams = []
    async with AsyncExitStack() as stack:
        for instance in instances:
            app = web.Application()
            app.router.add_route("*", "/{tail:.*}", instance.handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            upstreams.append("{}:{}".format(*runner.addresses[0][:2]))
        upstreams += [f"127.0.0.1:{free_port()}" for _ in range(absent)]
        tracks = folder / "tracks"
        tracks.mkdir()
        nginx = await stack.enter_async_context(
            running_nginx(folder / "nginx", upstreams, tracks, is_limited=is_limited)
        )
        client = await stack.enter_async_context(ClientSession())
        yield Site(nginx, instances, client, tracks)
