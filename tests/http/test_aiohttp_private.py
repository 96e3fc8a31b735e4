"""The private attributes of aiohttp that `http.connections` uses still exist.

When one of these tests fails after an update of aiohttp, read the new `web_protocol.py`, `web_server.py` and
`web_runner.py` and mend `connections.py`. The behaviour itself is tested in test_leaving_clients.py and
test_malformed_http.py.
"""

import ast
import inspect
from asyncio import Future
from collections import deque

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from ytmp3.http import connections
from ytmp3.http.connections import AIOHTTP_PRIVATE


async def _respond(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def test_every_listed_attribute_exists() -> None:
    server = Server(_respond)
    owners = {RequestHandler: RequestHandler(server, loop=server._loop), Server: server, web.AppRunner: web.AppRunner}
    owners[web.BaseSite] = web.BaseSite
    for owner, name, _ in AIOHTTP_PRIVATE:
        assert hasattr(owners[owner], name), f"{owner.__name__}.{name} has moved"


async def test_the_listed_attributes_hold_what_the_list_says() -> None:
    server = Server(_respond, keepalive_timeout=5.0)
    handler = RequestHandler(server, loop=server._loop)
    assert isinstance(handler._messages, deque)
    assert isinstance(handler._waiter, Future | None)
    assert server._kwargs == {"keepalive_timeout": 5.0}
    assert inspect.iscoroutinefunction(web.AppRunner._make_server)


def test_no_other_private_attribute_of_aiohttp_is_used() -> None:
    tree = ast.parse(inspect.getsource(connections))
    own = {"_timeouts", "_stall_seconds", "_has_peer_closed_its_side", "_limit", "_peer", "_is_admitted"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }
    # `_replace` is a public method of named tuples.
    assert used - own - {"_replace"} == {name for _, name, _ in AIOHTTP_PRIVATE}


@pytest.mark.parametrize(
    "name", ["eof_received", "connection_made", "connection_lost", "handle_error", "finish_response"]
)
def test_every_overridden_method_exists_in_aiohttp(name: str) -> None:
    assert name in vars(RequestHandler), f"RequestHandler.{name} has moved"
