"""Generated requests: from the OpenAPI document (`generated.py`), and byte by byte on a raw socket.

`make test` runs a short form; `make fuzz` sets FUZZ_FACTOR and runs for long.
"""

import asyncio
import random
import re
from pathlib import Path

import pytest

from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.stand import Stand
from tests.stand.openapi_requests import answers_are_as_documented
from tests.stand.raw_http import exchange

pytestmark = pytest.mark.fuzz

VIDEO = "dQw4w9WgXcQ"
BODY = b'{"url":"https://youtu.be/dQw4w9WgXcQ","quality":"192k"}'
REQUESTS = [
    b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY),
    b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    b"GET /status/%s HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    b'GET /download/%s.mp3 HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99\r\nIf-Range: "x"\r\n\r\n',
    b'HEAD /download/%s.mp3 HTTP/1.1\r\nHost: x\r\nIf-None-Match: "x", W/"y"\r\n\r\n',
    b"DELETE /jobs/%s HTTP/1.1\r\nHost: x\r\nX-API-Key: abc\r\n\r\n",
    b"OPTIONS /extract HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nAccess-Control-Request-Method: POST\r\n\r\n",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\x00",
    b"%00",
    b"%2f..",
    b": ",
    b"\xff\xfe",
    b"chunked",
    b"Content-Length: 9",
    b"0x",
    b"-1",
    b" " * 50,
]
FOLLOW_UP = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def mutated(request: bytes, chance: random.Random) -> bytes:
    """Change a request in a few places."""
    data = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at:at] = chance.choice(TOKENS)
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 30)]
            case _:
                data[at:at] = bytes([chance.randrange(256)]) * chance.choice([1, 10, 1000, 9000])
        data = data or bytearray(b"\r\n")
    return bytes(data)


async def test_mutated_requests_meet_no_5xx_and_break_nothing(service: Stand) -> None:
    job = await service.ended((await service.submit(VIDEO))["job_id"])
    job_id = job["job_id"].encode()
    chance = random.Random(20261123)
    gate = asyncio.Semaphore(20)

    async def one(request: bytes) -> None:
        async with gate:
            answer = await exchange(service.host, service.port, request + FOLLOW_UP, seconds=0.25)
        for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer):
            assert status[:1] != b"5" or status == b"503", (request, answer)
        assert b"Traceback" not in answer, request

    requests = [
        mutated(template.replace(b"%s", job_id) if b"%s" in template else template, chance)
        for template in REQUESTS
        for _ in range(150 * FUZZ_FACTOR)
    ]
    await asyncio.gather(*map(one, requests))
    async with service.client.get(f"{service.url}/health") as response:
        assert response.status == 200
    # Sockets that were left half-way are closed in their own time; none may stay for good.
    assert service.service.runs.active == 0


async def test_requests_made_from_the_openapi_document_get_documented_answers(service: Stand, tmp_path: Path) -> None:
    await answers_are_as_documented(service, service.url, tmp_path, examples=40 * FUZZ_FACTOR)
