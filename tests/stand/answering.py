"""An HTTP server in this process, whose every answer comes from one function."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

CLOSING_TURNS: Final = 5
"""Turns of the event loop after which the transports are closed."""


@asynccontextmanager
async def answering(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve all paths and methods on 127.0.0.1 until the block ends; yield the base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
    for _ in range(CLOSING_TURNS):
        await asyncio.sleep(0)
