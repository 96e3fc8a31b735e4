"""Clients that take too much: transfers, connections, joined jobs, requests of no client, renderings of the metrics."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.fakes import content_of
from tests.http.deaf_clients import ask_for, deaf_clients
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until
from ytmp3.http.connection_limit import ConnectionLimit, most_connections
from ytmp3.http.keys import key_line, new_secret
from ytmp3.metrics import EXPOSITION_SECONDS, Metrics

VIDEO: Final = "dQw4w9WgXcQ"
LONG_TRACK_BYTES: Final = 20_000_000
"""More than the socket buffers of both sides hold, so that a transfer to a client that reads nothing does not end."""
MANY: Final = 300
PROXY: Final = {"TRUSTED_PROXIES": "127.0.0.1"}
LIMITED: Final = PROXY | {"REQUESTS_PER_SECOND": "100", "BURST_SIZE": "200"}
"""The default rate limits; other tests have none."""

pytestmark = pytest.mark.attack


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def until_limited(service: RunningService, path: str, **headers: str) -> Counter[int]:
    """Send 300 requests at once, and again until one is refused by a limit: a slow machine gives tokens meanwhile."""
    found: Counter[int] = Counter()
    while 429 not in found:
        found += await statuses(service, path, MANY, **headers)
    return found


async def statuses(service: RunningService, path: str, count: int, **headers: str) -> Counter[int]:
    """Send requests at once; return how often each status came."""

    async def ask() -> int:
        async with service.client.get(service.url + path, headers=headers) as response:
            await response.read()
            return response.status

    return Counter(await asyncio.gather(*(ask() for _ in range(count))))


async def test_300_slow_downloads_of_one_client_leave_half_of_the_places_to_others(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", **PROXY) as service:
        service.converter.size_bytes = LONG_TRACK_BYTES
        path, sender = (await service.completed(VIDEO))["download_url"], service.parts.sender
        async with deaf_clients(service.host, service.port, MANY) as deaf:
            await ask_for(deaf, path)
            await until(lambda: sender.active == 100, "one client has half of the places")
            await expect_problem(service, "GET", path, 429, "client_quota")
            other = from_address("192.0.2.9")
            async with service.client.get(service.url + path, headers=other) as response:
                assert await response.read() == content_of(VIDEO, LONG_TRACK_BYTES)


async def test_a_client_with_a_quota_of_5_cannot_join_a_conversion_more_often(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CLIENT_MAX_JOBS="5", **PROXY) as service:
        service.converter.hold(VIDEO)
        for _ in range(5):
            await service.submit(VIDEO)
        link = {"url": f"https://youtu.be/{VIDEO}"}
        for _ in range(50):
            headers = await expect_problem(service, "POST", "/extract", 429, "client_quota", json=link)
            assert int(headers["Retry-After"]) >= 1
        counts = await service.store.counts()
        assert counts.pending + counts.processing == 5
        other = from_address("192.0.2.9")
        async with service.client.post(f"{service.url}/extract", json=link, headers=other) as response:
            assert response.status == 202


async def test_300_requests_with_a_wrong_key_are_limited_and_the_owner_of_a_key_is_not(tmp_path: Path) -> None:
    secret = new_secret(b"0" * 24)
    (tmp_path / "keys").write_text(key_line("alice", secret) + "\n")
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys"), **LIMITED) as service:
        found = await until_limited(service, "/stats", **{"X-API-Key": "wrong"})
        assert found[401] >= 50
        assert set(found) == {401, 429}
        # From the same address, a right key is admitted; from another one, a wrong key gets its proper response.
        assert await statuses(service, "/stats", 20, **{"X-API-Key": secret}) == {200: 20}
        assert await statuses(service, "/stats", 1, **from_address("192.0.2.9")) == {401: 1}


@pytest.mark.parametrize("path", ["/nothing", "/extract", "/status/"])
async def test_300_requests_that_no_route_takes_are_limited_by_address(tmp_path: Path, path: str) -> None:
    async with running_service(tmp_path / "data", **LIMITED) as service:
        found = await until_limited(service, path)
        assert set(found) == {405 if path == "/extract" else 404, 429}
        assert await statuses(service, "/stats", 20) == {200: 20}
        assert await statuses(service, "/health", 20) == {200: 20}
        assert set(await statuses(service, path, 1, **from_address("192.0.2.9"))) <= {404, 405}


async def test_inventing_forwarded_addresses_does_not_evade_the_limit(tmp_path: Path) -> None:
    limits = {name: LIMITED[name] for name in ("REQUESTS_PER_SECOND", "BURST_SIZE")}
    async with running_service(tmp_path / "data", **limits) as service:
        found: Counter[int] = Counter()
        while 429 not in found:
            asked = [statuses(service, "/nothing", 1, **from_address(f"192.0.2.{number}")) for number in range(250)]
            for one in await asyncio.gather(*asked):
                found += one
        assert set(found) == {404, 429}


def test_the_metrics_are_rendered_at_most_once_a_second() -> None:
    now = 100.0
    metrics = Metrics(clock=lambda: now)
    rendered: list[float] = []
    metrics.gauge("renderings", "How often.", lambda: rendered.append(now) or len(rendered))  # type: ignore[func-returns-value]
    for step in range(200):
        now = 100.0 + step / 20
        assert b"renderings" in metrics.exposition()
    assert len(rendered) == 10 / EXPOSITION_SECONDS
    now = 1000.0
    assert b"renderings 11.0" in metrics.exposition()


async def test_requests_for_the_metrics_share_a_rendering(service: RunningService) -> None:
    assert await statuses(service, "/metrics", MANY) == {200: MANY}


def test_connections_leave_the_descriptors_that_work_needs() -> None:
    assert most_connections(65_536, conversions=30, transfers=200) > 64_000
    assert most_connections(4096, conversions=30, transfers=200) == 4096 - 64 - 128 - 16 * 30 - 200
    assert most_connections(1024, conversions=30, transfers=200) == 256


def test_one_address_gets_half_of_the_connections_and_a_proxy_all() -> None:
    limit = ConnectionLimit(100)
    admitted = [limit.admit("192.0.2.1") for _ in range(80)]
    assert admitted == [True] * 50 + [False] * 30
    assert limit.refused == {"address": 30, "all": 0}
    assert limit.admit("192.0.2.2")
    limit.closed("192.0.2.1")
    assert limit.open == 50
    assert limit.admit("192.0.2.1")  # 49 are held, and 50 are free
    assert not limit.admit("192.0.2.1")
    for _ in range(50):
        limit.closed("192.0.2.1")
    limit.closed("192.0.2.2")
    assert limit.open == 0


async def test_too_many_connections_of_one_address_are_closed_and_another_is_served(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        limit = service.parts.connections
        limit._most = 40
        before = limit.open
        async with deaf_clients(service.host, service.port, 60):
            await until(lambda: limit.open >= 19, "one address has its half")
            assert limit.open <= 20 + before
            reader, writer = await asyncio.open_connection(service.host, service.port, local_addr=("127.0.0.2", 0))
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        await until(lambda: limit.open <= before, "no connection is counted any more")
        async with service.client.get(f"{service.url}/health") as response:
            assert response.status == 200
