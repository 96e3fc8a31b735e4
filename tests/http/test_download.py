"""Ranges and conditions of a download (RFC 9110), over a socket; `core/test_conditions` has the model."""

import asyncio
import contextlib
import os
import random
import re
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDictProxy

from tests.core.values import METADATA, TRACK
from tests.fakes import RemoteShelf, content_of
from tests.http.stand import Stand, stand
from tests.http.test_contract import problem
from ytmp3.core.ids import ClientId
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.download import Sender

VIDEO = "dQw4w9WgXcQ"
SIZE = 10_240
BODY = content_of(VIDEO)


@pytest.fixture
async def track(service: Stand) -> tuple[Stand, str]:
    job = await service.ended((await service.submit(VIDEO))["job_id"])
    return service, f"/download/{job['job_id']}.mp3"


async def fetch(
    service: Stand, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, CIMultiDictProxy[str]]:
    async with service.client.request(method, service.url + path, headers=headers) as response:
        return response.status, await response.read(), response.headers


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("bytes=0-9", 0, 9), ("bytes=10239-", 10239, 10239), ("bytes=-5", 10235, 10239), ("bytes=-99999", 0, 10239),
        ("bytes=0-99999999999999999999999", 0, 10239), ("bytes=100-199", 100, 199),
    ],
)  # fmt: skip
async def test_a_range_gives_just_those_bytes(track: tuple[Stand, str], field: str, first: int, last: int) -> None:
    service, path = track
    status, body, headers = await fetch(service, path, Range=field)
    assert (status, body) == (206, BODY[first : last + 1])
    assert headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"


@pytest.mark.parametrize("field", ["bytes=10240-", "bytes=99999999999999999999999-", "bytes=-0"])
async def test_a_range_outside_is_a_416(track: tuple[Stand, str], field: str) -> None:
    service, path = track
    headers = await problem(service, "GET", path, 416, "range_not_satisfiable", headers={"Range": field})
    assert headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "field",
    ["items=0-5", "bytes=0-0,5-6", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=--5", "bytes=0-5-9", "bytes 0-5", "=",
     "bytes=" + ",".join("0-1" for _ in range(300))],
)  # fmt: skip
async def test_other_ranges_are_ignored(track: tuple[Stand, str], field: str) -> None:
    service, path = track
    assert (await fetch(service, path, Range=field))[:2] == (200, BODY)


async def test_a_resume_after_the_file_changed_gets_the_whole_new_file(track: tuple[Stand, str]) -> None:
    service, path = track
    etag = (await fetch(service, path))[2]["ETag"]
    modified = (await fetch(service, path))[2]["Last-Modified"]
    part = {"Range": "bytes=5-"}
    for validator in ('"another"', f"W/{etag}", "garbage", "Mon, 01 Jan 2001 00:00:00 GMT"):
        assert (await fetch(service, path, **part, **{"If-Range": validator}))[:2] == (200, BODY)
    for validator in (etag, modified):
        assert (await fetch(service, path, **part, **{"If-Range": validator}))[:2] == (206, BODY[5:])


async def test_conditions_are_judged_before_ranges(track: tuple[Stand, str]) -> None:
    service, path = track
    _, _, headers = await fetch(service, path)
    etag, modified = headers["ETag"], headers["Last-Modified"]
    for field in (etag, f"W/{etag}", "*", ", ".join(f'"{n}"' for n in range(300)) + f", {etag}"):
        status, body, answer = await fetch(service, path, **{"If-None-Match": field, "Range": "bytes=0-1"})
        assert (status, body, answer["ETag"]) == (304, b"", etag)
    assert (await fetch(service, path, **{"If-Modified-Since": modified}))[0] == 304
    assert (await fetch(service, path, **{"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}))[0] == 200
    await problem(service, "GET", path, 412, "precondition_failed", headers={"If-Match": '"another"'})
    past = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    await problem(service, "GET", path, 412, "precondition_failed", headers=past)
    assert (await fetch(service, path, **{"If-Match": f'"x", {etag}'}))[0] == 200


async def test_head_ignores_ranges(track: tuple[Stand, str]) -> None:
    service, path = track
    status, body, headers = await fetch(service, path, "HEAD", Range="bytes=0-1")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(SIZE))


async def test_a_compressed_sibling_is_never_served(track: tuple[Stand, str]) -> None:
    service, path = track
    (file,) = (service.data_dir / "tracks").glob("*.mp3")
    file.with_name(file.name + ".gz").write_bytes(b"trap")
    status, body, headers = await fetch(service, path, **{"Accept-Encoding": "gzip"})
    assert (status, body) == (200, BODY)
    assert "Content-Encoding" not in headers


@pytest.mark.parametrize("change", ["delete", "shorten", "link"])
async def test_a_file_that_is_not_the_verified_one_is_gone(
    track: tuple[Stand, str], change: str, tmp_path: Path
) -> None:
    service, path = track
    (file,) = (service.data_dir / "tracks").glob("*.mp3")
    match change:
        case "delete":
            file.unlink()
        case "shorten":
            file.write_bytes(BODY[:100])
        case _:
            other = tmp_path / "other"
            other.write_bytes(BODY)
            file.unlink()
            file.symlink_to(other)
    await problem(service, "GET", path, 410, "expired")


async def test_a_lost_file_is_made_again_for_the_next_job(track: tuple[Stand, str]) -> None:
    service, _ = track
    (file,) = (service.data_dir / "tracks").glob("*.mp3")
    file.unlink()
    job = await service.ended((await service.submit(VIDEO))["job_id"])
    assert (await fetch(service, job["download_url"]))[:2] == (200, BODY)
    assert service.converter.converted == [VIDEO, VIDEO]


async def test_a_transfer_under_way_outlives_its_file(tmp_path: Path) -> None:
    async with stand(tmp_path / "data") as service:
        service.converter.size_bytes = 20_000_000
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        async with service.client.get(service.url + job["download_url"]) as response:
            start = await response.content.readexactly(1000)
            for file in (service.data_dir / "tracks").glob("*.mp3"):
                file.unlink()
            rest = await response.read()
        assert start + rest == content_of(VIDEO, 20_000_000)


async def test_a_transfer_whose_file_is_cut_short_is_cut_too_and_nothing_else_takes_its_place(tmp_path: Path) -> None:
    """H04: on a connection that stays, the next answer would be taken for the missing bytes."""
    size, cut = 50_000_000, 30_000_000  # both more than the socket buffers of both sides hold
    async with stand(tmp_path / "data") as service:
        service.converter.size_bytes = size
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        (file,) = (service.data_dir / "tracks").glob("*.mp3")
        reader, writer = await asyncio.open_connection(service.host, service.port)
        received = bytearray()
        try:
            request = f"GET {job['download_url']} HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(request.encode() + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert f"Content-Length: {size}".encode() in await reader.readuntil(b"\r\n\r\n")
            os.truncate(file, cut)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    while chunk := await reader.read(1_000_000):
                        received += chunk
        finally:
            writer.close()
        assert received == content_of(VIDEO, size)[: len(received)]
        assert len(received) <= cut
        async with service.client.get(f"{service.url}/metrics") as response:
            counted = re.search(r"^ytmp3_track_bytes_sent_total (\S+)$", await response.text(), re.MULTILINE)
        assert counted
        assert float(counted[1]) == cut
        assert service.service.sender.active == 0


async def test_a_reader_that_leaves_frees_its_place(tmp_path: Path) -> None:
    async with stand(tmp_path / "data") as service:
        service.converter.size_bytes = 20_000_000
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        for _ in range(5):
            response = await service.client.get(service.url + job["download_url"])
            await response.content.readexactly(1000)
            response.close()
        async with asyncio.timeout(10):
            while service.service.sender.active:
                await asyncio.sleep(0.01)


async def test_nginx_is_told_where_the_file_is(tmp_path: Path) -> None:
    async with stand(tmp_path / "data", ACCEL_REDIRECT_PREFIX="/protected-tracks/") as service:
        job = await service.ended((await service.submit(VIDEO))["job_id"])
        status, body, headers = await fetch(service, job["download_url"])
        (file,) = (service.data_dir / "tracks").glob("*.mp3")
        assert (status, body) == (200, b"")
        assert headers["X-Accel-Redirect"] == f"/protected-tracks/{file.name}"
        assert headers["ETag"].strip('"') == job["file"]["sha256"]
        # nginx would judge these once more, and is not as forgiving: what it would refuse is sent by the service.
        for field in ({"If-Match": headers["ETag"]}, {"If-Unmodified-Since": "tomorrow"}):
            status, body, headers = await fetch(service, job["download_url"], **field)
            assert (status, body) == (200, BODY)
            assert "X-Accel-Redirect" not in headers
        file.unlink()
        await problem(service, "GET", job["download_url"], 410, "expired")


async def test_random_ranges_agree_with_slices(track: tuple[Stand, str]) -> None:
    service, path = track
    chance = random.Random(7)
    for _ in range(300):
        first, last = sorted(chance.randrange(SIZE) for _ in range(2))
        status, body, _ = await fetch(service, path, Range=f"bytes={first}-{last}")
        assert (status, body) == (206, BODY[first : last + 1])


async def test_a_track_on_a_remote_shelf_is_a_temporary_redirect() -> None:
    sender = Sender(shelf=RemoteShelf(), client_max_downloads=0, count_bytes=lambda _: None)
    request = make_mocked_request("GET", "/download/ID.mp3")
    response = await sender.send(request, TRACK, METADATA, DEFAULT_RECIPE, ClientId("addr:192.0.2.1"))
    assert response.status == 307
    assert response.headers["Location"] == f"https://tracks.example/{TRACK.file_name}"
    assert sender.active == 0
