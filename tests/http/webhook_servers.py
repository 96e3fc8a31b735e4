"""Servers for tests of webhooks: a receiver that records messages, a server that misbehaves, and a fake resolver."""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Received:
    """One message as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Receiver:
    """A webhook endpoint."""

    port: int = 0
    messages: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """The statuses of the next responses; after that, `status`."""
    status: int = 204
    location: str = ""
    """The `Location` of redirects."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.messages.append(Received(path=request.path_qs, headers=headers, body=await request.read()))
        status = self.statuses.pop(0) if self.statuses else self.status
        return web.Response(status=status, headers={"Location": self.location} if 300 <= status < 400 else None)


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@dataclass(slots=True, kw_only=True)
class RawServer:
    """A TCP server that counts its connections."""

    port: int = 0
    connections: int = 0
    bytes_written: int = 0


@contextlib.asynccontextmanager
async def raw_server(
    handle: Handle | None = None, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Start a server. Without `handle`, it closes every connection at once."""
    made = RawServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        try:
            if handle is not None:
                await handle(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


class ScriptedResolver(AbstractResolver):
    """Answers every look-up with the next of some lists of addresses, and repeats the last one."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = itertools.chain(answers[:-1], itertools.repeat(answers[-1]))
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found = next(self._answers)
        if not found:
            raise OSError(socket.EAI_NONAME, "the name is unknown")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0) for address in found
        ]

    async def close(self) -> None:
        """Do nothing."""
