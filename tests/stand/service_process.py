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
from typing import Any, Final, Self

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from tests.fake_youtube import Spawned
from tests.stand.logs import last_lines, showing_logs
from tests.stand.processes import descendants
from tests.stand.waiting import until

ROOT: Final = Path(__file__).resolve().parents[2]
CLIENT_SECONDS: Final = 120.0
"""Timeout of one request. Requests that a test makes all at once wait for each other, so it is generous."""
JOB_SECONDS: Final = 300.0
"""How long a test waits for a job: it may be behind a hundred others, on two cores that are busy with other work."""
STOP_SECONDS: Final = 120.0
"""How long a test waits for a process to end after a signal; more than the drain and shutdown times of every test."""
END_STATES: Final = frozenset({"completed", "failed", "cancelled"})


def egress(youtube: Spawned) -> dict[str, str]:
    """Return the settings that make a service ask the fake YouTube, which has no limit of videos an hour."""
    return {
        "EGRESS_PROXY": youtube.proxy_url,
        "EGRESS_CA_FILE": str(youtube.ca_file),
        "EGRESS_VIDEOS_PER_HOUR": "0",
    }


def _client() -> ClientSession:
    return ClientSession(
        timeout=ClientTimeout(CLIENT_SECONDS), cookie_jar=DummyCookieJar(), connector=TCPConnector(limit=0)
    )


@dataclass(slots=True)
class ServiceProcess:
    """A service in a process of its own; it can be ended and started again with the same settings and data."""

    settings: Mapping[str, str]
    log_path: Path
    prefix: tuple[str, ...] = ()
    """The beginning of the command: a program that runs the rest of it."""
    process: asyncio.subprocess.Process | None = None
    url: str = ""
    client: ClientSession = field(default_factory=_client)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> Self:
        """Start (again), and return when it is ready."""
        await self.start_listening()
        await self.until_health(200)
        return self

    async def start_listening(self) -> None:
        """Start (again), and return when it listens: it may not be ready yet."""
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix,
                sys.executable,
                "-m",
                "ytmp3",
                "serve",
                env=environment | {"PORT": "0", "EGRESS_VIDEOS_PER_HOUR": "0"} | dict(self.settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        # The line with the address, or the end of the output if the process refuses to start.
        line = (await self.process.stdout.readline()).decode()
        match = re.search(r"http://[^\s\"]+", line)
        assert match, f"no address in {line!r}: {last_lines(self.log_path)}"
        self.url = match[0]

    async def until_health(self, status: int) -> None:
        """Return once `GET /health` is answered with `status`."""

        async def is_so() -> bool:
            return (await self.get("/health"))[0] == status

        await until(is_so, f"GET /health is answered with {status}")

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(self.url + path) as response:
            return response.status, await response.json()

    async def descriptors(self) -> int:
        """Return how many descriptors the server holds, that of the connection of this request included.

        The figure is from its metrics: the kernel shows those of a process that is not dumpable to root only (proc(5)).
        """
        async with self.client.get(f"{self.url}/metrics") as response:
            (line,) = re.findall(r"^process_open_fds (.+)$", await response.text(), re.MULTILINE)
        return int(float(line))

    async def only_child(self) -> int:
        """Return the process id of the zygote, once no other process is below the server."""
        found: set[int] = set()

        def is_alone() -> bool:
            found.clear()
            found.update(descendants(self.pid))
            return len(found) == 1

        await until(is_alone, "only the zygote runs")
        return found.pop()

    async def holds_at_most(self, descriptors: int) -> None:
        """Return once the server holds no more descriptors, without the other connections of this test."""
        await self.close_connections()

        async def is_so() -> bool:
            return await self.descriptors() <= descriptors

        await until(is_so, f"the server holds {descriptors} descriptors at most")

    async def close_connections(self) -> None:
        """Close all connections of this test's client, which keeps as many as it had requests at once."""
        await self.client.close()
        self.client = _client()

    async def post(self, link: str, **fields: str) -> tuple[int, dict[str, Any]]:
        async with self.client.post(f"{self.url}/extract", json={"url": link} | fields) as response:
            return response.status, await response.json()

    async def submit(self, link: str) -> dict[str, Any]:
        """POST a link that is accepted, and return the job.

        A request waits for Redis for at most 250 ms, which a busy machine may exceed. Retry then, as clients do.
        """
        status, job = 503, dict[str, Any]()

        async def is_answered() -> bool:
            nonlocal status, job
            status, job = await self.post(link)
            return job.get("code") != "store_unavailable"

        await until(is_answered, "the job store answers in time", poll_seconds=1.0)
        assert status in {200, 202}, job
        return job

    async def job(self, job_id: str) -> dict[str, Any]:
        status, job = await self.get(f"/status/{job_id}")
        assert status == 200, job
        return dict(job)

    async def until(self, job_id: str, *stages: str, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """Follow a job until its status or stage is one of `stages`; without any, until its end.

        Raises:
            AssertionError: it ended in another way, or did not get there in time; the text shows the job as it was.
        """
        wanted = set(stages) or END_STATES
        job: dict[str, Any] = {}

        async def is_there() -> bool:
            nonlocal job
            status, answer = await self.get(f"/status/{job_id}")
            if status == 503:
                # Redis did not answer in time, on a machine that is busy with everything else. Retry as clients do.
                await asyncio.sleep(1)
                return False
            assert status == 200, answer
            job = dict(answer)
            is_wanted = job["status"] in wanted or job["stage"] in wanted
            assert is_wanted or job["status"] not in END_STATES, job
            return is_wanted

        try:
            await until(is_there, f"job {job_id} is {' or '.join(sorted(wanted))}", seconds=seconds, poll_seconds=0.03)
        except AssertionError as error:
            error.add_note(f"the job at last: {job}")
            raise
        return job

    async def download(self, job: Mapping[str, Any]) -> bytes:
        async with self.client.get(self.url + job["download_url"]) as response:
            assert response.status == 200
            return await response.read()

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self, *, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end of the process; returns its exit code."""
        assert self.process is not None
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = STOP_SECONDS) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.wait(seconds=seconds)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of one name, if the log is in JSON."""
        lines = (line for line in self.log().splitlines(keepends=True) if line.startswith("{") and line.endswith("}\n"))
        return [event for event in map(json.loads, lines) if event["event"] == name]

    async def until_event(self, name: str, count: int = 1) -> None:
        """Return once the log has `count` events of this name."""
        await until(lambda: len(self.events(name)) >= count, f"the log has {count} events {name!r}")


@asynccontextmanager
async def service_process(
    folder: Path, prefix: tuple[str, ...] = (), /, **settings: str
) -> AsyncIterator[ServiceProcess]:
    """Serve from `folder`, and end the process whatever the test did.

    Unless `settings` say otherwise, rate limits and the timeouts of a conversion are out of reach, also on a busy
    machine. An exception that leaves the block gets the end of the service's log as a note.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plenty = {
        "REQUESTS_PER_SECOND": "100000",
        "BURST_SIZE": "100000",
        "EXTRACT_SECONDS": "600",
        "IDLE_SECONDS": "600",
        "LOG_FORMAT": "json",
    }
    service = ServiceProcess({"DATA_DIR": str(folder / "data")} | plenty | settings, folder / "service.log", prefix)
    with showing_logs(service.log_path):
        try:
            yield await service.start()
        finally:
            await service.client.close()
            if service.process is not None and service.process.returncode is None:
                await service.stop(signal.SIGKILL)
