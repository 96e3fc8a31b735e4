"""Far more than it serves is offered to a real process: it serves its rate, refuses the rest, and gets over it (L02);
and where it may take a crowd, it takes it whole.
"""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

from tests.fake_youtube import Spawned
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.valkey import Valkey

RATE, BURST = 100, 200
OFFERED_PER_SECOND = 1000
CONNECTIONS = 20
SECONDS = 4.0
REQUEST = b"GET /status/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"0" * 34)
CPU_SECONDS_PER_REQUEST = 0.001
"""What a core needs to keep up with what is offered. The time on the clock is a matter for a bench (make bench)."""


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """Requests at fixed times, whatever comes back."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.heads_without_fields = 0

    async def run(self, service: ServiceProcess) -> None:
        host, port = service.url.removeprefix("http://").split(":")
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._connection(host, int(port), number / OFFERED_PER_SECOND))

    async def _connection(self, host: str, port: int, offset: float) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        count = int(SECONDS * OFFERED_PER_SECOND / CONNECTIONS)

        async def send() -> None:
            begun_at = time.perf_counter() + offset
            for number in range(count):
                await asyncio.sleep(begun_at + number * CONNECTIONS / OFFERED_PER_SECOND - time.perf_counter())
                writer.write(REQUEST)

        sending = asyncio.create_task(send())
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head[9:12])
            self.statuses[status] += 1
            if status == 429:
                self.heads_without_fields += not (b"Retry-After: " in head and b"RateLimit: " in head)
        await sending
        writer.close()


async def test_a_thousand_requests_a_second_get_the_rate_and_quick_refusals(youtube: Spawned, tmp_path: Path) -> None:
    settings = {"REQUESTS_PER_SECOND": str(RATE), "BURST_SIZE": str(BURST)}
    async with service_process(tmp_path, **egress(youtube), **settings) as service:
        before, used_before = resident_bytes(service.pid), cpu_seconds(service.pid)
        load = Load()
        begun_at = time.monotonic()
        async with asyncio.timeout(40):
            await load.run(service)
        seconds = time.monotonic() - begun_at
        assert set(load.statuses) == {404, 429}
        assert load.heads_without_fields == 0
        assert 0.95 * RATE * SECONDS <= load.statuses[404] <= BURST + RATE * seconds + 1
        used = cpu_seconds(service.pid) - used_before
        assert used / sum(load.statuses.values()) < CPU_SECONDS_PER_REQUEST
        assert resident_bytes(service.pid) <= before * 1.1 + 2**20
        # When it is over, it is over.
        async with asyncio.timeout(5):
            while (await service.get("/stats"))[0] != 200:
                await asyncio.sleep(0.05)


async def test_a_thousand_posts_at_once_are_all_taken_on_redis(tmp_path: Path) -> None:
    server = Valkey(tmp_path, settings={"appendonly": "yes"})
    server.start()
    try:
        settings = {"REDIS_ADDR": server.address, "WORKER_POOL_SIZE": "1", "EGRESS_PROXY": "http://127.0.0.1:1"}
        async with service_process(tmp_path / "service", **settings) as service:
            answers = await asyncio.gather(*(service.post(f"https://youtu.be/{number:011d}") for number in range(1000)))
            assert Counter((status, body.get("code")) for status, body in answers) == {(202, None): 1000}
    finally:
        server.stop()
