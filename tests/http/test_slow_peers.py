"""Peers that hold on: silent, dripping, reading nothing. Each is let go in time, nobody else notices (H05 to H07)."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import content_of
from tests.http.stand import Stand, stand
from tests.http.test_contract import problem
from tests.stand.slow_clients import SLOW_CLIENTS, slow_clients
from ytmp3.http.download import MAX_TRANSFERS

VIDEO = "dQw4w9WgXcQ"
TRACK_BYTES = 20_000_000
"""More than the socket buffers of both sides hold."""


async def health_seconds(service: Stand, times: int, *, pause_seconds: float = 0.0) -> list[float]:
    """How long /health takes, sorted; asked so many times with a pause between."""
    taken = []
    for _ in range(times):
        begun_at = time.perf_counter()
        async with service.client.get(f"{service.url}/health") as response:
            assert response.status == 200
            await response.read()
        taken.append(time.perf_counter() - begun_at)
        await asyncio.sleep(pause_seconds)
    return sorted(taken)


@asynccontextmanager
async def deaf_peers(service: Stand, count: int) -> AsyncIterator[list[socket.socket]]:
    """Connections with the smallest of buffers."""
    peers = []
    try:
        for _ in range(count):
            peer = socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            peers.append(peer)
            await asyncio.get_running_loop().sock_connect(peer, (service.host, service.port))
        yield peers
    finally:
        for peer in peers:
            peer.close()


def connections(service: Stand) -> int:
    """How many the server holds, by the kernel's count (01: established)."""
    return sum(
        1
        for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{service.port:04X}") and line.split()[3] == "01"
    )


async def test_1000_silent_and_dripping_peers_are_cut_off_and_disturb_nobody(service: Stand) -> None:
    """A094, H07: a quarter of each kind."""
    async with asyncio.timeout(40), slow_clients(service.port, 1000, SLOW_CLIENTS) as peers:
        while connections(service) < 1000:
            await asyncio.sleep(0.01)
        taken = await health_seconds(service, 300, pause_seconds=0.01)  # while each drips three times
        held = {kind: max(await asyncio.gather(*tasks)) for kind, tasks in peers.items()}
    # The goal is 10 ms for 99 of 100 on a machine that is not also a thousand clients.
    assert taken[150] < 0.010
    assert taken[290] < 0.100
    assert max(held.values()) < 12, "10 s are the bound; the rest is this machine's"
    assert service.service.runs.active == 0


@pytest.fixture
async def long_track(tmp_path: Path) -> AsyncIterator[tuple[Stand, str]]:
    async with stand(tmp_path / "data") as service:
        service.converter.size_bytes = TRACK_BYTES
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        yield service, job["download_url"]


async def test_the_201st_reader_is_told_to_come_back_and_stalled_ones_are_cut(
    long_track: tuple[Stand, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, path = long_track
    monkeypatch.setattr("ytmp3.http.download.STALL_SECONDS", 1.5)
    sender = service.service.sender
    async with deaf_peers(service, MAX_TRANSFERS) as peers:
        for peer in peers:
            await asyncio.get_running_loop().sock_sendall(peer, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(10):
            while sender.active < MAX_TRANSFERS:
                await asyncio.sleep(0.01)
        headers = await problem(service, "GET", path, 503, "too_many_downloads")
        assert int(headers["Retry-After"]) >= 1
        # What needs no transfer is served all the same.
        async with service.client.head(service.url + path) as response:
            assert response.status == 200
        assert (await health_seconds(service, 20))[10] < 0.02
        async with asyncio.timeout(15):
            while sender.active:
                await asyncio.sleep(0.02)
    async with service.client.get(service.url + path) as response:
        assert await response.read() == content_of(VIDEO, TRACK_BYTES)


async def test_one_client_has_no_more_transfers_at_once_than_its_own(tmp_path: Path) -> None:
    """H06, also without nginx in front."""
    settings = {"CLIENT_MAX_DOWNLOADS": "3", "TRUSTED_PROXIES": "127.0.0.0/8"}
    async with stand(tmp_path / "data", **settings) as service:
        service.converter.size_bytes = TRACK_BYTES
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        path, sender = job["download_url"], service.service.sender
        async with deaf_peers(service, 3) as peers:
            for peer in peers:
                await asyncio.get_running_loop().sock_sendall(peer, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(10):
                while sender.active < 3:
                    await asyncio.sleep(0.01)
            headers = await problem(service, "GET", path, 429, "client_quota")
            assert int(headers["Retry-After"]) >= 1
            async with service.client.head(service.url + path) as response:
                assert response.status == 200
            # Another one is not refused, and leaves nothing behind.
            other = {"X-Forwarded-For": "192.0.2.9"}
            async with service.client.get(service.url + path, headers=other) as response:
                assert await response.read() == content_of(VIDEO, TRACK_BYTES)
            async with asyncio.timeout(5):
                while sender.transfers != {"addr:127.0.0.1": 3}:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while sender.active:
                await asyncio.sleep(0.01)
        assert not sender.transfers
        async with service.client.get(service.url + path) as response:
            assert response.status == 200


async def test_a_slow_reader_that_does_read_is_not_cut(
    long_track: tuple[Stand, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, path = long_track
    monkeypatch.setattr("ytmp3.http.download.STALL_SECONDS", 1.0)
    received = 0
    async with service.client.get(service.url + path) as response:
        async for chunk in response.content.iter_chunked(1_000_000):
            received += len(chunk)
            await asyncio.sleep(0.1)
    assert received == TRACK_BYTES


async def test_a_thousand_requests_and_no_read_do_not_hold_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A093: answers that nobody takes; also after the service has closed on its side."""
    monkeypatch.setattr("ytmp3.http.connections.STALL_SECONDS", 1.0)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    async with stand(tmp_path / "data") as service, deaf_peers(service, 2) as peers:
        loop = asyncio.get_running_loop()
        sending = [loop.create_task(loop.sock_sendall(peer, request * 1000)) for peer in peers]
        async with asyncio.timeout(15):
            while connections(service) < 2:
                await asyncio.sleep(0.01)
            while connections(service):
                await asyncio.sleep(0.05)
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)
        assert (await health_seconds(service, 1))[0] < 1


async def test_a_resume_never_mixes_two_files(tmp_path: Path) -> None:
    """H02: 400 times the track is lost and made anew, with other content, between the parts of a download."""
    chance = random.Random(2)

    async def made(service: Stand, size: int) -> dict[str, dict[str, Any]]:
        """Have a track of this size made of each video, where there is none."""
        for file in (service.data_dir / "tracks").glob("*.mp3"):
            file.unlink()
        service.converter.size_bytes = size
        jobs = await asyncio.gather(*(service.submit(video) for video in videos))
        return dict(zip(videos, await asyncio.gather(*(service.ended(job["job_id"]) for job in jobs)), strict=True))

    async def resume(service: Stand, video: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        resume = {"Range": f"bytes={chance.randrange(size)}-", "If-Range": f'"{old["file"]["sha256"]}"'}
        async with service.client.get(service.url + old["download_url"], headers=resume) as response:
            assert response.status == 410
        async with service.client.get(service.url + new["download_url"], headers=resume) as response:
            assert (response.status, await response.read()) == (200, content_of(video, size + 1))
            assert response.headers["ETag"] != resume["If-Range"]
        resume["If-Range"] = f'"{new["file"]["sha256"]}"'
        async with service.client.get(service.url + new["download_url"], headers=resume) as response:
            assert response.status == 206
            assert content_of(video, size + 1).endswith(await response.read())

    videos = [f"video{number:06d}" for number in range(80)]
    async with stand(tmp_path / "data") as service:
        for size in range(10_000, 10_010, 2):
            old, new = await made(service, size), await made(service, size + 1)
            await asyncio.gather(*(resume(service, video, old[video], new[video]) for video in videos))
