"""Clients that close the connection, or only their side of it, before or after a whole request."""

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from tests.fakes import content_of
from tests.http.responses import raw_request, statuses_of
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import PATIENCE_SECONDS
from ytmp3.http.connections import Timeouts

VIDEO = "dQw4w9WgXcQ"
BODY = b'{"url":"https://youtu.be/dQw4w9WgXcQ"}'
SIZED = (f"Content-Length: {len(BODY)}", "Content-Type: application/json")


async def received_after_half_close(service: RunningService, request: bytes) -> bytes:
    """Send a request, close this side, and return what comes until the service closes the connection.

    Raises:
        TimeoutError: the service does not close it.
    """
    reader, writer = await asyncio.open_connection(service.host, service.port)
    try:
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read()
    finally:
        writer.close()


async def test_a_client_that_closes_only_its_side_gets_its_responses_and_then_the_end(tmp_path: Path) -> None:
    # An idle connection is kept for an hour here, so only the half-close can end one.
    async with running_service(tmp_path / "data", Timeouts(keepalive_seconds=3600.0)) as service:
        path = (await service.completed(VIDEO))["download_url"]
        get = raw_request(f"GET {path}").replace(b"Connection: close\r\n", b"")
        post = raw_request("POST /extract", *SIZED, body=BODY)
        for request, statuses in (
            (get, [200]), (get * 5, [200] * 5), (post, [200]), (b"GARBAGE\r\n\r\n", [400]),
            # A request that can never be complete gets no response.
            (b"", []), (get[:30], []), (post[:-3], []),
        ):  # fmt: skip
            received = await received_after_half_close(service, request)
            assert statuses_of(received) == statuses, (request, received)


async def test_an_idle_connection_ends_when_the_client_closes_its_side(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", Timeouts(keepalive_seconds=3600.0)) as service:
        path = (await service.completed(VIDEO))["download_url"]
        reader, writer = await asyncio.open_connection(service.host, service.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(content_of(VIDEO))) == content_of(VIDEO)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("manner", ["close", "half-close", "reset", "reset in the body", "reset in the head"])
async def test_a_client_that_leaves_causes_no_traceback_and_no_job_of_half_a_request(
    service: RunningService, manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = raw_request("POST /extract", *SIZED, body=BODY)
    sent = {"reset in the body": request[:-9], "reset in the head": request[:30]}.get(manner, request)
    for _ in range(20):
        client = socket.create_connection((service.host, service.port))
        client.sendall(sent)
        if manner == "half-close":
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.get_running_loop().sock_recv(client, 4096)
        elif manner != "close":
            # Closing with a linger time of 0 sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    async with service.client.get(f"{service.url}/health") as response:
        assert response.status == 200
    if sent != request:
        assert service.store.calls.count("submit") == 0
    assert not [record for record in caplog.records if record.exc_info], caplog.text
