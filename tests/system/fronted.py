"""The real app, its converter a stand-in, behind a real nginx with the production files: quick tracks, real answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.cluster import Nginx, write_configuration
from tests.http.stand import Stand, stand
from tests.raw import exchange
from tests.valkey import free_port

ACCEL_PREFIX = "/protected-tracks/"


@dataclass(frozen=True, slots=True)
class Fronted:
    """nginx and the one service behind it."""

    nginx: Nginx
    service: Stand

    @property
    def url(self) -> str:
        return self.nginx.url

    @property
    def tracks(self) -> Path:
        return self.service.data_dir / "tracks"

    async def raw(self, request: bytes, *, seconds: float = 5.0) -> bytes:
        return await exchange("127.0.0.1", self.nginx.port, request, seconds=seconds)

    def complaints(self) -> list[str]:
        """What nginx found wrong with the service."""
        lines = (self.nginx.folder / "error.log").read_text(errors="replace").splitlines()
        return [line for line in lines if " upstream " in line]


@asynccontextmanager
async def in_front(folder: Path, upstreams: list[str], tracks: Path) -> AsyncIterator[Nginx]:
    """Run nginx, without limits, before what listens already."""
    nginx = Nginx(folder, free_port())
    write_configuration(folder, port=nginx.port, upstreams=upstreams, tracks=tracks, is_limited=False)
    await nginx.start()
    try:
        yield nginx
    finally:
        await nginx.stop()


@asynccontextmanager
async def fronted(folder: Path) -> AsyncIterator[Fronted]:
    settings = {"ACCEL_REDIRECT_PREFIX": ACCEL_PREFIX, "TRUSTED_PROXIES": "127.0.0.1"}
    async with stand(folder / "data", **settings) as service:
        tracks = service.data_dir / "tracks"
        async with in_front(folder / "nginx", [f"{service.host}:{service.port}"], tracks) as nginx:
            yield Fronted(nginx, service)
