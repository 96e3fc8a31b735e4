"""The real app behind a real nginx with the production files. Only the converter is a fake: it makes tracks at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.http.running_service import RunningService, running_service
from tests.stand.nginx import Nginx, running_nginx
from tests.stand.raw_http import exchange
from tests.stand.waiting import PATIENCE_SECONDS

ACCEL_PREFIX = "/protected-tracks/"


@dataclass(frozen=True, slots=True)
class BehindNginx:
    """nginx and the one service behind it."""

    nginx: Nginx
    service: RunningService

    @property
    def url(self) -> str:
        return self.nginx.url

    @property
    def tracks(self) -> Path:
        return self.service.data_dir / "tracks"

    async def raw(self, request: bytes, *, seconds: float = PATIENCE_SECONDS) -> bytes:
        return await exchange("127.0.0.1", self.nginx.port, request, seconds=seconds, is_all=True)

    def complaints(self) -> list[str]:
        """Return the lines in which nginx logged an invalid or missing response of the service."""
        return [line for line in self.nginx.error_log().splitlines() if " upstream " in line]


@asynccontextmanager
async def behind_nginx(folder: Path) -> AsyncIterator[BehindNginx]:
    settings = {"ACCEL_REDIRECT_PREFIX": ACCEL_PREFIX, "TRUSTED_PROXIES": "127.0.0.1"}
    async with running_service(folder / "data", **settings) as service:
        tracks = service.data_dir / "tracks"
        upstreams = [f"{service.host}:{service.port}"]
        async with running_nginx(folder / "nginx", upstreams, tracks, is_limited=False) as nginx:
            yield BehindNginx(nginx, service)
