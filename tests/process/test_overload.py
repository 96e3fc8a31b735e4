"""Far more requests than the rate limit admits are sent to a real process: it serves its rate and refuses the rest."""

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.fake_youtube import Spawned
from tests.stand.failures import ask
from tests.stand.processes import cpu_seconds, resident_bytes
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.valkey import Valkey
from tests.stand.waiting import until

RATE, BURST = 20, 200
OFFERED_PER_SECOND = 1000
CONNECTIONS = 20
ROUND_SECONDS = 4.0
REQUEST = b"GET /status/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"0" * 34)
CPU_SECONDS_PER_REQUEST = 0.005
"""Ten times what a refusal costs on an idle machine. This finds a refusal that does much work; how fast requests are
answered is measured by `make bench`.
"""
MEMORY_BYTES = 32 * 2**20
"""More than all requests of a round take that wait in the service's buffers, on a machine too busy to answer them."""


class Load:
    """Sends requests at fixed times, whatever is answered."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.refusals_without_fields = 0

    async def run(self, service: ServiceProcess) -> None:
        """Send requests for ROUND_SECONDS; return when all are answered."""
        host, port = service.url.removeprefix("http://").split(":")
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._connection(host, int(port), number / OFFERED_PER_SECOND))

    async def _connection(self, host: str, port: int, offset: float) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        count = int(ROUND_SECONDS * OFFERED_PER_SECOND / CONNECTIONS)

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
                self.refusals_without_fields += not (b"Retry-After: " in head and b"RateLimit: " in head)
        await sending
        writer.close()


async def test_a_thousand_requests_a_second_get_the_rate_and_cheap_refusals(youtube: Spawned, tmp_path: Path) -> None:
    settings = {"REQUESTS_PER_SECOND": str(RATE), "BURST_SIZE": str(BURST)}
    async with service_process(tmp_path, **egress(youtube), **settings) as service:
        before, used_before = resident_bytes(service.pid), cpu_seconds(service.pid)
        load = Load()
        begun_at = time.monotonic()
        # One round admits that many, unless the machine is so busy that the token bucket is full at times.
        while load.statuses[404] < BURST + 2 * RATE:
            await load.run(service)
        seconds = time.monotonic() - begun_at
        assert set(load.statuses) == {404, 429}
        assert load.refusals_without_fields == 0
        assert load.statuses[404] <= BURST + RATE * seconds + 1
        used = cpu_seconds(service.pid) - used_before
        assert used / sum(load.statuses.values()) < CPU_SECONDS_PER_REQUEST
        assert resident_bytes(service.pid) <= before + MEMORY_BYTES

        async def is_admitted() -> bool:
            return (await service.get("/stats"))[0] == 200

        await until(is_admitted, "a request is admitted after the overload")


async def test_a_thousand_posts_at_once_are_all_accepted_on_redis(tmp_path: Path) -> None:
    server = Valkey(tmp_path, settings={"appendonly": "yes"})
    server.start()
    try:
        settings = {"REDIS_ADDR": server.address, "WORKER_POOL_SIZE": "1", "EGRESS_PROXY": "http://127.0.0.1:1"}
        async with service_process(tmp_path / "service", **settings) as service:
            url = f"{service.url}/extract"
            bodies = [{"url": f"https://youtu.be/{number:011d}"} for number in range(1000)]
            answers = await asyncio.gather(*(ask(service.client, "POST", url, json=body) for body in bodies))
            assert Counter((status, body.get("code")) for status, body in answers) == {(202, None): 1000}
    finally:
        server.stop()
