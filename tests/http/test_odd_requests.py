"""Unusual and hostile requests, beyond single bodies: each gets one plain response, and metrics stay few."""

import random
import time

import pytest

from tests.http.responses import raw_request, statuses_of
from tests.http.running_service import RunningService

BODY = b'{"url":"https://youtu.be/dQw4w9WgXcQ"}'


def post(*fields: str, body: bytes = BODY) -> bytes:
    sized = (f"Content-Length: {len(body)}", "Content-Type: application/json")
    return raw_request("POST /extract", *(fields or sized), body=body)


CHUNKED = (
    b"POST /extract HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

ODD_REQUESTS: dict[str, tuple[bytes, set[int]]] = {
    "other addresses in header fields": (
        raw_request("GET /status/x", "X-Accel-Redirect: /x", "X-Original-URL: /stats"),
        {404},
    ),
    "another method in a header field": (
        raw_request("POST /stats", "X-HTTP-Method-Override: GET", "Content-Length: 0"),
        {405},
    ),
    "nothing acceptable": (raw_request("GET /health/live", "Accept: */*;q=0"), {200}),
    "a long Accept-Encoding": (raw_request("GET /health/live", "Accept-Encoding: " + "gzip," * 1500), {200}),
    "an absolute target whose host is no name": (raw_request("GET http://xn--a/health/live"), {200}),
    "an absolute target of another scheme": (raw_request("GET ftp://evil.example/health/live"), {200}),
    **{
        f"Host: {host}": (f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(), {400})
        for host in ("a b", "evil@x", "x/evil", "x:evil", "[::1", "<evil>", "x?evil", "\u00e9", '"x"', "x:-1")
    },
    **{
        f"Host: {host}": (f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(), {200})
        for host in ("", "_x.y-z~", "[::1]:8080", "10.0.0.1:", "x%41")
    },
    "FOO": (raw_request("FOO /stats"), {400, 405}),
    "lower-case get": (raw_request("get /stats"), {400, 405}),
    "CONNECT": (raw_request("CONNECT x:443"), {400, 404, 405}),
    "length 5,5": (post("Content-Length: 5,5", "Content-Type: application/json", body=b"hello"), {400}),
    "length empty": (post("Content-Length: ", "Content-Type: application/json"), {400}),
    "length of digits of another script": (
        raw_request("POST /extract", "Content-Type: application/json")[:-2] + "Content-Length: ٥\r\n\r\nhello".encode(),
        {400},
    ),
    "a chunk extension of 64 kB": (CHUNKED + b"1;" + b"x" * 65_536 + b"\r\n{\r\n0\r\n\r\n", {400, 413}),
    "a chunk size of a bare LF": (CHUNKED + b"1\n{\n0\n\n", {400}),
    "a negative chunk": (CHUNKED + b"-1\r\n{\r\n0\r\n\r\n", {400}),
    "a trailer with Host": (CHUNKED + b"26\r\n%s\r\n0\r\nHost: evil\r\n\r\n" % BODY, {202, 400}),
    "100,000 chunks of a byte": (CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", {400, 413}),
    "HTTP/0.9": (b"GET /health/live\r\n\r\n", {400}),
    "HTTP/1.0 without Host": (b"GET /health/live HTTP/1.0\r\n\r\n", {200, 400}),
    "500 unknown fields": (post(body=b"{" + b",".join(b'"%d":1' % n for n in range(500)) + b"}"), {400}),
    "a megabyte announced": (post("Content-Length: 1000000", "Content-Type: application/json", body=b"{"), {413}),
    "two slashes": (raw_request("GET //status/x"), {404}),
    "a dot": (raw_request("GET /./status/x"), {404}),
    "a parameter": (raw_request("GET /status/x;v=1"), {404}),
    "a foreign host as target": (raw_request("GET http://evil.example/status/x"), {404}),
    "a protocol-relative target": (raw_request("GET //evil.example/%2f.."), {404}),
    "a star": (raw_request("GET *"), {400, 404}),
    "a file": (raw_request("GET /openapi.json~"), {404}),
    "1,500 ranges": (raw_request("GET /status/x", "Range: bytes=" + ",".join("0-0" for _ in range(1500))), {404}),
}


MOST_CPU_SECONDS = 5.0
"""Bound of the CPU time for one request: what grows with the square of its length would take far longer."""


@pytest.mark.parametrize("name", ODD_REQUESTS)
async def test_an_odd_request_gets_one_plain_response(service: RunningService, name: str) -> None:
    request, expected = ODD_REQUESTS[name]
    before = time.process_time()
    received = await service.raw(request)
    statuses = statuses_of(received)
    assert len(statuses) == 1, received
    assert statuses[0] in expected, received
    assert b"Location: " not in received or statuses[0] == 202
    assert b"evil" not in received
    assert time.process_time() - before < MOST_CPU_SECONDS


async def test_no_request_adds_a_metric_series_or_puts_a_path_id_or_address_into_one(
    service: RunningService,
) -> None:
    chance = random.Random(11)
    for number in range(100):
        name = chance.randbytes(8).hex()
        for request in (
            f"GET /{name}",
            f"{name[:5].upper()} /status/{name}",
            f"GET /status/{name}?{name}",
            f"PUT /{name}",
        ):
            await service.raw(raw_request(request, f"X-Forwarded-For: 192.0.2.{number}", f"X-Request-Id: {name}"))
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    series = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len([line for line in series if "ytmp3_http_requests" in line]) < 40
    assert len(series) <= 400
    assert "192.0.2." not in text


@pytest.mark.attack
@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0"])
async def test_a_request_for_another_protocol_does_not_leave_the_next_one_without_an_answer(
    service: RunningService, protocol: str
) -> None:
    first = f"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode()
    # Either both are answered, or the connection ends, so that the client sends the second one again.
    received = await service.raw(first + raw_request("GET /health/live"))
    assert statuses_of(received)[0] == 200
    assert b"\r\nConnection: close\r\n" in received
