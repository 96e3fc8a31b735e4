"""A stand-in of the provider of PO tokens (bgutil-ytdlp-pot-provider): its HTTP interface, with switches for faults."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

VERSION = "2.0.2"


def token(number: int) -> str:
    """Return a text with the form of a token, which yt-dlp checks: Base64 for URLs."""
    return urlsafe_b64encode(f"token number {number:05d}".encode()).decode()


@dataclass
class StandInProvider:
    """What it was asked, and how it answers: "token", "500", "hangs", "huge", "odd" (no token) or "html"."""

    url: str = ""
    answer: str = "token"
    asked: list[dict[str, Any]] = field(default_factory=list)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def get_pot(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        match self.answer:
            case "500":
                return web.json_response({"error": "the script has failed"}, status=500)
            case "hangs":
                await self.ending.wait()
            case "huge":
                return web.json_response({"poToken": "x" * 2**20})
            case "odd":
                return web.json_response({"poToken": 'a"&<token>'})
            case "html":
                return web.Response(text="<html>", content_type="text/html")
        binding = self.asked[-1]["content_binding"]
        return web.json_response({"poToken": token(len(self.asked)), "contentBinding": binding, "expiresAt": None})

    async def ping(self, _: web.Request) -> web.Response:
        return web.json_response({"server_uptime": 1.5, "version": VERSION})


@asynccontextmanager
async def token_provider() -> AsyncIterator[StandInProvider]:
    """Serve on a free port of this machine."""
    provider = StandInProvider()
    app = web.Application()
    app.router.add_post("/get_pot", provider.get_pot)
    app.router.add_get("/ping", provider.ping)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (address,) = runner.addresses
    provider.url = f"http://127.0.0.1:{address[1]}"
    try:
        yield provider
    finally:
        provider.ending.set()
        await runner.cleanup()
