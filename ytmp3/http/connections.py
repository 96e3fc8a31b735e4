"""The HTTP server below the routes: time limits for slow or idle peers, and problem documents for invalid requests.

aiohttp's response to a request that it cannot parse repeats bytes of the request, and some such requests make it log a
traceback. This module sends a problem document that repeats nothing, and no request of a client is logged as an error.
For this it uses some attributes of aiohttp that are not public. AIOHTTP_PRIVATE lists them all.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server
from msgspec import Struct

from ytmp3.http import problems
from ytmp3.http.connection_limit import ConnectionLimit

MAX_FIELD_BYTES: Final = 8190
"""Longest request line and longest header field, in bytes. This is aiohttp's default."""
MAX_FIELDS: Final = 64
"""Most header fields of a request. Browsers send about twenty, and each proxy adds a few."""

AIOHTTP_PRIVATE: Final = (
    (RequestHandler, "_waiter", "a future that is pending while the connection waits for a request"),
    (RequestHandler, "_messages", "the parsed requests that wait for their turn on the connection"),
    (Server, "_loop", "the event loop, an argument of RequestHandler"),
    (Server, "_kwargs", "the settings of the server, which are arguments of RequestHandler"),
    (web.BaseSite, "_server", "the server of asyncio, which has the listening sockets"),
    (web.AppRunner, "_make_server", "makes the Server of an application; overridden below"),
)
"""The private attributes of aiohttp that this module uses. A test fails if aiohttp changes one of them."""


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long connections may keep the server waiting, in seconds."""

    keepalive_seconds: float = 10.0
    """Longest time that an idle connection is kept. It also bounds the time for a request's head, so a client that
    sends single bytes cannot hold a connection longer. nginx in front must close its idle connections sooner than this.
    Otherwise it may send a request on a connection that is just being closed."""
    lingering_seconds: float = 2.0
    """How long the rest of a refused request's body is read, so that the client can read the response first."""
    stall_seconds: float = 60.0
    """Longest time that sent bytes may stay unacknowledged. Otherwise a peer that sends a hundred requests and reads no
    response would hold a descriptor forever, even after we have closed our side. The kernel enforces this timeout
    (TCP_USER_TIMEOUT, RFC 5482), also while the peer's receive window is closed."""


TIMEOUTS: Final = Timeouts()


class ProblemProtocol(RequestHandler):
    """One connection. `stall_seconds` bounds how long sent bytes may stay unacknowledged."""

    __slots__ = (
        "_has_peer_closed_its_side",
        "_is_admitted",
        "_limit",
        "_peer",
        "_stall_seconds",
        "last_body",
        "on_departure",
    )

    def __init__(self, *arguments: Any, stall_seconds: float, limit: ConnectionLimit, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._stall_seconds = stall_seconds
        self._limit = limit
        self._peer: str | None = None
        """The address of the peer, without its port."""
        self._is_admitted = False
        """Whether `limit` counts the connection."""
        self._has_peer_closed_its_side = False
        self.last_body: StreamReader | None = None
        """The body of the current request, or of the last one."""
        self.on_departure: Callable[[], None] | None = None
        """Called when the client leaves, or closes its side: set by a response without an end, an event stream."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close a new connection if there are too many; otherwise set its timeout for unacknowledged bytes."""
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else None
        self._is_admitted = self._limit.admit(self._peer)
        if not self._is_admitted:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
            return
        connection = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT") and connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._stall_seconds * 1000))
        super().connection_made(transport)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's protocols may return whether to stay open
        """Keep the connection of a peer that closed its sending side after a complete request.

        aiohttp would close the connection without a response. Clients such as `printf ... | nc -N` work this way. A
        response without an end is not continued, because the client has most likely gone.
        """
        if self.on_departure is not None:
            self.on_departure()
            return False
        is_idle = self._waiter is not None and not self._waiter.done()
        body = self._messages[-1][1] if self._messages else self.last_body
        self._has_peer_closed_its_side = not is_idle and body is not None and body.is_eof()
        return self._has_peer_closed_its_side

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the end of the connection, and let an event stream end, whose client has gone."""
        if not self._is_admitted:
            return
        self._limit.closed(self._peer)
        super().connection_lost(exc)
        if self.on_departure is not None:
            self.on_departure()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response for an invalid request, or for a failure outside the middleware. Close the connection."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client went away: the caller closes the connection and logs nothing
        if status >= 500:
            self.log_exception("request failed below the application", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response was already under way")
        response = problems.response_of_status(status)
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Replace an error that aiohttp raised outside the middleware (an unknown Expect header at an unknown path)."""
        if isinstance(resp, web.HTTPException):
            resp = problems.response_of_status(resp.status)
        if self._has_peer_closed_its_side and not self._messages:
            resp.force_close()
        return super().finish_response(request, resp, start_time)


class ProblemServer(Server):
    """Makes a ProblemProtocol for each connection."""

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection. asyncio calls this."""
        return ProblemProtocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An AppRunner whose connections are ProblemProtocols.

    `shutdown_seconds`: how long open requests may go on once the listening socket is closed. `limit` bounds the number
    of connections.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        shutdown_seconds: float,
        limit: ConnectionLimit,
        timeouts: Timeouts = TIMEOUTS,
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_seconds, access_log=None)
        self._limit = limit
        self._timeouts = timeouts

    def set_backlog(self, connections: int) -> None:
        """Set how many connections the kernel accepts for the listening sockets while the event loop is busy."""
        for site in self.sites:
            server = site._server  # noqa: SLF001  aiohttp has no public name for it
            assert isinstance(server, asyncio.Server)
            for listener in server.sockets:
                # A second descriptor of the same socket: asyncio's object for it has no `listen`.
                with socket.socket(fileno=os.dup(listener.fileno())) as same:
                    same.listen(connections)

    async def _make_server(self) -> Server:
        server = await super()._make_server()
        make_request = server.request_factory

        def make_and_remember(
            message: RawRequestMessage, body: StreamReader, protocol: RequestHandler, *rest: Any
        ) -> web.BaseRequest:
            assert isinstance(protocol, ProblemProtocol)
            protocol.last_body = body
            # aiohttp sends no response if the target is an absolute URL whose host cannot be decoded
            # ("http://xn--a/health"). The service does not use the host of a target, so it is removed.
            if not message.path.startswith("/") and message.url.absolute:
                message = message._replace(url=message.url.relative())
            return make_request(message, body, protocol, *rest)

        return ProblemServer(
            server.request_handler,
            request_factory=make_and_remember,
            stall_seconds=self._timeouts.stall_seconds,
            limit=self._limit,
            keepalive_timeout=self._timeouts.keepalive_seconds,
            lingering_time=self._timeouts.lingering_seconds,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
            # A compressed body is refused and never expanded.
            auto_decompress=False,
            access_log=None,
        )
