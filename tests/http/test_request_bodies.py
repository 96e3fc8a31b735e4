"""Bodies of POST /extract: an invalid one is refused, stores nothing, and is not repeated in the response."""

import asyncio
import gzip

import pytest

from tests.http.responses import expect_problem
from tests.http.running_service import RunningService
from tests.stand.waiting import PATIENCE_SECONDS
from ytmp3.http.body import MAX_BODY_BYTES

LINK = "https://youtu.be/dQw4w9WgXcQ"
MARK = "zZmarkZz"


async def post(
    service: RunningService, body: bytes, content_type: str | None = "application/json", **headers: str
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


HOSTILE_BODIES = {
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
    "an unknown field": (b'{"url":"%s","__proto__":{}}' % LINK.encode(), "invalid_field"),
    "a thousand unknown fields": (b"{" + b",".join(b'"%d":1' % n for n in range(500)) + b"}", "invalid_field"),
    "a field twice": (b'{"url":"%s","url":"%s"}' % (LINK.encode(), LINK.encode()), "invalid_field"),
    "a field twice, escaped": (b'{"url":"%s","\\u0075rl":"%s"}' % (LINK.encode(), LINK.encode()), "invalid_field"),
    "two documents": (b'{"url":"%s"}{}' % LINK.encode(), "invalid_json"),
    "a comment": (b'{"url":"%s"/**/}' % LINK.encode(), "invalid_json"),
    "single quotes": (b"{'url':'x'}", "invalid_json"),
    "a lone surrogate": (b'{"url":"\\ud800"}', "invalid_json"),
    "a bad quality": (b'{"url":"%s","quality":"../../x"}' % LINK.encode(), "invalid_field"),
    "a number that is no quality": (b'{"url":"%s","quality":193}' % LINK.encode(), "invalid_field"),
    "a very long number as quality": (b'{"url":"%s","quality":%s}' % (LINK.encode(), b"9" * 3000), "invalid_field"),
    "true as quality": (b'{"url":"%s","quality":true}' % LINK.encode(), "invalid_field"),
    "an empty quality": (b'{"url":"%s","quality":""}' % LINK.encode(), "invalid_field"),
    "quality null": (b'{"url":"%s","quality":null}' % LINK.encode(), "invalid_field"),
}


@pytest.mark.parametrize("name", HOSTILE_BODIES)
async def test_a_hostile_body_is_a_400_and_stores_nothing(service: RunningService, name: str) -> None:
    body, code = HOSTILE_BODIES[name]
    before = await service.store.counts()
    status, answered = await post(service, body)
    assert status == 400
    assert answered in ({code} if code else {"invalid_json", "invalid_field"})
    assert await service.store.counts() == before


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "http://127.0.0.1:6379/", "http://[::1]/", f"--exec={MARK}", "ytsearch:x", "dQw4w9WgXc",
        "https://www.youtube.com.evil.example/watch?v=dQw4w9WgXcQ", "https://www.youtube.com:22/watch?v=dQw4w9WgXcQ",
        "https://user:pass@www.youtube.com/watch?v=dQw4w9WgXcQ", "http://127.0.0.1\\@www.youtube.com/watch?v=dQw4w9WgXcQ",
        f"https://evil.example/{MARK}", "https://www.youtube.com/watch?v=dQw4w9WgXcQ\n--exec=id", "\u202e", "💥", "",
    ],
)  # fmt: skip
async def test_a_link_to_anything_else_is_refused_and_stores_nothing(service: RunningService, url: str) -> None:
    before = await service.store.counts()
    async with service.client.post(f"{service.url}/extract", json={"url": url}) as response:
        assert response.status == 422
        text = await response.text()
        assert MARK not in text
        assert (await response.json())["code"] in {"unsupported_url", "not_a_video"}
    assert await service.store.counts() == before
    assert service.parts.queue.qsize() == 0


@pytest.mark.parametrize(
    "content_type",
    [
        None, "text/plain", "application/json; charset=nope", "application/json; charset=utf-16", "application/jsonx",
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json, text/plain", "",
        "application/json; charset=idna", "application/json; charset=rot13",
    ],
)  # fmt: skip
async def test_a_body_that_is_not_declared_as_json_in_utf_8_is_a_415(
    service: RunningService, content_type: str | None
) -> None:
    assert await post(service, b'{"url":"%s"}' % LINK.encode(), content_type) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_every_spelling_of_the_json_media_type_is_accepted(service: RunningService, content_type: str) -> None:
    status, _ = await post(service, b' {"url":"%s"} ' % LINK.encode(), content_type)
    assert status in {200, 202}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "foo"])
async def test_a_compressed_body_is_never_expanded(service: RunningService, encoding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    body = gzip.compress(b'{"url":"' + b"x" * 1000 + b'"}')
    raw = f"POST /extract HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode()
    raw += "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + body
    assert (await service.raw(raw)).startswith(b"HTTP/1.1 415 ")


async def test_a_large_body_is_refused_whether_its_length_is_declared_or_not(service: RunningService) -> None:
    assert await post(service, b'{"url":"' + b"x" * MAX_BODY_BYTES + b'"}') == (413, "body_too_large")
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    head = (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    assert (await service.raw(head + chunk * 4 + b"0\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(("method", "path"), [("GET", "/stats"), ("GET", "/nowhere"), ("PUT", "/extract")])
async def test_an_unknown_expectation_is_a_417(service: RunningService, method: str, path: str) -> None:
    await expect_problem(service, method, path, 417, "expectation_failed", headers={"Expect": "banana"})


async def test_an_http_1_0_client_gets_no_100_continue(service: RunningService) -> None:
    """An HTTP/1.0 client would take a 100 for the final response (RFC 9110, section 10.1.1)."""
    head = (
        b"POST /extract HTTP/1.0\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )
    assert (await service.raw(head + b"{}")).startswith(b"HTTP/1.0 400 ")


async def test_100_continue_is_sent_only_if_the_body_is_wanted(service: RunningService) -> None:
    body = b'{"url":"%s"}' % LINK.encode()
    head = (
        b"POST /extract HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: %s\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n"
    )
    refused = await service.raw(head % (b"text/plain", len(body)))
    assert refused.startswith(b"HTTP/1.1 415 ")
    taken = await service.raw(head % (b"application/json", len(body)) + body)
    assert taken.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")


async def test_a_body_that_does_not_arrive_is_a_408(service: RunningService) -> None:
    reader, writer = await asyncio.open_connection(service.host, service.port)
    writer.write(b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read(65_536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        while await reader.read(65_536):
            pass
    writer.close()


@pytest.mark.parametrize(
    ("body", "field", "named"),
    [
        (b'{"url": 5}', "url", "https://youtu.be/"),
        (b"{}", "url", "`url`"),
        (b'{"quality": "V0"}', "url", "`url`"),
        (b'{"url": "%s", "quality": "best"}' % LINK.encode(), "quality", "96k, 128k, 160k, 192k, 256k, 320k, V0"),
        (b'{"url": "%s", "quality": null}' % LINK.encode(), "quality", "192k"),
        (b'{"url": "%s", "format": "flac"}' % LINK.encode(), "format", "mp3, m4a, opus"),
        (b'{"url": "%s", "format": null}' % LINK.encode(), "format", "mp3, m4a, opus"),
        (b'{"url": "%s", "format": ["m4a"], "quality": "192k"}' % LINK.encode(), "format", "mp3, m4a, opus"),
        (b'{"url": "%s", "format": "m4a", "quality": "192k"}' % LINK.encode(), "quality", "leave it out"),
        (b'{"url": "%s", "format": ".OPUS", "quality": 320}' % LINK.encode(), "quality", "leave it out"),
        (b'{"url": "%s", "format": "m4a", "quality": "best"}' % LINK.encode(), "quality", "96k, 128k"),
        (b'{"url": "%s", "language": "german"}' % LINK.encode(), "language", "de, en-US or zh-Hans"),
        (b'{"url": "%s", "language": null}' % LINK.encode(), "language", "original"),
        (b'{"url": "%s", "lang": "de"}' % LINK.encode(), "language", "Did you mean `language`?"),
        (b'{"url": "%s", "codec": "m4a"}' % LINK.encode(), "format", "Did you mean `format`?"),
        (b'{"link": "%s"}' % LINK.encode(), "url", "Did you mean `url`?"),
        (b'{"Url": "%s"}' % LINK.encode(), "url", "Did you mean `url`?"),
        (b'{"url": "%s", "qualty": "V0"}' % LINK.encode(), "quality", "Did you mean `quality`?"),
        (b'{"url": "%s", "bitrate": 192}' % LINK.encode(), "quality", "Did you mean `quality`?"),
        (b'{"url": "%s", "zZmarkZz": 1}' % LINK.encode(), None, "The fields are: `url`, `quality`, `format`"),
        (b'{"url": "x", "url": "y"}', None, "given twice"),
        (b'{"url": "https://youtu.be/dQw4w9WgXcQQ"}', "url", "has 12 characters"),
        (b'{"url": "https://www.youtube.com/@zZmarkZz"}', "url", "channel"),
        (b"url=x", None, '{"url"'),
        (b'{"url": "zZmarkZz"', None, "at character 19, a comma or a closing brace"),
        (b'{"url": "x",}', None, "at character"),
        (b"{'url': 'x'}", None, "at character 2, a name in double quotes"),
        (b'{"url" "x"}', None, "at character 8, a colon"),
        (b'{"url": zZmarkZz}', None, "at character 9, a value"),
        (b'{"url": "zZmarkZz', None, "a text begins that does not end"),
        (b'{"url": "a\nb"}', None, "a line break"),
        (b'{"url": "x"} zZmarkZz', None, "something follows the object"),
        (b'{"url": "\xff"}', None, "not UTF-8: see byte 10"),
        (b'{"url": NaN}', None, "one JSON object"),
        (b'{"link": ' + b"[" * 3000, None, "one JSON object"),
    ],
)  # fmt: skip
async def test_a_refused_body_gets_a_text_that_names_the_field_and_what_is_accepted(
    service: RunningService, body: bytes, field: str | None, named: str
) -> None:
    headers = {"Content-Type": "application/json"}
    async with service.client.post(f"{service.url}/extract", data=body, headers=headers) as response:
        assert response.status in {400, 422}
        text = await response.text()
        assert MARK not in text
        problem = await response.json()
        assert named in problem["detail"]
        assert problem.get("field") == field


@pytest.mark.parametrize(
    ("given", "quality"),
    [('"192"', "192k"), ("192", "192k"), ('"320K"', "320k"), ('"v0"', "V0"), ('" 192k "', "192k"), ('"V5"', "V5")],
)
async def test_near_spellings_of_a_quality_are_understood(service: RunningService, given: str, quality: str) -> None:
    body = f'{{"url": "{LINK}", "quality": {given}}}'
    headers = {"Content-Type": "application/json"}
    async with service.client.post(f"{service.url}/extract", data=body, headers=headers) as response:
        assert response.status == 202
        assert (await response.json())["quality"] == quality


@pytest.mark.parametrize(
    ("given", "format_", "quality"),
    [
        ('"m4a"', "m4a", None),
        ('"M4A"', "m4a", None),
        ('".opus"', "opus", None),
        ('" Opus "', "opus", None),
        ('"MP3"', "mp3", "192k"),
    ],
)
async def test_near_spellings_of_a_format_are_understood(
    service: RunningService, given: str, format_: str, quality: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    body = f'{{"url": "{LINK}", "format": {given}}}'
    async with service.client.post(f"{service.url}/extract", data=body, headers=headers) as response:
        assert response.status == 202
        job = await response.json()
    assert (job["format"], job["quality"]) == (format_, quality)


async def test_near_spellings_of_a_language_share_one_conversion(service: RunningService) -> None:
    jobs = [await service.submit("dQw4w9WgXcQ", language=given) for given in ("iw", "HE", "he", " he ")]
    assert {job["language"] for job in jobs} == {"he"}
    assert [job["deduplicated"] for job in jobs] == [False, True, True, True]
    others = [await service.submit("dQw4w9WgXcQ", **more) for more in ({}, {"language": "Original"})]
    assert [(job["language"], job["deduplicated"]) for job in others] == [("original", False), ("original", True)]
