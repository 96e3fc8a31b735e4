"""The HTTP server below the routes: time limits on silent peers, and garbage answered in our own words.

aiohttp answers what it cannot parse with a text that repeats the request's bytes; here it is a problem document that
repeats nothing (goal S15), and no traceback is logged for what any stranger can send.
"""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from ytmp3.http import problems as problem

KEEPALIVE_SECONDS: Final = 10.0
"""Also bounds a request's head: one byte now and then does not hold a connection longer. nginx must let go of idle
connections sooner (nginx/), or it would meet one that closes under it."""
LINGERING_SECONDS: Final = 2.0
"""For the rest of a body that nobody wants."""
STALL_SECONDS: Final = 60.0
"""For a peer that takes nothing of what it was sent, also when we have closed on our side: a hundred requests in a row
and no read would otherwise hold a descriptor for ever (A093). Kept by the kernel (RFC 5482; a closed window counts)."""
MAX_FIELD_BYTES: Final = 8190
MAX_FIELDS: Final = 64


class ProblemProtocol(RequestHandler):
    """A connection."""

    __slots__ = ("_hears_no_more", "asked")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound how long what we send may lie unread."""
        self._hears_no_more = False
        self.asked: StreamReader | None = None
        """The body of the request that is being answered, or was last."""
        connection = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT") and connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000))
        super().connection_made(transport)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's protocols may return whether to stay open
        """Keep the connection of a peer that has only closed its own side, if what it asked for last came whole.

        The library answers nobody who does (`printf ... | nc -N`).
        """
        is_idle = self._waiter is not None and not self._waiter.done()
        asked = self._messages[-1][1] if self._messages else self.asked
        self._hears_no_more = not is_idle and asked is not None and asked.is_eof()
        return self._hears_no_more

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or a failure outside the middlewares, and close."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client went away: our caller ends the connection, and says nothing
        if status >= 500:
            self.log_exception("request failed below the application", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way")
        response = problem.from_status(status)
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Put what the library raised around the middlewares (an unknown expectation at no route) into our words."""
        if isinstance(resp, web.HTTPException):
            resp = problem.from_status(resp.status)
        if self._hears_no_more and not self._messages:
            resp.force_close()
        return super().finish_response(request, resp, start_time)


class ProblemServer(Server):
    """Makes a ProblemProtocol for each connection."""

    def __call__(self) -> RequestHandler:
        return ProblemProtocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An AppRunner whose connections are ours."""

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown_seconds: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_seconds, access_log=None)

    async def _make_server(self) -> Server:
        server = await super()._make_server()
        settings: dict[str, Any] = {
            "keepalive_timeout": KEEPALIVE_SECONDS,
            "lingering_time": LINGERING_SECONDS,
            "max_line_size": MAX_FIELD_BYTES,
            "max_field_size": MAX_FIELD_BYTES,
            "max_headers": MAX_FIELDS,
            # A compressed body is refused, never expanded.
            "auto_decompress": False,
            "access_log": None,
        }
        make_request = server.request_factory

        def made(
            message: RawRequestMessage, body: StreamReader, protocol: RequestHandler, *rest: Any
        ) -> web.BaseRequest:
            assert isinstance(protocol, ProblemProtocol)
            protocol.asked = body
            # The library fails, without an answer, on a host that no name can be decoded from ("http://xn--a/health").
            if not message.path.startswith("/") and message.url.absolute:
                message = message._replace(url=message.url.relative())
            return make_request(message, body, protocol, *rest)

        return ProblemServer(server.request_handler, request_factory=made, **settings)
