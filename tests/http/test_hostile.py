"""What strangers send, beyond single bodies: ids, titles, odd requests, and the headers of every kind of answer."""

import asyncio
import random
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from statistics import median

import pytest
from aiohttp import web

from tests.fakes import content_of
from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.stand import Stand, stand
from tests.stand.raw_http import exchange
from ytmp3.core.ids import ClientId, JobId
from ytmp3.core.job import Metadata, Track
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.connections import Runner
from ytmp3.http.download import Sender
from ytmp3.http.keys import key_line, new_secret
from ytmp3.http.middleware import RequestMiddleware
from ytmp3.metrics import Metrics
from ytmp3.storage.local import LocalShelf

VIDEO = "dQw4w9WgXcQ"
GOOD = b'{"url":"https://youtu.be/dQw4w9WgXcQ"}'
STATUS = re.compile(rb"HTTP/[01]\.[019] (\d{3}) ")

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "ytmp3",
}


def head_of(answer: bytes) -> Message:
    """The header fields of the first answer in these bytes."""
    head = Message()
    for line in answer.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        head[name] = value.strip()
    return head


def asked(line: str, *fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]).encode("latin-1") + body


def post(*fields: str, body: bytes = GOOD) -> bytes:
    sized = (f"Content-Length: {len(body)}", "Content-Type: application/json")
    return asked("POST /extract", *(fields or sized), body=body)


@dataclass(frozen=True, slots=True)
class Strange:
    """A service that asks for keys, the key to ask with, and ids that are nothing to it."""

    service: Stand
    key: str
    ids: dict[str, str]


@pytest.fixture
async def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Strange]:
    later_seconds = 0.0
    monkeypatch.setattr("ytmp3.jobstore.sqlite.store.anchored_clock", lambda: lambda: time.time() + later_seconds)
    mine, theirs = new_secret(b"a" * 24), new_secret(b"b" * 24)
    (tmp_path / "keys").write_text(f"{key_line('mine', mine)}\n{key_line('theirs', theirs)}\n")
    async with stand(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys")) as service:
        service.client.headers["X-API-Key"] = mine
        expired = (await service.ended((await service.submit("expired____"))["job_id"]))["job_id"]
        later_seconds = 25 * 3600.0
        assert len(await service.service.store.expire(10)) == 1
        service.client.headers["X-API-Key"] = theirs
        foreign = (await service.ended((await service.submit(VIDEO))["job_id"]))["job_id"]
        service.client.headers["X-API-Key"] = mine
        yield Strange(
            service, mine, {"unknown": "0" * 34, "expired": expired, "foreign": foreign, "malformed": foreign.upper()}
        )


async def test_unknown_expired_foreign_and_malformed_ids_get_one_answer_byte_for_byte(strange: Strange) -> None:
    foreign = strange.ids["foreign"]
    ids = [*strange.ids.values(), f"{foreign[:-1]}{'0' if foreign[-1] != '0' else '1'}", "x" * 3000]
    ids += ["%00", "..%2f..%2fetc%2fpasswd", "$(id)", "{job_id}", "}", "%27%20OR%201=1%20--", "%F0%9F%92%A5"]
    ids += [foreign + "%20", foreign + "%0a", foreign[:33] + "%EF%BC%91", foreign[:33] + "%D9%A1"]
    answers: set[tuple[tuple[bytes, ...], bytes]] = set()
    for job_id in ids:
        for method, path in (
            *(("GET", f"/status/{job_id}"), ("GET", f"/download/{job_id}.mp3"), ("DELETE", f"/jobs/{job_id}")),
            ("GET", f"/download/{job_id}"),
        ):
            answer = await strange.service.raw(asked(f"{method} {path}", f"X-API-Key: {strange.key}"))
            head, _, body = answer.partition(b"\r\n\r\n")
            lines = sorted(
                line for line in head.split(b"\r\n") if not line.startswith((b"X-Request-Id:", b"Date:", b"RateLimit:"))
            )
            answers.add((tuple(lines), body))
    assert len(answers) == 1, answers
    ((fields, _),) = answers
    assert any(b" 404 " in field for field in fields)


async def test_the_time_of_an_answer_does_not_tell_one_strange_id_from_another(strange: Strange) -> None:
    service = strange.service
    seconds: dict[str, list[float]] = {kind: [] for kind in strange.ids}
    for _ in range(200):
        for kind, job_id in strange.ids.items():
            begun_at = time.perf_counter()
            async with service.client.get(f"{service.url}/status/{job_id}") as response:
                assert response.status == 404
                await response.read()
            seconds[kind].append(time.perf_counter() - begun_at)
    medians = {kind: median(times) for kind, times in seconds.items()}
    assert max(medians.values()) - min(medians.values()) < 0.001, medians


@pytest.mark.fuzz
async def test_no_guess_finds_a_job(service: Stand) -> None:
    """A million in `make fuzz`: in the form of an id, half of them one digit beside one that there is (goal S08)."""
    jobs = [(await service.submit(VIDEO))["job_id"] for _ in range(100)]
    chance = random.Random(8)
    found, store = 0, service.service.store
    for number in range(50_000 * FUZZ_FACTOR):
        near = list(chance.choice(jobs))
        near[chance.randrange(2, 34)] = chance.choice("0123456789abcdef")
        guess = "".join(near) if number % 2 else near[0] + near[1] + chance.randbytes(16).hex()
        found += guess not in jobs and await store.get(JobId(guess)) is not None
    assert found == 0
    assert await store.get(JobId(jobs[0])) is not None


async def test_every_kind_of_answer_carries_the_headers_of_safety_once(tmp_path: Path) -> None:
    async with stand(tmp_path / "data", REQUESTS_PER_SECOND="0.1", BURST_SIZE="40") as service:
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        path, status = job["download_url"], job["status_url"]
        etag = f'"{job["file"]["sha256"]}"'
        wanted = {
            200: (asked(f"GET {path}"), asked("GET /health"), asked("GET /metrics"), asked(f"GET {status}"), post()),
            206: (asked(f"GET {path}", "Range: bytes=0-1"),),
            304: (asked(f"GET {path}", f"If-None-Match: {etag}"),),
            400: (post(body=b"{"), b"GARBAGE\r\n\r\n", asked("GET /a b"), b"GET / HTTP/9.9\r\n\r\n"),
            404: (asked("GET /nowhere"), asked("GET /status/x"), asked("GET /%2e%2e/%2e%2e/etc/passwd")),
            405: (asked("PUT /extract"), asked("TRACE /stats")),
            412: (asked(f"GET {path}", 'If-Match: "x"'),),
            413: (post(body=b"x" * 5000),),
            415: (post("Content-Length: 1", "Content-Type: text/plain", body=b"x"),),
            416: (asked(f"GET {path}", "Range: bytes=99999-"),),
            417: (asked("GET /stats", "Expect: banana"),),
            422: (post(body=b'{"url":"https://evil.example/"}'),),
        }
        for code, requests in wanted.items():
            for request in requests:
                await _is_safe(service, request, code)
        while (await service.raw(asked("GET /stats"))).startswith(b"HTTP/1.1 200"):
            pass
        head = await _is_safe(service, asked("GET /stats"), 429)
        assert int(head["Retry-After"]) >= 1
        assert head["RateLimit"]
        assert head["RateLimit-Policy"]
        service.service.health.is_draining = True
        await _is_safe(service, asked("GET /health"), 503)


async def test_a_500_carries_the_headers_of_safety(service: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async def burst(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.service.store, "get", burst)
    await _is_safe(service, asked(f"GET /status/{'0' * 34}"), 500)


async def _is_safe(service: Stand, request: bytes, status: int) -> Message:
    answer = await service.raw(request)
    assert STATUS.findall(answer[:20]) == [str(status).encode()], (request, answer[:300])
    head = head_of(answer)
    for name, value in ALWAYS.items():
        assert head.get_all(name) == [value], (request, name)
    assert head["Cache-Control"], request
    assert "aiohttp" not in str(head).lower()
    return head


def is_named_safely(fields: Message) -> None:
    assert not {"x-evil", "set-cookie"} & {name.lower() for name in fields}
    (disposition,) = fields.get_all("Content-Disposition", [])
    name = fields.get_filename()
    assert disposition.startswith("attachment; ")
    assert name
    assert name.endswith(".mp3")
    assert not set(name) & set('"\\/\r\n\x00\u202e\u2066')


def hostile_titles(count: int) -> list[str]:
    chance = random.Random(16)
    alphabets = [
        [chr(n) for n in range(0x100)],
        [*"\"\\/;=%'*(){}[]<>:?|\r\n\t\x00\x1b ", "\u202e", "\u2066", "\u2028", "\ud800", "\U0001f600", "a", "."],
    ]
    titles = ["a\r\nX-Evil: 1", "a\nSet-Cookie: x=1", "\x00\x7f\ud800", '"; filename="evil.exe', "é" * 500, ""]
    while len(titles) < count:
        alphabet = chance.choice(alphabets)
        titles.append("".join(chance.choice(alphabet) for _ in range(chance.choice((1, 8, 40, 300)))))
    return titles


async def test_3000_hostile_titles_drop_no_connection_and_add_no_field(tmp_path: Path) -> None:
    """Through the real sender and the real server below it, on one connection for each hundred."""
    content = content_of(VIDEO, 100)
    (tmp_path / "track.mp3").write_bytes(content)
    titles = hostile_titles(3000)
    track = Track(
        file_name="track.mp3", size_bytes=len(content), duration_seconds=1.0, sha256="0" * 64, published_at=1.0e9
    )
    sender = Sender(
        shelf=LocalShelf(tmp_path),
        client_max_downloads=0,
        count_bytes=lambda _: None,
    )

    async def download(request: web.Request) -> web.StreamResponse:
        metadata = Metadata(
            title=titles[int(request.match_info["n"])], uploader=None, duration_seconds=1.0, thumbnail_url=None
        )
        return await sender.send(request, track, metadata, DEFAULT_RECIPE, ClientId("addr:127.0.0.1"))

    middleware = RequestMiddleware(Metrics(), cors_origins=frozenset(), is_draining=lambda: False)
    app = web.Application(middlewares=[middleware.handle])
    app.on_response_prepare.append(middleware.add_headers)
    app.router.add_get("/{n}", download)
    runner = Runner(app, shutdown_seconds=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        for start in range(0, len(titles), 100):
            reader, writer = await asyncio.open_connection(host, port)
            for number in range(start, start + 100):
                writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for number in range(start, start + 100):
                async with asyncio.timeout(5):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert await reader.readexactly(100) == content
                assert head.startswith(b"HTTP/1.1 200 "), (titles[number], head)
                is_named_safely(head_of(head))
            writer.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("title", ["a\r\nX-Evil: 1", "\x00\x7f\u202e", '","status":"x'])
async def test_a_hostile_title_from_a_converter_is_served(service: Stand, title: str) -> None:
    service.converter.title = title
    job = await service.ended((await service.submit(VIDEO))["job_id"])
    assert job["status"] == "completed"
    async with service.client.get(service.url + job["download_url"]) as response:
        assert (response.status, await response.read()) == (200, content_of(VIDEO))
        assert "X-Evil" not in response.headers


CHUNKED = (
    b"POST /extract HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)

ODD: dict[str, tuple[bytes, set[int]]] = {
    "A077 paths in headers": (asked("GET /status/x", "X-Accel-Redirect: /x", "X-Original-URL: /stats"), {404}),
    "A077 method in a header": (asked("POST /stats", "X-HTTP-Method-Override: GET", "Content-Length: 0"), {405}),
    "A085 nothing acceptable": (asked("GET /health/live", "Accept: */*;q=0"), {200}),
    "A085 a long Accept-Encoding": (asked("GET /health/live", "Accept-Encoding: " + "gzip," * 1500), {200}),
    "an absolute target whose host is no name": (asked("GET http://xn--a/health/live"), {200}),
    "an absolute target of another scheme": (asked("GET ftp://evil.example/health/live"), {200}),
    **{
        f"Host: {host}": (f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(), {400})
        for host in ("a b", "evil@x", "x/evil", "x:evil", "[::1", "<evil>", "x?evil", "\u00e9", '"x"', "x:-1")
    },
    **{
        f"Host: {host}": (f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(), {200})
        for host in ("", "_x.y-z~", "[::1]:8080", "10.0.0.1:", "x%41")
    },
    "A087 FOO": (asked("FOO /stats"), {400, 405}),
    "A087 lower-case get": (asked("get /stats"), {400, 405}),
    "A087 CONNECT": (asked("CONNECT x:443"), {400, 404, 405}),
    "A089 length 5,5": (post("Content-Length: 5,5", "Content-Type: application/json", body=b"hello"), {400}),
    "A089 length empty": (post("Content-Length: ", "Content-Type: application/json"), {400}),
    "A089 length of digits of another script": (
        asked("POST /extract", "Content-Type: application/json")[:-2] + "Content-Length: ٥\r\n\r\nhello".encode(),
        {400},
    ),
    "A090 a chunk extension of 64 kB": (CHUNKED + b"1;" + b"x" * 65_536 + b"\r\n{\r\n0\r\n\r\n", {400, 413}),
    "A090 a chunk size of a bare LF": (CHUNKED + b"1\n{\n0\n\n", {400}),
    "A090 a negative chunk": (CHUNKED + b"-1\r\n{\r\n0\r\n\r\n", {400}),
    "A090 a trailer with Host": (CHUNKED + b"26\r\n%s\r\n0\r\nHost: evil\r\n\r\n" % GOOD, {202, 400}),
    "A090 100,000 chunks of a byte": (CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", {400, 413}),
    "A091 HTTP/0.9": (b"GET /health/live\r\n\r\n", {400}),
    "A091 HTTP/1.0 without Host": (b"GET /health/live HTTP/1.0\r\n\r\n", {200, 400}),
    "A103 1,000 unknown fields": (post(body=b"{" + b",".join(b'"%d":1' % n for n in range(500)) + b"}"), {400}),
    "A105 a megabyte of keys": (post("Content-Length: 1000000", "Content-Type: application/json", body=b"{"), {413}),
    "A118 two slashes": (asked("GET //status/x"), {404}),
    "A118 a dot": (asked("GET /./status/x"), {404}),
    "A118 a parameter": (asked("GET /status/x;v=1"), {404}),
    "A118 a foreign host as target": (asked("GET http://evil.example/status/x"), {404}),
    "A118 a protocol-relative target": (asked("GET //evil.example/%2f.."), {404}),
    "A118 a star": (asked("GET *"), {400, 404}),
    "A119 a file": (asked("GET /openapi.json~"), {404}),
    "A126 10,000 ranges": (asked("GET /status/x", "Range: bytes=" + ",".join("0-0" for _ in range(1500))), {404}),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_request_gets_a_plain_answer(service: Stand, name: str) -> None:
    request, statuses = ODD[name]
    before = time.process_time()
    answer = await service.raw(request)
    found = [int(status) for status in STATUS.findall(answer)]
    assert len(found) == 1, answer
    assert found[0] in statuses, answer
    assert b"Location: " not in answer or found[0] == 202
    assert b"evil" not in answer
    assert time.process_time() - before < 1.0


def closing_with_reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def test_who_closes_only_its_own_side_gets_its_answers_and_then_an_end(service: Stand) -> None:
    path = (await service.ended((await service.submit(VIDEO))["job_id"]))["download_url"]
    kept = asked(f"GET {path}").replace(b"Connection: close\r\n", b"")
    cut = post(body=GOOD)[:-3]
    for request, statuses in (
        (kept, [b"200"]), (kept * 5, [b"200"] * 5), (post(), [b"200"]), (b"GARBAGE\r\n\r\n", [b"400"]),
        # What can never be whole is answered by nothing, at once.
        (b"", []), (kept[:30], []), (cut, []),
    ):  # fmt: skip
        begun_at = time.monotonic()
        answer = await exchange(service.host, service.port, request, seconds=5, is_all=True)
        assert STATUS.findall(answer) == statuses, (request, answer)
        assert time.monotonic() - begun_at < 2
    reader, writer = await asyncio.open_connection(service.host, service.port)
    writer.write(kept)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(len(content_of(VIDEO))) == content_of(VIDEO)
    writer.write_eof()
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("manner", ["close", "half-close", "reset", "reset in the body", "reset in the head"])
async def test_a_client_that_leaves_spoils_nothing(
    service: Stand, manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A095: the job is kept if its request was whole, and nothing is if not; no traceback either way."""
    request = post()
    before = await service.service.store.counts()
    cut = {"reset in the body": request[:-9], "reset in the head": request[:30]}.get(manner, request)
    for _ in range(20):
        peer = socket.create_connection((service.host, service.port))
        peer.sendall(cut)
        if manner == "half-close":
            peer.shutdown(socket.SHUT_WR)
            peer.setblocking(False)
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_recv(peer, 4096)
            peer.close()
        elif manner == "close":
            peer.close()
        else:
            closing_with_reset(peer)
    async with service.client.get(f"{service.url}/health") as response:
        assert response.status == 200
    counts = await service.service.store.counts()
    if cut != request:
        assert counts == before
    assert not [record for record in caplog.records if record.exc_info], caplog.text


async def test_every_wrong_key_gets_one_answer_and_no_body_is_asked_for(tmp_path: Path) -> None:
    """A078, A083."""
    secret = new_secret(b"a" * 24)
    (tmp_path / "keys").write_text(key_line("mine", secret) + "\n")
    async with stand(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys")) as service:
        presented: tuple[tuple[str, ...], ...] = (
            (), ("Authorization: Bearer",), ("Authorization: Bearer  x",), (f"Authorization: Basic {secret}",),
            ("Authorization: Bearer cl\xe9",), ("X-API-Key: cl\xe9",), ("X-API-Key: " + "x" * 8000,),
            (f"X-API-Key: {secret}", f"X-API-Key: {secret}"), (f"Authorization: Bearer {secret[:-1]}",),
            (f"Authorization: {secret}",), (f"X-API-Key: {secret.upper()}",), (f"X-API-Key: {secret} {secret}",),
        )  # fmt: skip
        body = ("Content-Type: application/json", f"Content-Length: {len(GOOD)}", "Expect: 100-continue")
        # At once: each connection lingers for the body that was announced.
        answers = await asyncio.gather(*(service.raw(asked("POST /extract", *body, *fields)) for fields in presented))
        assert {answer[:13] for answer in answers} == {b"HTTP/1.1 401 "}
        assert len({answer.partition(b"\r\n\r\n")[2] for answer in answers}) == 1
        refused = await service.raw(asked("GET /stats", "X-API-Key: a\x00b"))
        assert STATUS.findall(refused) == [b"400"]
        counts = await service.service.store.counts()
        assert counts.pending + counts.completed == 0


async def test_metrics_stay_few_and_name_nobody_whatever_is_asked(service: Stand) -> None:
    """S11: no path, id, link or address is a label."""
    chance = random.Random(11)
    for number in range(100):
        name = chance.randbytes(8).hex()
        for request in (
            f"GET /{name}",
            f"{name[:5].upper()} /status/{name}",
            f"GET /status/{name}?{name}",
            f"PUT /{name}",
        ):
            await service.raw(asked(request, f"X-Forwarded-For: 192.0.2.{number}", f"X-Request-Id: {name}"), seconds=2)
    async with service.client.get(f"{service.url}/metrics") as response:
        text = await response.text()
    series = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len([line for line in series if "ytmp3_http_requests" in line]) < 40
    assert len(series) <= 400
    assert "192.0.2." not in text
