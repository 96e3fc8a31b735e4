"""The HTTP server below the routes: time limits on silent peers, and garbage answered in our own words.

aiohttp answers what it cannot parse with a text that repeats the request's bytes; here it is a problem document that
repeats nothing (goal S15), and no traceback is logged for what any stranger can send.
"""

from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from ytmp3 import problem

KEEPALIVE_SECONDS: Final = 10.0
"""Also bounds a request's head: one byte now and then does not hold a connection longer. nginx must let go of idle
connections sooner (nginx/), or it would meet one that closes under it."""
LINGERING_SECONDS: Final = 2.0
"""For the rest of a body that nobody wants."""
MAX_FIELD_BYTES: Final = 8190
MAX_FIELDS: Final = 64


class ProblemProtocol(RequestHandler):
    """A connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or a failure outside the middlewares, and close."""
        if status >= 500:
            self.log_exception("request failed below the application", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was under way")
        response = problem.from_status(status)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        response.headers["Server"] = "ytmp3"
        response.force_close()
        return response


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
        return ProblemServer(server.request_handler, request_factory=server.request_factory, **settings)
