"""The rate and connection limits of the production files, in a real nginx, and what they do to slow clients."""

import asyncio
import re
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.stand.nginx import Nginx, write_configuration
from tests.stand.ports import free_port
from tests.stand.raw_http import exchange
from tests.stand.slow_clients import allow_descriptors, slow_clients
from tests.stand.waiting import until
from tests.system.scripted_instances import LINK, RAW_SECONDS, nginx_site

POST_RATE, POST_BURST = 20, 40
READ_RATE, READ_BURST = 50, 100
"""Requests per second and burst of one address in nginx/limits.conf and nginx/site.conf: POST /extract; all others."""


async def test_requests_beyond_the_rate_get_a_problem_document_with_429(tmp_path: Path) -> None:
    async with nginx_site(tmp_path, is_limited=True) as site:
        statuses: Counter[int] = Counter()

        async def post() -> None:
            async with site.client.post(f"{site.nginx.url}/extract", json=LINK) as response:
                statuses[response.status] += 1
                if response.status == 429:
                    assert response.content_type == "application/problem+json"
                    assert (await response.json())["code"] == "rate_limited"
                    assert int(response.headers["Retry-After"]) >= 1

        begun_at = time.monotonic()
        while not statuses[429]:
            await asyncio.gather(*(post() for _ in range(100)))
        seconds = time.monotonic() - begun_at
        assert set(statuses) == {200, 429}
        assert POST_BURST < statuses[200] <= POST_BURST + 2 + POST_RATE * seconds
        assert await site.status("/status/x") == 200


async def test_one_address_has_eight_downloads_at_once_beside_its_other_requests(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    download = b"GET /download/x.mp3 HTTP/1.1\r\nHost: x\r\n\r\n"
    async with nginx_site(tmp_path, is_limited=True) as site, AsyncExitStack() as stack:
        (site.tracks / "a.mp3").write_bytes(bytes(16_000_000))
        site.behave("held")
        for instance in site.instances:
            stack.callback(instance.released.set)
        for _ in range(20):
            stack.enter_context(site.slow_reader(b"GET /status/x HTTP/1.1\r\nHost: x\r\n\r\n"))
        await until(lambda: sum(site.arrived().values()) >= 20, "20 requests are held by the instances")
        site.behave("track")
        readers = [stack.enter_context(site.slow_reader(download)) for _ in range(8)]
        for reader in readers:
            assert (await loop.sock_recv(reader, 12)) == b"HTTP/1.1 200"
        async with site.client.get(f"{site.nginx.url}/download/x.mp3") as response:
            assert (response.status, response.content_type) == (429, "application/problem+json")
            assert (await response.json())["code"] == "rate_limited"
            assert response.headers["Retry-After"] == "30"
        site.behave("well")
        assert await site.status("/status/x") == 200
        async with site.client.post(f"{site.nginx.url}/extract", json=LINK) as response:
            assert response.status == 200
        readers[0].close()

        async def is_admitted() -> bool:
            return await site.status("/download/x.mp3") == 200

        await until(is_admitted, "a download is admitted after another one has ended", poll_seconds=0.1)


@pytest.mark.parametrize("path", ["/status/x", "/health", "/openapi.json"])
async def test_one_address_has_a_hundred_connections_at_once(tmp_path: Path, path: str) -> None:
    """Each holds its connection with a body that does not come. Only this limit bounds such clients (nginx.conf)."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode()
    async with nginx_site(tmp_path, is_limited=True) as site:
        text = 'limiting connections by zone "peer"'

        async def is_limited() -> bool:
            # Some are refused by the rate limit, but not before the 102nd. nginx disconnects each after 3 s, so a busy
            # machine may need several rounds to have a hundred at once.
            with ExitStack() as stack:
                for _ in range(120):
                    stack.enter_context(site.slow_reader(request))
                for _ in range(30):
                    if text in site.nginx.error_log():
                        return True
                    await asyncio.sleep(0.1)
            return False

        # The pause is that after which a whole burst is available again.
        await until(is_limited, "the number of connections is limited", poll_seconds=READ_BURST / READ_RATE)


@pytest.mark.parametrize("path", ["/nowhere", "/.git/config", "/health", "/health/live", "/openapi.json", "/status/x"])
async def test_one_address_has_a_rate_limit_of_its_own_on_every_path(tmp_path: Path, path: str) -> None:
    count = 500
    async with nginx_site(tmp_path, is_limited=True) as site:
        one = f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode()
        begun_at = time.monotonic()
        answers = await site.raw((one + b"\r\n") * (count - 1) + one + b"Connection: close\r\n\r\n")
        seconds = time.monotonic() - begun_at
        statuses = Counter(re.findall(rb"HTTP/1\.1 (\d{3}) ", answers))
        assert set(statuses) <= {b"200", b"404", b"429"}
        assert sum(statuses.values()) == count
        # Far fewer than the burst of 600 that all addresses share.
        assert READ_BURST <= count - statuses[b"429"] <= READ_BURST + 2 + READ_RATE * seconds


@pytest.mark.parametrize(
    ("addresses", "is_one"),
    [(("2001:db8::1", "2001:db8::ffff:0:0:a"), True), (("2001:db8::1", "2001:db8:0:1::1"), False),
     (("192.0.2.1", "192.0.2.2"), False), (("2001:db8:a0a:a0a::1", "2001:db8:a0a:a0a:a0a:a0a:a0a:a0a"), True)],
)  # fmt: skip
async def test_the_addresses_of_one_ipv6_network_share_their_limits(
    tmp_path: Path, addresses: tuple[str, str], is_one: bool
) -> None:
    """A subscriber has a whole /64, and could evade limits for single addresses.

    nginx takes the client's address from a header field here.
    """
    nginx = Nginx(tmp_path, free_port())
    write_configuration(tmp_path, port=nginx.port, upstreams=["127.0.0.1:1"], tracks=tmp_path, is_limited=True)
    with (tmp_path / "listen.conf").open("a") as file:
        file.write("set_real_ip_from 127.0.0.1;\nreal_ip_header X-Address;\n")
    # Each address alone stays below its burst; both together exceed one burst, if no time passes in which it refills.
    count = READ_BURST - 1
    longest_seconds = (2 * count - READ_BURST - 2) / READ_RATE
    data = b"".join(f"GET /x HTTP/1.1\r\nHost: x\r\nX-Address: {one}\r\n\r\n".encode() * count for one in addresses)
    await nginx.start()
    try:
        while True:
            begun_at = time.monotonic()
            answers = await exchange("127.0.0.1", nginx.port, data + b"GET /\r\n", seconds=RAW_SECONDS)
            if time.monotonic() - begun_at < longest_seconds:
                break
            await asyncio.sleep(READ_BURST / READ_RATE)  # until the bursts are available again
    finally:
        await nginx.stop()
    assert answers.count(b"HTTP/1.1 404 ") + answers.count(b"HTTP/1.1 429 ") == 2 * count
    assert (b"HTTP/1.1 429 " in answers) is is_one


POST_HEAD: Final = b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SLOW_CLIENTS: Final = {
    "sends nothing": (b"", False),
    "stops in the first line": (b"GET /heal", False),
    "drips the first line": (b"GET /", True),
    "drips a field": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", True),
    "drips a second request": (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /", True),
    "stops in the body": (POST_HEAD + b"Content-Length: 50\r\n\r\n{", False),
    "drips a body that was refused": (POST_HEAD + b"Content-Length: 50000\r\n\r\n{", True),
    "drips a body to nowhere": (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{", True),
}
"""By name: the bytes that a client sends at once, and whether it sends one byte more every second."""
ENDLESS: Final = {"drips a body": (POST_HEAD + b"Content-Length: 50\r\n\r\n{", True)}
"""nginx has no limit for the time of a whole body: only the number of connections bounds these clients (nginx.conf)."""

LONG_PAUSE_SECONDS: Final = 2.0
"""A machine that stops this process for so long may keep it from sending a byte within nginx's 3 s between two reads of
a body: nginx then disconnects the endless clients, and rightly so.
"""


async def test_1000_slow_clients_are_disconnected_and_block_no_other_client(tmp_path: Path) -> None:
    allow_descriptors(4000)  # before nginx is started: it inherits the limit
    kinds = SLOW_CLIENTS | ENDLESS
    pauses = [0.0]

    async def measure_pauses() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.5)
            pauses.append(time.monotonic() - before)

    watch = asyncio.create_task(measure_pauses())
    async with nginx_site(tmp_path) as site, slow_clients(site.nginx.port, 1008, kinds) as connected:
        for _ in range(300):
            assert await site.status("/health") == 200
        # The endless ones are connected all the time; all others are disconnected by nginx, or this waits for ever.
        for kind in SLOW_CLIENTS:
            await asyncio.gather(*connected[kind])
        watch.cancel()
        assert max(pauses) > LONG_PAUSE_SECONDS or not any(task.done() for kind in ENDLESS for task in connected[kind])
        assert {path for _, path in site.arrived()} == {"/health"}
