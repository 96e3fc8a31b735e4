"""The fake YouTube on a running event loop: proxy, web server and control port, started and stopped together."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final, Literal

from aiohttp import web

from . import heavy
from .asked import tracks_of
from .certificate import issue
from .control import control
from .counting import Counts, Tallies
from .kinds import Kind, video_id
from .media import Library, default_cache
from .media_server import MediaServer
from .pace import Pace
from .player import Player, script_of
from .proxy import Proxy
from .server import Server
from .switches import Switchboard, Switches
from .table import BEHAVIOURS

Weight = Literal["light", "real"]
_BACKLOG: Final = 1024
_DESCRIPTORS: Final = 8192
_BODY_BYTES: Final = 1 << 20


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class FakeYouTube:
    """What a test holds. Made by `start`."""

    def __init__(
        self, *, proxy_url: str, ca_file: Path, control_url: str, tallies: Tallies, library: Library, parts: "_Parts"
    ) -> None:
        self.proxy_url = proxy_url
        self.ca_file = ca_file
        self.control_url = control_url
        self._tallies = tallies
        self._library = library
        self._parts = parts

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
        """Forget the counts, and put the switches back."""
        self._parts.reset()

    def switch(self, **changes: Any) -> None:
        """Change switches (`switches.Switches`) from now on. Raises ValueError for an unknown name or value."""
        self._parts.switchboard.change(changes)

    def expire_links(self) -> None:
        """Answer 403 to every media link that was made until now."""
        self._parts.switchboard.expire_links()

    async def prepare(self, kinds: Iterable[Kind | str]) -> None:
        """Make the media of these kinds now, so that no first request waits for an encoder."""
        for kind in kinds:
            tracks = tracks_of(video_id(kind), is_heavy=self._parts.is_heavy)
            for media in {BEHAVIOURS[Kind(kind)].media, *(track.media for track in tracks)}:
                await self._library.media(media)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        folder: Path,
        *,
        cache: Path | None = None,
        pace: Pace | None = None,
        weight: Weight = "light",
    ) -> AsyncIterator["FakeYouTube"]:
        """Serve until the block ends. The folder gets the certificates; the cache (by default in the system's
        temporary folder, shared by all runs) the media. With the weight `real`, answers are as heavy as YouTube's
        and differ by client.
        """
        _raise_descriptor_limit()
        ca_file, tls = issue(folder)
        tallies, library = Tallies(), Library(cache or default_cache())
        parts = _Parts(library=library, tallies=tallies, pace=pace or Pace(), weight=weight)
        # No access log, no lingering: a connection that a client abandons is gone at once.
        runner = web.AppRunner(parts.application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        controls = control(tallies, parts.switchboard, parts.reset)
        control_runner = web.AppRunner(controls, access_log=None, shutdown_timeout=0.1)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            stack.push_async_callback(control_runner.cleanup)
            await control_runner.setup()
            site = web.TCPSite(control_runner, "127.0.0.1", 0)
            await site.start()
            control_url = f"http://127.0.0.1:{control_runner.addresses[0][1]}"
            parts.media_server.trap_url = f"{control_url}/trap"
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
                parts=parts,
            )


class _Parts:
    """The two servers and what they share."""

    def __init__(self, *, library: Library, tallies: Tallies, pace: Pace, weight: Weight) -> None:
        self.is_heavy = weight == "real"
        self.switchboard = Switchboard(Switches(clients="real" if self.is_heavy else "alike"))
        if self.is_heavy:
            # Otherwise the first request would wait for half a second, and every other one behind it.
            heavy.build()
            script_of(Player.named(self.switchboard.current.players[0]), is_heavy=True)
        self._tallies = tallies
        self._server = Server(
            library=library, tallies=tallies, pace=pace, switchboard=self.switchboard, is_heavy=self.is_heavy
        )
        self.media_server = MediaServer(
            library=library, tallies=tallies, pace=pace, switchboard=self.switchboard, is_heavy=self.is_heavy
        )

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        self._server.add_routes(app)
        self.media_server.add_routes(app)
        return app

    def reset(self) -> None:
        self._tallies.reset()
        self._server.reset()
        self.switchboard.reset()
