"""A network of TCP proxies on loopback in front of the nodes of a Redis Cluster, which a test can partition.

The proxies pass everything on: the connections of clients, replication, and the cluster bus. Each node connects to the
others from a source address of its own (`bind-source-addr`), so a proxy knows which node a connection comes from.
While a node is cut off, its connections stay open and nothing passes. What was sent meanwhile arrives late, as after a
real partition.

The proxies run in a thread with an event loop of its own, so that no work of the test delays them.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Final, Self

from tests.stand.ports import free_port

CHUNK_BYTES: Final = 1 << 16
CLIENT: Final = -1
"""The number of every source that is not a node."""
FIRST_ADDRESS: Final = 10
"""Node 0 connects from 127.0.0.10, node 1 from 127.0.0.11, and so on."""
LOOK_SECONDS: Final = 0.02
"""How often, in seconds, a connection that is cut looks whether it may pass again."""


def source_address(node: int) -> str:
    return f"127.0.0.{FIRST_ADDRESS + node}"


class LoopbackNetwork:
    """Proxies, each for one port of one node."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopback-network", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut_off: frozenset[int] = frozenset()
        self.round_trips = 0
        """How often a client has written without having been answered in between, over all connections of clients."""

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Run the event loop of the proxies until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def lead_to(self, node: int, port: int) -> int:
        """Start a proxy for a port of a node, on which nothing has to listen yet. Returns the port of the proxy."""
        own = free_port()
        asyncio.run_coroutine_threadsafe(self._listen(node, port, own), self._loop).result()
        return own

    def cut_off(self, *nodes: int) -> None:
        """Let nothing pass between these nodes and all others, clients included. Without arguments: heal."""
        self._cut_off = frozenset(nodes)

    async def _listen(self, node: int, port: int, own: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._pass_all(node, port, reader, writer)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                self._tasks.discard(task)
                writer.close()

        self._servers.append(await asyncio.start_server(serve, "127.0.0.1", own))

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_all(self, node: int, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        last = int(writer.get_extra_info("peername")[0].rpartition(".")[2])
        source = last - FIRST_ADDRESS if last >= FIRST_ADDRESS else CLIENT
        ends = (source, node)
        await self._until_open(ends)
        local = (source_address(source), 0) if source != CLIENT else None
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port, local_addr=local)
        unanswered = asyncio.Event()
        try:
            passes = [
                asyncio.ensure_future(self._pass(reader, upstream_writer, ends, unanswered, is_request=True)),
                asyncio.ensure_future(self._pass(upstream_reader, writer, ends, unanswered, is_request=False)),
            ]
            try:
                await asyncio.wait(passes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in passes:
                    each.cancel()
                await asyncio.gather(*passes, return_exceptions=True)
        finally:
            upstream_writer.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ends: tuple[int, int],
        unanswered: asyncio.Event,
        *,
        is_request: bool,
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._until_open(ends)
            if is_request:
                self.round_trips += ends[0] == CLIENT and not unanswered.is_set()
                unanswered.set()
            else:
                unanswered.clear()
            writer.write(chunk)
            await writer.drain()
        await self._until_open(ends)

    async def _until_open(self, ends: tuple[int, int]) -> None:
        while len(self._cut_off.intersection(ends)) == 1:
            await asyncio.sleep(LOOK_SECONDS)
