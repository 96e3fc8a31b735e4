"""A TCP proxy on loopback that loses, delays, holds and counts replies, as a bad network does."""

import asyncio
import contextlib
import ssl
from typing import Final, Self

CHUNK_BYTES: Final = 1 << 16


class ChaosProxy:
    """Listens on a free port and passes everything to the server at `port`, except what a test lets it lose."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """Set up the proxy. `tls`: clients connect by TLS; the server is reached without."""
        self._upstream_port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_lose = 0
        self.is_silent = False
        """If true, requests are passed on and replies are dropped, while connections stay open."""
        self.delay_seconds = 0.0
        """Delay of each reply, on all connections at once: a server that is busy and still answers."""
        self.round_trips = 0
        """How often a client has written without having been answered in between, over all connections."""
        self._may_answer = asyncio.Event()
        self._may_answer.set()

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def lead_to(self, port: int) -> None:
        """Pass new connections to another port, as a host name does after a failover; the old ones stay."""
        self._upstream_port = port

    def hold_replies(self) -> None:
        """Keep all replies back, in order, until `release_replies`."""
        self._may_answer.clear()

    def release_replies(self) -> None:
        """Pass on the replies that were kept back."""
        self._may_answer.set()

    def lose_replies(self, count: int) -> None:
        """Drop the next `count` replies, and close the connection of each."""
        self._to_lose = count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            unanswered = asyncio.Event()
            requests = asyncio.ensure_future(self._pass_requests(reader, upstream_writer, unanswered))
            replies = asyncio.ensure_future(self._pass_replies(upstream_reader, writer, unanswered))
            try:
                await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                requests.cancel()
                replies.cancel()
                await asyncio.gather(requests, replies, return_exceptions=True)
        finally:
            upstream_writer.close()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unanswered: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                # One write may arrive in several chunks.
                self.round_trips += not unanswered.is_set()
                unanswered.set()
                writer.write(chunk)
                await writer.drain()

    async def _pass_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unanswered: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.is_silent:
                    continue
                if self._to_lose > 0:
                    self._to_lose -= 1
                    return
                await asyncio.sleep(self.delay_seconds)
                await self._may_answer.wait()
                unanswered.clear()
                writer.write(chunk)
                await writer.drain()
