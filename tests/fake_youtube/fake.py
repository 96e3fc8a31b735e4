"""The fake YouTube on a running event loop: proxy, web server and control port, started and stopped together."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from .certificate import issue
from .counting import Counts, Tallies
from .kinds import BEHAVIOURS, Kind
from .media import Library, default_cache
from .proxy import Proxy
from .server import Pace, Server, control

_BACKLOG: Final = 1024
_DESCRIPTORS: Final = 8192


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class FakeYouTube:
    """What a test holds. Made by `start`."""

    def __init__(self, *, proxy_url: str, ca_file: Path, control_url: str, tallies: Tallies, library: Library) -> None:
        self.proxy_url = proxy_url
        self.ca_file = ca_file
        self.control_url = control_url
        self._tallies = tallies
        self._library = library

    @property
    def refused(self) -> tuple[str, ...]:
        """What the proxy refused: request line without version, oldest first."""
        return tuple(self._tallies.refused)

    @property
    def trapped(self) -> int:
        """How many requests followed a redirect to loopback."""
        return self._tallies.trapped

    def counts(self, identifier: str) -> Counts:
        return self._tallies.counts(identifier)

    def reset(self) -> None:
        self._tallies.reset()

    async def prepare(self, kinds: Iterable[Kind | str]) -> None:
        """Make the media of these kinds now, so that no first request waits for an encoder."""
        for kind in kinds:
            await self._library.media(BEHAVIOURS[Kind(kind)].media)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, folder: Path, *, cache: Path | None = None, pace: Pace | None = None
    ) -> AsyncIterator["FakeYouTube"]:
        """Serve until the block ends. The folder gets the certificates; the cache (by default in the system's
        temporary folder, shared by all runs) the media.
        """
        _raise_descriptor_limit()
        ca_file, tls = issue(folder)
        tallies, library = Tallies(), Library(cache or default_cache())
        server = Server(library=library, tallies=tallies, pace=pace or Pace())
        # No access log, no lingering: a connection that a client abandons is gone at once.
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        control_runner = web.AppRunner(control(tallies), access_log=None, shutdown_timeout=0.1)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            stack.push_async_callback(control_runner.cleanup)
            await control_runner.setup()
            site = web.TCPSite(control_runner, "127.0.0.1", 0)
            await site.start()
            control_url = f"http://127.0.0.1:{control_runner.addresses[0][1]}"
            server.trap_url = f"{control_url}/trap"
            assert runner.server is not None
            proxy = Proxy(tls=tls, web_server=runner.server, tallies=tallies)
            stack.push_async_callback(proxy.close)
            listener = await asyncio.get_running_loop().create_server(proxy.accept, "127.0.0.1", 0, backlog=_BACKLOG)
            stack.callback(listener.close)
            port = listener.sockets[0].getsockname()[1]
            await library.picture("640x480", "jpg")
            yield cls(
                proxy_url=f"http://127.0.0.1:{port}",
                ca_file=ca_file,
                control_url=control_url,
                tallies=tallies,
                library=library,
            )
