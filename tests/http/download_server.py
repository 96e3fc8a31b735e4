"""Starts a server that has only the middleware and a `Sender`: for limits that are constants in the real service."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from tests.core.values import VIDEO_ID
from tests.fakes import content_of
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Metadata, Track
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.connection_limit import MAX_DESCRIPTORS, ConnectionLimit
from ytmp3.http.connections import Runner
from ytmp3.http.download import MAX_TRANSFERS, STALL_SECONDS, Sender
from ytmp3.http.middleware import RequestMiddleware
from ytmp3.metrics import Metrics
from ytmp3.storage.local import LocalShelf

CLIENT: Final = ClientId("addr:127.0.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadServer:
    """A server whose every address `/NUMBER` is the same track."""

    sender: Sender
    content: bytes
    asked: list[int]
    """The numbers in the addresses of all requests so far."""
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@asynccontextmanager
async def download_server(
    folder: Path,
    *,
    size_bytes: int,
    max_transfers: int = MAX_TRANSFERS,
    stall_seconds: float = STALL_SECONDS,
    title_of: Callable[[int], str] = str,
) -> AsyncIterator[DownloadServer]:
    """Serve a track of `size_bytes`. `title_of`: the video's title at `/NUMBER`."""
    content = content_of("dQw4w9WgXcQ", size_bytes)
    (folder / "track.mp3").write_bytes(content)
    track = Track(
        file_name="track.mp3",
        size_bytes=len(content),
        duration_seconds=1.0,
        sha256=hashlib.sha256(content).hexdigest(),
        published_at=1.0e9,
    )
    asked: list[int] = []
    sender = Sender(
        shelf=LocalShelf(folder),
        client_max_downloads=0,
        count_bytes=lambda _: None,
        max_transfers=max_transfers,
        stall_seconds=stall_seconds,
    )

    async def download(request: web.Request) -> web.StreamResponse:
        asked.append(int(request.match_info["number"]))
        title = title_of(asked[-1])
        metadata = Metadata(title=title, uploader=None, duration_seconds=1.0, thumbnail_url=None)
        client = ClientId(f"addr:{request.remote}")
        return await sender.send(request, track, metadata, VIDEO_ID, DEFAULT_RECIPE, client)

    middleware = RequestMiddleware(Metrics(), cors_origins=frozenset(), is_draining=lambda: False)
    app = web.Application(middlewares=[middleware.handle])
    app.on_response_prepare.append(middleware.add_headers)
    app.router.add_get("/{number}", download)
    runner = Runner(app, shutdown_seconds=1.0, limit=ConnectionLimit(MAX_DESCRIPTORS))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield DownloadServer(sender=sender, content=content, asked=asked, host=host, port=port)
    finally:
        await runner.cleanup()
