"""Downloads through nginx from the real app, compared with a model: the bytes of the track, and slices of them."""

import asyncio
import hashlib
import json
import random
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.fakes import content_of
from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.hostile_titles import assert_is_named_safely, hostile_titles
from tests.http.responses import head_of
from tests.stand.nginx import running_nginx
from tests.stand.waiting import PATIENCE_SECONDS
from tests.system.behind_nginx import ACCEL_PREFIX, BehindNginx, behind_nginx
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.job import Metadata, Track
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.connection_limit import MAX_DESCRIPTORS, ConnectionLimit
from ytmp3.http.connections import Runner
from ytmp3.http.download import Sender
from ytmp3.http.middleware import RequestMiddleware
from ytmp3.metrics import Metrics
from ytmp3.storage.local import LocalShelf

pytestmark = pytest.mark.fuzz

VIDEO = "dQw4w9WgXcQ"
SIZE = 10_240
BODY = content_of(VIDEO)
PAST = "Mon, 01 Jan 2001 00:00:00 GMT"

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Finished:
    """A completed job behind nginx."""

    site: BehindNginx
    job: dict[str, Any]

    @property
    def etag(self) -> str:
        return f'"{self.job["file"]["sha256"]}"'

    async def modified(self) -> str:
        async with self.site.service.client.get(self.site.url + self.job["download_url"]) as response:
            return response.headers["Last-Modified"]

    async def agrees(self, fields: Fields, statuses: set[int], part: bytes | None = None, method: str = "GET") -> None:
        """Send a request, and compare the response with the model; a 206 must have `part` as its body."""
        url = self.site.url + self.job["download_url"]
        async with self.site.service.client.request(method, url, headers=CIMultiDict(fields)) as response:
            body = await response.read()
            assert response.status in statuses, (fields, response.status)
            if method == "HEAD":
                assert body == b""
                return
            match response.status:
                case 200:
                    assert body == BODY, fields
                case 206:
                    assert body == part, fields
                    place = re.fullmatch(rf"bytes (\d+)-(\d+)/{SIZE}", response.headers["Content-Range"])
                    assert place, fields
                    assert body == BODY[int(place[1]) : int(place[2]) + 1]
                case 304:
                    assert body == b""
                case _:
                    assert response.content_type == "application/problem+json", fields
                    assert json.loads(body)["status"] == response.status
            if response.status == 416:
                assert response.headers["Content-Range"] == f"bytes */{SIZE}"
            if response.status in {200, 206, 304}:
                assert response.headers.getall("ETag") == [self.etag]


@asynccontextmanager
async def finished(folder: Path) -> AsyncIterator[Finished]:
    async with behind_nginx(folder) as site:
        job = await site.service.ended((await site.service.submit(VIDEO))["job_id"])
        yield Finished(site, job)
        assert site.complaints() == []


RANGES: dict[str, tuple[set[int], bytes | None]] = {
    "bytes=0-9": ({206}, BODY[:10]),
    "bytes=10239-": ({206}, BODY[-1:]),
    "bytes=-5": ({206}, BODY[-5:]),
    "bytes=-99999": ({206}, BODY),
    "bytes=0-999999999999999999": ({206}, BODY),
    "bytes=0-99999999999999999999999": ({206}, BODY),
    "bytes=10240-": ({416}, None),
    "bytes=99999999999999999999999-": ({416}, None),
    "bytes=-0": ({416}, None),
    "bytes=0-0,5-6": ({200}, None),
    "bytes=" + ",".join("0-" for _ in range(300)): ({200}, None),
    "bytes=" + ",".join(f"{n}-{n}" for n in range(300)): ({200}, None),
    "items=0-5": ({200}, None),
    **dict.fromkeys(("bytes=5-2", "bytes=a-b", "bytes=", "=", "bytes=--5", "bytes=0-5-9"), ({200, 416}, None)),
    **dict.fromkeys(("bytes 0-5", "bytes = 0-5"), ({200, 416}, None)),
    # Satisfiable, because a recipient ignores empty list elements (RFC 9110, section 5.6.1).
    **dict.fromkeys(("bytes=,0-4", "bytes=0-4,", "bytes=0-4 , ", "bytes=0-4,,6-7"), ({200}, None)),
    "bytes=\t0-4": ({200, 206}, BODY[:5]),
}


async def test_ranges_and_preconditions_are_answered_through_nginx_as_by_the_service(tmp_path: Path) -> None:
    async with finished(tmp_path) as track:
        etag, modified = track.etag, await track.modified()
        for field, (statuses, part) in RANGES.items():
            await track.agrees([("Range", field)], statuses, part)
        for validator in (etag, modified):
            await track.agrees([("Range", "bytes=5-9"), ("If-Range", validator)], {206}, BODY[5:10])
        for validator in ('"other"', f"W/{etag}", PAST, "garbage", ""):
            await track.agrees([("Range", "bytes=5-9"), ("If-Range", validator)], {200})
        await track.agrees([("Range", "bytes=0-4"), ("Range", "bytes=5-9")], {200, 206}, BODY[:5])
        for field in ("bytes=0-4", "bytes=-0", f"bytes={SIZE}-", "bytes=a-b", "bytes=0-4,6-7"):
            await track.agrees([("Range", field)], {200}, method="HEAD")
        for field in (etag, f"W/{etag}", "*", ", ".join([*(f'"{n}"' for n in range(300)), etag])):
            await track.agrees([("If-None-Match", field)], {304})
            await track.agrees([("If-None-Match", field), ("Range", "bytes=0-1")], {304})
        await track.agrees([("If-None-Match", '"other"')], {200})
        await track.agrees([("If-Modified-Since", modified)], {304})
        await track.agrees([("If-Modified-Since", PAST)], {200})
        await track.agrees([("If-Match", '"other"')], {412})
        await track.agrees([("If-Match", etag)], {200})
        await track.agrees([("If-Match", etag), ("Range", "bytes=5-9")], {206}, BODY[5:10])
        await track.agrees([("If-Unmodified-Since", PAST)], {412})
        await track.agrees([("If-Unmodified-Since", modified)], {200})
        await track.agrees([("if-unmodified-since", "garbage")], {200})


def random_ranges(chance: random.Random) -> list[tuple[str, set[int], bytes | None]]:
    """Return one range of each kind, with the statuses that may answer it and the body of a 206."""
    first, last = sorted((chance.randrange(SIZE), chance.randrange(SIZE)))
    beyond = SIZE + chance.randrange(10 ** chance.randint(1, 15))
    nonsense = "".join(chance.choice("0123456789--,ab ") for _ in range(chance.randint(0, 8)))
    return [
        (f"{first}-{last}", {206}, BODY[first : last + 1]),
        (f"{first}-", {206}, BODY[first:]),
        (f"-{last + 1}", {206}, BODY[-last - 1 :]),
        (f"{first}-{beyond}", {206}, BODY[first:]),
        (f"-{beyond}", {206}, BODY),
        (f"{beyond}-", {416}, None),
        (f"{nonsense}x", {200, 416}, None),
    ]


async def test_random_ranges_through_nginx_agree_with_slices(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    async with finished(tmp_path) as track:
        etag, modified = track.etag, await track.modified()
        for _ in range(400 * FUZZ_FACTOR):
            ranges, statuses, part = chance.choice(random_ranges(chance))
            fields = [("Range", f"bytes={ranges}")]
            match chance.randrange(4):
                case 0:
                    fields.append(("If-Range", chance.choice((etag, modified))))
                case 1:
                    fields.append(("If-Range", chance.choice((f"W/{etag}", '"other"', etag[:-2] + '"', PAST, "x"))))
                    statuses, part = {200}, None
            await track.agrees(fields, statuses, part)


async def test_a_download_resumed_after_a_new_encode_never_mixes_two_files(tmp_path: Path) -> None:
    chance = random.Random(2)
    async with behind_nginx(tmp_path) as site:
        client = site.service.client
        old, old_etag = b"", ""
        for edition in range(20 * FUZZ_FACTOR):
            content = content_of(f"{VIDEO} {edition}", SIZE + chance.randrange(5000))
            site.service.converter.contents[VIDEO] = content
            for file in site.tracks.glob("*.mp3"):
                file.unlink()
            job = await site.service.ended((await site.service.submit(VIDEO))["job_id"])
            url = site.url + job["download_url"]
            kept = chance.randrange(1, SIZE)
            resume = {"Range": f"bytes={kept}-"}
            if old_etag:
                async with client.get(url, headers=resume | {"If-Range": old_etag}) as response:
                    assert (response.status, await response.read()) == (200, content)
                async with client.get(url, headers=resume | {"If-Match": old_etag}) as response:
                    assert response.status == 412
            async with client.get(url) as response:
                etag = response.headers["ETag"]
                assert etag != old_etag
                assert await response.read() == content != old
            async with client.get(url, headers=resume | {"If-Range": etag}) as response:
                assert (response.status, await response.read()) == (206, content[kept:])
            old, old_etag = content, etag


async def test_hostile_titles_drop_no_connection_behind_nginx(tmp_path: Path) -> None:
    """With the real sender, two upstreams and one connection: no response is lost, and nginx sends no request twice."""
    titles = hostile_titles(600)
    content = content_of(VIDEO, 100)
    (tmp_path / "track.mp3").write_bytes(content)
    track = Track(
        file_name="track.mp3",
        size_bytes=len(content),
        duration_seconds=1.0,
        sha256=hashlib.sha256(content).hexdigest(),
        published_at=1.0e9,
    )
    sender = Sender(
        shelf=LocalShelf(tmp_path, accel_redirect_prefix=ACCEL_PREFIX),
        client_max_downloads=0,
        count_bytes=lambda _: None,
    )
    asked: list[int] = []

    async def download(request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["n"])
        asked.append(number)
        metadata = Metadata(title=titles[number], uploader=None, duration_seconds=1.0, thumbnail_url=None)
        return await sender.send(request, track, metadata, VideoId(VIDEO), DEFAULT_RECIPE, ClientId("client"))

    upstreams = []
    async with AsyncExitStack() as stack:
        for _ in range(2):
            middleware = RequestMiddleware(Metrics(), cors_origins=frozenset(), is_draining=lambda: False)
            app = web.Application(middlewares=[middleware.handle])
            app.on_response_prepare.append(middleware.add_headers)
            app.router.add_get("/download/{n}", download)
            runner = Runner(app, shutdown_seconds=1.0, limit=ConnectionLimit(MAX_DESCRIPTORS))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            upstreams.append("{}:{}".format(*runner.addresses[0][:2]))
        nginx = await stack.enter_async_context(
            running_nginx(tmp_path / "nginx", upstreams, tmp_path, is_limited=False)
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
        for number in range(len(titles)):
            writer.write(f"GET /download/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), (titles[number], head)
                assert await reader.readexactly(100) == content
            assert_is_named_safely(head_of(head))
        writer.close()
        assert asked == list(range(len(titles)))
        assert " upstream " not in nginx.error_log()


async def test_500_slow_readers_hold_no_file_and_no_transfer_of_the_app(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with behind_nginx(tmp_path) as site, AsyncExitStack() as stack:
        # More than the kernel buffers for a client that reads nothing: the rest waits in nginx.
        site.service.converter.size_bytes = 20_000_000
        job = await site.service.ended((await site.service.submit(VIDEO))["job_id"])
        request = f"GET {job['download_url']} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        readers = []
        for _ in range(500):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, ("127.0.0.1", site.nginx.port))
            await loop.sock_sendall(reader, request)
            readers.append(reader)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for reader in readers:
                assert (await loop.sock_recv(reader, 15)).startswith(b"HTTP/1.1 200 ")
        for number in range(100):
            # A fifth of the clients read a little now and then, the others nothing; they all stay connected.
            for reader in readers[number % 5 * 5 :: 25]:
                await loop.sock_recv(reader, 200)
            async with site.service.client.get(f"{site.url}/status/{job['job_id']}") as response:
                assert response.status == 200
        assert open_tracks(site.tracks) == 0
        assert site.service.parts.sender.active == 0
        async with site.service.client.get(site.url + job["download_url"]) as response:
            assert await response.read() == content_of(VIDEO, 20_000_000)


def open_tracks(folder: Path) -> int:
    """Count the files of a folder that this process, in which the app runs, holds open."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += str(link.readlink()).startswith(str(folder))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return count
