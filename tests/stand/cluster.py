"""A whole installation on loopback, from wheels: Valkey, several instances, and nginx with the files of `nginx/`.

Every process is started here and ended by its pid, in reverse order.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.stand.logs import showing_logs
from tests.stand.nginx import UNLIMITED, Nginx, running_nginx
from tests.stand.ports import free_port
from tests.stand.service_process import ServiceProcess
from tests.stand.valkey import Valkey

VALKEY_SETTINGS: Final = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
"""With `everysec`, Redis holds back writes for up to two seconds while an fsync takes long, as on a busy disk. A kill
in that time loses them although they were acknowledged."""


@dataclass(slots=True, kw_only=True)
class Cluster:
    """A running installation."""

    valkey: Valkey
    nginx: Nginx
    instances: list[ServiceProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.nginx.url


@asynccontextmanager
async def cluster(
    folder: Path, settings: Mapping[str, str], *, instances: int = 3, is_limited: bool = False
) -> AsyncIterator[Cluster]:
    """Start Valkey, `instances` of the service with `settings` as their environment, and nginx.

    With `is_limited` the rate limits of the service and of nginx are those of production; else none is ever reached.
    """
    async with AsyncExitStack() as stack:
        (folder / "valkey").mkdir(parents=True)
        valkey = Valkey(folder / "valkey", settings=VALKEY_SETTINGS)
        await asyncio.to_thread(valkey.start)
        stack.callback(valkey.stop)
        shared = {
            "REDIS_ADDR": valkey.address,
            "DATA_DIR": str(folder / "data"),
            "TRUSTED_PROXIES": "127.0.0.1",
            "ACCEL_REDIRECT_PREFIX": "/protected-tracks/",
            "LOG_FORMAT": "json",
        }
        if not is_limited:
            shared |= {"REQUESTS_PER_SECOND": str(UNLIMITED), "BURST_SIZE": str(UNLIMITED)}
        ports = [free_port() for _ in range(instances)]
        services = [
            ServiceProcess(shared | dict(settings) | {"PORT": str(port)}, folder / f"instance-{number}.log")
            for number, port in enumerate(ports)
        ]
        stack.enter_context(showing_logs(*(service.log_path for service in services)))
        for service in services:
            stack.push_async_callback(_end, service)
        await asyncio.gather(*(service.start() for service in services))
        upstreams = [f"127.0.0.1:{port}" for port in ports]
        nginx = await stack.enter_async_context(
            running_nginx(
                folder / "nginx",
                upstreams,
                folder / "data" / "tracks",
                is_limited=is_limited,
                is_patient=not is_limited,
            )
        )
        yield Cluster(valkey=valkey, nginx=nginx, instances=services)


async def _end(service: ServiceProcess) -> None:
    await service.client.close()
    if service.process is not None and service.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            service.process.send_signal(signal.SIGCONT)
        await service.stop(signal.SIGKILL)
