"""Bytes that are not well-formed HTTP: each gets a problem document or a closed connection, and repeats nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientError

from tests.http.responses import statuses_of
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.http.connections import Timeouts

MARK = "zZmarkZz"
"""Part of what is sent; must not come back."""

MALFORMED = {
    "not HTTP": b"GARBAGE zZmarkZz\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03zZmarkZz",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET /zZmarkZz HTTP/9.9\r\nHost: x\r\n\r\n",
    "LF only": b"GET /health/live HTTP/1.1\nHost: x\nConnection: close\n\n",
    "space before colon": b"GET /zZmarkZz HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded field": b"GET /health/live HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "NUL in a field": b"GET /health/live HTTP/1.1\r\nHost: x\r\nA: b\x00zZmarkZz\r\n\r\n",
    "two lengths": b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunked": (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "length +5": b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
    "length -1": b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "length 0x5": b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello",
    "length 10^30": b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Length: 1" + b"0" * 30 + b"\r\n\r\n",
    "chunk of 2^68": (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"FFFFFFFFFFFFFFFF0\r\n"
    ),
    "a field of 9 kB": b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"zZmarkZz" * 1200 + b"\r\n\r\n",
    "129 fields": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(129)) + b"\r\n",
    "a target of 9 kB": b"GET /" + b"zZmarkZz" * 1200 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
}


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service that closes idle connections, and those with half a head, after half a second."""
    async with running_service(tmp_path / "data", Timeouts(keepalive_seconds=0.5)) as service:
        yield service


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http_gets_a_problem_document_that_repeats_nothing_and_logs_no_traceback(
    impatient: RunningService, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        received = await impatient.raw(MALFORMED[name])
    assert MARK.encode() not in received
    assert b"Traceback" not in received
    for status in statuses_of(received):
        assert status < 500, received
        if status >= 400:
            assert b"application/problem+json" in received
            assert b"urn:ytmp3:error:" in received
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    await until(lambda: _is_alive(impatient), "the service still answers")


async def _is_alive(service: RunningService) -> bool:
    # On a busy machine this service may close a connection before it has read the head; the next attempt tells.
    try:
        async with service.client.get(f"{service.url}/health/live") as response:
            return response.status == 200
    except ClientError:
        return False


async def test_a_connection_whose_head_never_ends_is_closed(impatient: RunningService) -> None:
    reader, writer = await asyncio.open_connection(impatient.host, impatient.port)

    async def drip() -> None:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nA:")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reader.at_eof():
                try:
                    await reader.read(100)
                except ConnectionError:
                    break
    finally:
        dripping.cancel()
        writer.close()


async def test_pipelined_requests_are_answered_in_order(service: RunningService) -> None:
    requests = b"".join(b"GET /nowhere%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(50))
    answer = await service.raw(requests + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 404 ") == 50
    assert answer.count(b"HTTP/1.1 200 ") == 1
