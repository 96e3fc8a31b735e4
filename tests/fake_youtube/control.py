"""The plain-HTTP control port, by which a test in another process reads the counts and turns the switches."""

import dataclasses
import json
from collections.abc import Callable

import msgspec
from aiohttp import web

from .counting import Tallies
from .switches import Switchboard


def control(tallies: Tallies, switchboard: Switchboard, reset: Callable[[], None]) -> web.Application:
    async def all_counts(request: web.Request) -> web.Response:
        return web.json_response(tallies.everything())

    async def one_count(request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(tallies.counts(request.match_info["identifier"])))

    async def reset_all(request: web.Request) -> web.Response:
        reset()
        return web.json_response({})

    async def switches(request: web.Request) -> web.Response:
        return web.json_response(msgspec.to_builtins(switchboard.current))

    async def change_switches(request: web.Request) -> web.Response:
        try:
            changed = switchboard.change(json.loads(await request.read()))
        except (ValueError, TypeError) as failure:
            return web.json_response({"error": str(failure)}, status=422)
        return web.json_response(msgspec.to_builtins(changed))

    async def expire_links(request: web.Request) -> web.Response:
        switchboard.expire_links()
        return web.json_response({})

    async def trap(request: web.Request) -> web.Response:
        tallies.trapped += 1
        return web.Response(text="a request followed a redirect to loopback")

    app = web.Application()
    app.router.add_get("/counts", all_counts)
    app.router.add_get("/counts/{identifier}", one_count)
    app.router.add_post("/reset", reset_all)
    app.router.add_get("/switches", switches)
    app.router.add_patch("/switches", change_switches)
    app.router.add_post("/expire-links", expire_links)
    app.router.add_get("/trap", trap)
    return app
