"""`python -m ytmp3 serve` as a user runs it: a process of its own, started, asked over HTTP, and ended by its pid."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from tests.fake_youtube import Spawned

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
END_STATES = frozenset({"completed", "failed", "cancelled"})


def egress(youtube: Spawned) -> dict[str, str]:
    """The settings that send a service to the fake YouTube."""
    return {"EGRESS_PROXY": youtube.proxy_url, "EGRESS_CA_FILE": str(youtube.ca_file)}


@dataclass(slots=True)
class Served:
    """A running service."""

    settings: Mapping[str, str]
    log_path: Path
    process: asyncio.subprocess.Process | None = None
    url: str = ""
    client: ClientSession = field(
        default_factory=lambda: ClientSession(
            timeout=ClientTimeout(30), cookie_jar=DummyCookieJar(), connector=TCPConnector(limit=0)
        )
    )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> Self:
        """Start (again) and return when it is ready."""
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "ytmp3",
                "serve",
                env=environment | {"PORT": "0"} | dict(self.settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await self.process.stdout.readline()).decode()
            match = re.search(r"http://\S+", line)
            assert match, f"no address in {line!r}: {self.log()[-2000:]}"
            self.url = match[0]
            while (await self.get("/health"))[0] != 200:
                await asyncio.sleep(0.05)
        return self

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(self.url + path) as response:
            return response.status, await response.json()

    async def post(self, link: str, **fields: str) -> tuple[int, dict[str, Any]]:
        async with self.client.post(f"{self.url}/extract", json={"url": link} | fields) as response:
            return response.status, await response.json()

    async def job(self, job_id: str) -> dict[str, Any]:
        status, job = await self.get(f"/status/{job_id}")
        assert status == 200, job
        return dict(job)

    async def until(self, job_id: str, *stages: str, seconds: float = 60.0) -> dict[str, Any]:
        """Follow a job until its status or stage is one of `stages`; without any, until its end."""
        wanted = set(stages) or END_STATES
        async with asyncio.timeout(seconds):
            while True:
                status, job = await self.get(f"/status/{job_id}")
                if status == 503:
                    # As a client would: Redis did not answer in time, on a machine that is busy with everything else.
                    await asyncio.sleep(1)
                    continue
                assert status == 200, job
                if job["status"] in wanted or job["stage"] in wanted:
                    return dict(job)
                assert job["status"] not in END_STATES, job
                await asyncio.sleep(0.03)

    async def download(self, job: Mapping[str, Any]) -> bytes:
        async with self.client.get(self.url + job["download_url"]) as response:
            assert response.status == 200
            return await response.read()

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 40.0) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's events of one name."""
        lines = (line for line in self.log().splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["event"] == name]


@asynccontextmanager
async def served(folder: Path, **settings: str) -> AsyncIterator[Served]:
    """Serve from `folder`, and end it whatever the test did."""
    folder.mkdir(parents=True, exist_ok=True)
    plenty = {"REQUESTS_PER_SECOND": "100000", "BURST_SIZE": "100000", "LOG_FORMAT": "json"}
    service = Served({"DATA_DIR": str(folder / "data")} | plenty | settings, folder / "service.log")
    try:
        yield await service.start()
    finally:
        await service.client.close()
        if service.process is not None and service.process.returncode is None:
            await service.stop(signal.SIGKILL)


def descendants(pid: int) -> set[int]:
    """The live (not zombie) processes below `pid`."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(folder.name)] = int(fields[1])
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def descriptors(pid: int) -> int:
    """How many files a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
