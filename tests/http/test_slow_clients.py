"""Clients that hold a connection: silent, sending a byte now and then, or reading nothing.

Each is disconnected in the end, and other clients are served meanwhile. How soon is not asserted, because that depends
on the machine.
"""

import asyncio
import time
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout

from tests.fakes import content_of
from tests.http.deaf_clients import ask_for, deaf_clients, established_connections
from tests.http.download_server import CLIENT, download_server
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.slow_clients import SLOW_CLIENTS, slow_clients
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.http.connections import Timeouts

VIDEO = "dQw4w9WgXcQ"
LONG_TRACK_BYTES = 20_000_000
"""More than the socket buffers of both sides hold, so that a transfer to a client that reads nothing does not end."""
NEVER_SECONDS = 3600.0


async def test_1000_silent_and_dripping_clients_are_disconnected_and_others_are_served(
    service: RunningService,
) -> None:
    async with slow_clients(service.port, 1000, SLOW_CLIENTS) as tasks_by_kind:
        for _ in range(100):
            async with service.client.get(f"{service.url}/health") as response:
                assert response.status == 200
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            held = {kind: await asyncio.gather(*tasks) for kind, tasks in tasks_by_kind.items()}
    assert {kind: len(seconds) for kind, seconds in held.items()} == dict.fromkeys(SLOW_CLIENTS, 250)
    assert service.parts.runs.active == 0


async def test_a_download_beyond_the_limit_of_the_process_is_refused_until_a_transfer_ends(tmp_path: Path) -> None:
    async with (
        download_server(tmp_path, size_bytes=LONG_TRACK_BYTES, max_transfers=3, stall_seconds=NEVER_SECONDS) as server,
        ClientSession(timeout=ClientTimeout(PATIENCE_SECONDS)) as client,
    ):
        async with (
            deaf_clients(server.host, server.port, 2) as deaf,
            deaf_clients(server.host, server.port, 1, "127.0.0.2") as another,
        ):
            await ask_for(deaf, "/1")
            await until(lambda: server.sender.active == 2, "two transfers are under way")
            await ask_for(another, "/1")
            await until(lambda: server.sender.active == 3, "three transfers are under way")
            async with client.get(f"{server.url}/1") as response:
                assert (response.status, (await response.json())["code"]) == (503, "too_many_downloads")
                assert int(response.headers["Retry-After"]) >= 1
            # A request that needs no transfer is served all the same.
            async with client.head(f"{server.url}/1") as response:
                assert response.status == 200
        await until(lambda: server.sender.active == 0, "the transfers have ended")
        async with client.get(f"{server.url}/1") as response:
            assert await response.read() == server.content


async def test_a_reader_that_takes_nothing_is_disconnected_and_frees_its_place(tmp_path: Path) -> None:
    async with (
        download_server(tmp_path, size_bytes=LONG_TRACK_BYTES, max_transfers=1, stall_seconds=0.2) as server,
        ClientSession(timeout=ClientTimeout(PATIENCE_SECONDS)) as client,
        deaf_clients(server.host, server.port, 1) as deaf,
    ):
        await ask_for(deaf, "/1")
        await until(lambda: established_connections(server.port) == 0, "the connection is closed")
        assert server.asked == [1]
        await until(lambda: server.sender.active == 0, "no transfer is counted any more")
        # Ten bytes fit into the socket's buffer, so this transfer cannot stall.
        async with client.get(f"{server.url}/1", headers={"Range": "bytes=0-9"}) as response:
            assert (response.status, await response.read()) == (206, server.content[:10])


async def test_a_slow_reader_that_takes_each_piece_in_time_gets_the_whole_track(tmp_path: Path) -> None:
    stall_seconds = 2.0
    async with (
        download_server(tmp_path, size_bytes=LONG_TRACK_BYTES, stall_seconds=stall_seconds) as server,
        ClientSession(timeout=ClientTimeout(PATIENCE_SECONDS)) as client,
        client.get(f"{server.url}/1") as response,
    ):
        received, longest_pause, last_at, begun_at = 0, 0.0, time.monotonic(), time.monotonic()
        async for chunk in response.content.iter_chunked(1_000_000):
            received += len(chunk)
            now = time.monotonic()
            longest_pause, last_at = max(longest_pause, now - last_at), now
            await asyncio.sleep(0.15)
        assert time.monotonic() - begun_at > stall_seconds
        # On a machine so busy that the reader itself paused for too long, being cut would be right.
        assert received == LONG_TRACK_BYTES or longest_pause >= stall_seconds


async def test_a_client_at_its_own_limit_of_downloads_is_refused_and_others_are_not(tmp_path: Path) -> None:
    settings = {"CLIENT_MAX_DOWNLOADS": "3", "TRUSTED_PROXIES": "127.0.0.0/8"}
    async with running_service(tmp_path / "data", **settings) as service:
        service.converter.size_bytes = LONG_TRACK_BYTES
        path, sender = (await service.completed(VIDEO))["download_url"], service.parts.sender
        async with deaf_clients(service.host, service.port, 3) as deaf:
            await ask_for(deaf, path)
            await until(lambda: sender.active == 3, "three transfers are under way")
            headers = await expect_problem(service, "GET", path, 429, "client_quota")
            assert int(headers["Retry-After"]) >= 1
            async with service.client.head(service.url + path) as response:
                assert response.status == 200
            another = {"X-Forwarded-For": "192.0.2.9"}
            async with service.client.get(service.url + path, headers=another) as response:
                assert await response.read() == content_of(VIDEO, LONG_TRACK_BYTES)
            await until(lambda: sender.transfers == {CLIENT: 3}, "the other client's transfer is not counted any more")
        await until(lambda: not sender.transfers, "no transfer is counted any more")
        async with service.client.get(service.url + path) as response:
            assert response.status == 200


async def test_a_client_that_sends_a_thousand_requests_and_reads_no_response_is_disconnected(tmp_path: Path) -> None:
    requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    async with (
        running_service(tmp_path / "data", Timeouts(stall_seconds=1.0)) as service,
        deaf_clients(service.host, service.port, 2) as deaf,
    ):
        assert established_connections(service.port) == 2
        loop = asyncio.get_running_loop()
        sending = [loop.create_task(loop.sock_sendall(client, requests)) for client in deaf]
        await until(lambda: established_connections(service.port) == 0, "both connections are closed")
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)
        async with service.client.get(f"{service.url}/health") as response:
            assert response.status == 200
