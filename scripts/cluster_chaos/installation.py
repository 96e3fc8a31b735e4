"""A whole installation on loopback, from wheels: a Redis Cluster, an object store, several instances, and nginx.

Every process is started here and ended by its pid. The instances have no folder in common.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.fake_youtube import Spawned
from tests.stand.logs import showing_logs
from tests.stand.loopback_network import LoopbackNetwork
from tests.stand.nginx import UNLIMITED, running_nginx
from tests.stand.ports import free_port
from tests.stand.redis_cluster import RedisCluster
from tests.stand.s3_server import S3Server
from tests.stand.service_process import ServiceProcess, egress
from tests.stand.valkey import Valkey

INSTANCES: Final = 3
NODE_TIMEOUT_SECONDS: Final = 3.0
"""The cluster's node timeout. Shorter than documented, for short rounds; longer than the pauses of a busy machine."""
LEASE_SECONDS: Final = 12.0
"""Longer than a failover takes, so that no lease ends because its node was down."""
REDIS_SETTINGS: Final = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
"""As docs/operating.md recommends."""


@dataclass(slots=True, kw_only=True)
class Installation:
    """A running installation."""

    nodes: RedisCluster
    single: Valkey | None
    """The only server, if the installation has no cluster; `nodes` is then never started."""
    network: LoopbackNetwork
    s3: S3Server
    prefix: str
    """Of the objects in the bucket."""
    youtube: Spawned
    folder: Path
    url: str = ""
    """Of nginx."""
    instances: list[ServiceProcess] = field(default_factory=list)

    @property
    def redis_address(self) -> str:
        return self.nodes.address if self.single is None else self.single.address

    @property
    def urls(self) -> list[str]:
        """The base URLs at which clients reach the service: each instance, and nginx."""
        return [*(service.url for service in self.instances), self.url]

    def data_dir(self, instance: int) -> Path:
        return self.folder / f"data-{instance}"


def _settings(its: Installation) -> dict[str, str]:
    return (
        egress(its.youtube)
        | its.s3.environment(its.prefix)
        | {
            "REDIS_ADDR": its.redis_address,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "LOG_FORMAT": "json",
            "TRUSTED_PROXIES": "127.0.0.1",
            "REQUESTS_PER_SECOND": str(UNLIMITED),
            "BURST_SIZE": str(UNLIMITED),
            # No busy machine reaches these.
            "EXTRACT_SECONDS": "600",
            "IDLE_SECONDS": "600",
        }
    )


@asynccontextmanager
async def installation(
    folder: Path,
    youtube: Spawned,
    s3: S3Server,
    *,
    is_proxied: bool = False,
    is_single: bool = False,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Installation]:
    """Start an installation with an own prefix in the bucket.

    `is_proxied`: everything between the nodes and their clients passes a `LoopbackNetwork`, which can be partitioned.
    `is_single`: one Valkey takes the place of the cluster. `settings`: further ones of the instances.
    """
    async with AsyncExitStack() as stack:
        network = stack.enter_context(LoopbackNetwork().running())
        nodes = RedisCluster(
            folder / "cluster",
            settings=REDIS_SETTINGS | {"cluster-node-timeout": str(round(NODE_TIMEOUT_SECONDS * 1000))},
            network=network if is_proxied else None,
        )
        its = Installation(
            nodes=nodes, single=None, network=network, s3=s3, prefix=uuid4().hex, youtube=youtube, folder=folder
        )
        if is_single:
            (folder / "valkey").mkdir()
            its.single = Valkey(folder / "valkey", settings=REDIS_SETTINGS)
            stack.callback(its.single.stop)
            await asyncio.to_thread(its.single.start)
        else:
            stack.callback(nodes.stop)
            await asyncio.to_thread(nodes.start)
        for number in range(INSTANCES):
            own = {"DATA_DIR": str(its.data_dir(number)), "PORT": str(free_port())}
            service = ServiceProcess(_settings(its) | own | dict(settings or {}), folder / f"instance-{number}.log")
            its.instances.append(service)
            stack.push_async_callback(_end, service)
        stack.enter_context(showing_logs(*(service.log_path for service in its.instances)))
        await asyncio.gather(*(service.start() for service in its.instances))
        upstreams = [service.url.removeprefix("http://") for service in its.instances]
        nginx = await stack.enter_async_context(
            running_nginx(folder / "nginx", upstreams, folder / "no-tracks", is_limited=False, is_patient=True)
        )
        its.url = nginx.url
        yield its


async def _end(service: ServiceProcess) -> None:
    await service.client.close()
    if service.process is not None and service.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            await service.stop(signal.SIGKILL)
