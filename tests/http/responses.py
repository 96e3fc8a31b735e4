"""Checks of responses: problem documents, security headers, and the head of a raw response."""

import re
from email.message import Message
from typing import Any, Final

from multidict import CIMultiDictProxy

from tests.http.running_service import RunningService

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "ytmp3",
}
"""Fields that every response carries exactly once."""
STATUS_LINE: Final = re.compile(rb"HTTP/[01]\.[019] (\d{3}) ")


async def expect_problem(
    service: RunningService, method: str, path: str, status: int, code: str, **request: Any
) -> CIMultiDictProxy[str]:
    """Make a request that must be refused in exactly this way; return the headers of the response."""
    async with service.client.request(method, service.url + path, **request) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/problem+json"
        if method != "HEAD":
            document = await response.json()
            assert set(document) - {"field"} == {"type", "title", "status", "detail", "code"}
            assert (document["status"], document["code"]) == (status, code)
        if status in {429, 503}:
            assert int(response.headers["Retry-After"]) >= 1
        for name, value in SECURITY_HEADERS.items():
            assert response.headers.getall(name) == [value]
        return response.headers


def statuses_of(received: bytes) -> list[int]:
    """Return the statuses of all responses in these bytes."""
    return [int(status) for status in STATUS_LINE.findall(received)]


def head_of(received: bytes) -> Message:
    """Return the header fields of the first response in these bytes."""
    head = Message()
    for line in received.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        head[name] = value.strip()
    return head


def raw_request(line: str, *fields: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request after which the service closes the connection."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]).encode("latin-1") + body
