"""What strangers send: bodies, headers, bytes that are not HTTP. No 5xx, no echo, nothing stored, no trace of it."""

import asyncio
import gzip
import logging

import pytest

from tests.http.stand import Stand
from tests.http.test_contract import problem

GOOD = "https://youtu.be/dQw4w9WgXcQ"
MARK = "zZmarkZz"


async def post(
    service: Stand, body: bytes, content_type: str | None = "application/json", **headers: str
) -> tuple[int, str]:
    """POST a body as it is; return the status and the code, having checked that nothing of it comes back."""
    fields = {"Content-Type": content_type} if content_type is not None else {}
    async with service.client.post(
        f"{service.url}/extract", data=body, headers=fields | headers, skip_auto_headers=("Content-Type",)
    ) as response:
        text = await response.text()
        assert MARK not in text
        assert response.status < 500
        assert response.content_type in {"application/problem+json", "application/json"}
        return response.status, (await response.json()).get("code", "")


HOSTILE = {
    "empty": (b"", "invalid_json"),
    "truncated": (b'{"url": "htt', "invalid_json"),
    "nested arrays": (b"[" * 4000, "invalid_json"),
    "nested objects": (b'{"a":' * 700, None),
    "nested in a known field": (b'{"url":' + b"[" * 4000, None),
    "a number of 4,000 digits": (b'{"url":' + b"9" * 4000 + b"}", None),
    "1e400": (b'{"url":1e400}', None),
    "NaN": (b'{"url":NaN}', "invalid_json"),
    "bad UTF-8": (b'{"url":"\xff"}', "invalid_json"),
    "overlong UTF-8": (b'{"url":"\xc0\xae"}', "invalid_json"),
    "BOM": (b'\xef\xbb\xbf{"url":"x"}', "invalid_json"),
    "UTF-16": ('{"url":"x"}'.encode("utf-16"), "invalid_json"),
    "an array": (b"[1]", "invalid_json"),
    "a string": (b'"x"', "invalid_json"),
    "null": (b"null", "invalid_json"),
    "url is null": (b'{"url":null}', "invalid_field"),
    "url is a list": (b'{"url":["x"]}', "invalid_field"),
    "url is an object": (b'{"url":{}}', "invalid_field"),
    "url is a number": (b'{"url":5}', "invalid_field"),
    "no url": (b"{}", "invalid_field"),
    "an unknown field": (b'{"url":"%s","__proto__":{}}' % GOOD.encode(), "invalid_field"),
    "a thousand unknown fields": (b"{" + b",".join(b'"%d":1' % n for n in range(500)) + b"}", "invalid_field"),
    "a field twice": (b'{"url":"%s","url":"%s"}' % (GOOD.encode(), GOOD.encode()), "invalid_field"),
    "a field twice, escaped": (b'{"url":"%s","\\u0075rl":"%s"}' % (GOOD.encode(), GOOD.encode()), "invalid_field"),
    "two documents": (b'{"url":"%s"}{}' % GOOD.encode(), "invalid_json"),
    "a comment": (b'{"url":"%s"/**/}' % GOOD.encode(), "invalid_json"),
    "single quotes": (b"{'url':'x'}", "invalid_json"),
    "a lone surrogate": (b'{"url":"\\ud800"}', "invalid_json"),
    "a bad quality": (b'{"url":"%s","quality":"../../x"}' % GOOD.encode(), "invalid_field"),
    "a quality of another case": (b'{"url":"%s","quality":"v0"}' % GOOD.encode(), "invalid_field"),
    "a number as quality": (b'{"url":"%s","quality":192}' % GOOD.encode(), "invalid_field"),
    "quality null": (b'{"url":"%s","quality":null}' % GOOD.encode(), "invalid_field"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_a_400(service: Stand, name: str) -> None:
    body, code = HOSTILE[name]
    before = await service.service.store.counts()
    status, answered = await post(service, body)
    assert status == 400
    assert answered in ({code} if code else {"invalid_json", "invalid_field"})
    assert await service.service.store.counts() == before


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "http://127.0.0.1:6379/", "http://[::1]/", f"--exec={MARK}", "ytsearch:x", "dQw4w9WgXcQ",
        "https://www.youtube.com.evil.example/watch?v=dQw4w9WgXcQ", "https://www.youtube.com:22/watch?v=dQw4w9WgXcQ",
        "https://user:pass@www.youtube.com/watch?v=dQw4w9WgXcQ", "http://127.0.0.1\\@www.youtube.com/watch?v=dQw4w9WgXcQ",
        f"https://evil.example/{MARK}", "https://www.youtube.com/watch?v=dQw4w9WgXcQ\n--exec=id", "\u202e", "💥", "",
    ],
)  # fmt: skip
async def test_any_other_link_is_refused_and_leaves_nothing(service: Stand, url: str) -> None:
    before = await service.service.store.counts()
    async with service.client.post(f"{service.url}/extract", json={"url": url}) as response:
        assert response.status == 422
        text = await response.text()
        assert MARK not in text
        assert (await response.json())["code"] in {"unsupported_url", "not_a_video"}
    assert await service.service.store.counts() == before
    assert service.service.queue.qsize() == 0


@pytest.mark.parametrize(
    "content_type",
    [
        None, "text/plain", "application/json; charset=nope", "application/json; charset=utf-16", "application/jsonx",
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json, text/plain", "",
        "application/json; charset=idna", "application/json; charset=rot13",
    ],
)  # fmt: skip
async def test_only_json_in_utf_8_is_read(service: Stand, content_type: str | None) -> None:
    assert await post(service, b'{"url":"%s"}' % GOOD.encode(), content_type) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_spellings_of_json_are_read(service: Stand, content_type: str) -> None:
    status, _ = await post(service, b' {"url":"%s"} ' % GOOD.encode(), content_type)
    assert status in {200, 202}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "foo"])
async def test_a_compressed_body_is_never_expanded(service: Stand, encoding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    body = gzip.compress(b'{"url":"' + b"x" * 1000 + b'"}')
    raw = f"POST /extract HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode()
    raw += "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + body
    assert (await service.raw(raw)).startswith(b"HTTP/1.1 415 ")


async def test_a_large_body_is_refused_declared_or_not(service: Stand) -> None:
    assert await post(service, b'{"url":"' + b"x" * 5000 + b'"}') == (413, "body_too_large")
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    head = b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await service.raw(head + chunk * 3 + b"0\r\n\r\n", seconds=3)).startswith(b"HTTP/1.1 413 ")


RAW = {
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


@pytest.mark.parametrize("name", RAW)
async def test_garbage_below_http_gets_our_words_and_nothing_back(
    service: Stand, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = await service.raw(RAW[name], seconds=2)
    assert MARK.encode() not in answer
    assert b"Traceback" not in answer
    status = answer[9:10]
    assert status in {b"4", b"2", b""}, answer
    if status == b"4":
        assert b"application/problem+json" in answer
        assert b"urn:ytmp3:error:" in answer
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    async with service.client.get(f"{service.url}/health/live") as response:
        assert response.status == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/stats"), ("GET", "/nowhere"), ("PUT", "/extract")])
async def test_an_expectation_that_nobody_can_meet_is_a_417(service: Stand, method: str, path: str) -> None:
    await problem(service, method, path, 417, "expectation_failed", headers={"Expect": "banana"})


async def test_http_1_0_is_told_nothing_before_its_answer(service: Stand) -> None:
    """RFC 9110, section 10.1.1: it would take a 100 for the answer itself."""
    head = (
        b"POST /extract HTTP/1.0\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )
    assert (await service.raw(head + b"{}")).startswith(b"HTTP/1.0 400 ")


async def test_a_body_is_asked_for_only_when_it_is_wanted(service: Stand) -> None:
    body = b'{"url":"%s"}' % GOOD.encode()
    head = (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: %s\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n"
    )
    refused = await service.raw(head % (b"text/plain", len(body)), seconds=4)
    assert refused.startswith(b"HTTP/1.1 415 ")
    taken = await service.raw(head % (b"application/json", len(body)) + body)
    assert taken.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")


async def test_a_body_that_drips_is_cut_off(service: Stand) -> None:
    reader, writer = await asyncio.open_connection(service.host, service.port)
    writer.write(b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        while await reader.read(65_536):
            pass
    writer.close()


async def test_a_head_that_drips_is_cut_off(service: Stand) -> None:
    reader, writer = await asyncio.open_connection(service.host, service.port)
    async with asyncio.timeout(12):
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nA:")
        while not reader.at_eof():
            try:
                writer.write(b"x")
                async with asyncio.timeout(1):
                    await reader.read(100)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    writer.close()


async def test_pipelined_requests_are_answered_in_order(service: Stand) -> None:
    requests = b"".join(b"GET /nowhere%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(50))
    answer = await service.raw(requests + b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 404 ") == 50
    assert answer.count(b"HTTP/1.1 200 ") == 1
