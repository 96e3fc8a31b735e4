"""Every kind of response carries the security headers, once, and nothing of the library's own."""

from email.message import Message
from pathlib import Path

from tests.http.responses import SECURITY_HEADERS, head_of, raw_request, statuses_of
from tests.http.running_service import RunningService, running_service

VIDEO = "dQw4w9WgXcQ"
BODY = b'{"url":"https://youtu.be/dQw4w9WgXcQ"}'


def post(*fields: str, body: bytes = BODY) -> bytes:
    sized = (f"Content-Length: {len(body)}", "Content-Type: application/json")
    return raw_request("POST /extract", *(fields or sized), body=body)


async def assert_is_safe(service: RunningService, request: bytes, status: int) -> Message:
    """Send a request that must get one response with this status; return its header fields."""
    received = await service.raw(request)
    assert statuses_of(received[:20]) == [status], (request, received[:300])
    head = head_of(received)
    for name, value in SECURITY_HEADERS.items():
        assert head.get_all(name) == [value], (request, name)
    assert len(head.get_all("Cache-Control", [])) == 1, request
    assert "aiohttp" not in str(head).lower()
    return head


async def test_every_kind_of_response_carries_the_security_headers_once(service: RunningService) -> None:
    job = await service.completed(VIDEO)
    path, status = job["download_url"], job["status_url"]
    get = f"GET {path}"
    requests_by_status = {
        200: (
            *(raw_request(f"GET {of}") for of in (path, "/health", "/metrics", "/stats", "/openapi.json", status)),
            raw_request("GET /ytmp3.pyz"),
            raw_request(f"HEAD {path}"),
            post(),
        ),
        206: (raw_request(get, "Range: bytes=0-1"),),
        304: (raw_request(get, f'If-None-Match: "{job["file"]["sha256"]}"'),),
        400: (post(body=b"{"), b"GARBAGE\r\n\r\n", raw_request("GET /a b"), b"GET / HTTP/9.9\r\n\r\n",
              raw_request("GET /stats", "Cookie: " + "x" * 9000)),
        404: (
            raw_request("GET /nowhere"), raw_request("GET /status/x"), raw_request("GET /%2e%2e/%2e%2e/etc/passwd"),
        ),
        405: (raw_request("PUT /extract"), raw_request("TRACE /stats")),
        412: (raw_request(get, 'If-Match: "x"'),),
        413: (post(body=b"x" * 13_000),),
        415: (post("Content-Length: 1", "Content-Type: text/plain", body=b"x"),),
        416: (raw_request(get, "Range: bytes=99999-"),),
        417: (raw_request("GET /stats", "Expect: banana"), raw_request("GET /nowhere", "Expect: banana")),
        422: (post(body=b'{"url":"https://evil.example/"}'),),
    }  # fmt: skip
    for code, requests in requests_by_status.items():
        for request in requests:
            await assert_is_safe(service, request, code)
    service.store.broken["get"] = RuntimeError("secret detail")
    await assert_is_safe(service, raw_request(f"GET /status/{'0' * 34}"), 500)
    service.parts.health.is_draining = True
    await assert_is_safe(service, raw_request("GET /health"), 503)


async def test_a_refusal_by_a_rate_limit_carries_the_security_headers_and_the_limits(tmp_path: Path) -> None:
    settings = {"CLIENT_REQUESTS_PER_SECOND": "0.001", "CLIENT_BURST_SIZE": "1"}
    async with running_service(tmp_path / "data", **settings) as service:
        await assert_is_safe(service, raw_request("GET /stats"), 200)
        head = await assert_is_safe(service, raw_request("GET /stats"), 429)
        assert int(head["Retry-After"]) >= 1
        assert head["RateLimit"]
        assert head["RateLimit-Policy"]


async def test_a_preflight_response_carries_the_security_headers(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", CORS_ORIGINS="https://app.example") as service:
        fields = ("Origin: https://app.example", "Access-Control-Request-Method: POST")
        await assert_is_safe(service, raw_request("OPTIONS /extract", *fields), 204)
