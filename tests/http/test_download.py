"""Ranges and preconditions of a download (RFC 9110) over a socket; tests/core/test_preconditions.py has the model."""

import asyncio
import contextlib
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDictProxy

from tests.core.values import METADATA, TRACK, VIDEO_ID
from tests.fakes import CONTENT_BYTES, content_of
from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.remote_shelf import RemoteShelf
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import PATIENCE_SECONDS, until
from ytmp3.core.errors import StoreDown
from ytmp3.core.ids import ClientId
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.http.download import Sender

VIDEO = "dQw4w9WgXcQ"
CONTENT = content_of(VIDEO)


@pytest.fixture
async def track(service: RunningService) -> tuple[RunningService, str]:
    job = await service.completed(VIDEO)
    return service, f"/download/{job['job_id']}.mp3"


async def fetch(
    service: RunningService, path: str, method: str = "GET", **headers: str
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
async def test_a_range_is_answered_with_exactly_its_bytes(
    track: tuple[RunningService, str], field: str, first: int, last: int
) -> None:
    service, path = track
    status, body, headers = await fetch(service, path, Range=field)
    assert (status, body) == (206, CONTENT[first : last + 1])
    assert headers["Content-Range"] == f"bytes {first}-{last}/{CONTENT_BYTES}"


@pytest.mark.parametrize("field", ["bytes=10240-", "bytes=99999999999999999999999-", "bytes=-0"])
async def test_a_range_outside_the_track_is_a_416(track: tuple[RunningService, str], field: str) -> None:
    service, path = track
    headers = await expect_problem(service, "GET", path, 416, "range_not_satisfiable", headers={"Range": field})
    assert headers["Content-Range"] == f"bytes */{CONTENT_BYTES}"


@pytest.mark.parametrize(
    "field",
    ["items=0-5", "bytes=0-0,5-6", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=--5", "bytes=0-5-9", "bytes 0-5", "=",
     "bytes=" + ",".join("0-1" for _ in range(300))],
)  # fmt: skip
async def test_a_malformed_or_multiple_range_is_ignored(track: tuple[RunningService, str], field: str) -> None:
    service, path = track
    assert (await fetch(service, path, Range=field))[:2] == (200, CONTENT)


async def test_a_resume_after_the_file_changed_gets_the_whole_new_file(track: tuple[RunningService, str]) -> None:
    service, path = track
    etag = (await fetch(service, path))[2]["ETag"]
    modified = (await fetch(service, path))[2]["Last-Modified"]
    part = {"Range": "bytes=5-"}
    for validator in ('"another"', f"W/{etag}", "garbage", "Mon, 01 Jan 2001 00:00:00 GMT"):
        assert (await fetch(service, path, **part, **{"If-Range": validator}))[:2] == (200, CONTENT)
    for validator in (etag, modified):
        assert (await fetch(service, path, **part, **{"If-Range": validator}))[:2] == (206, CONTENT[5:])


async def test_preconditions_are_evaluated_before_ranges(track: tuple[RunningService, str]) -> None:
    service, path = track
    _, _, headers = await fetch(service, path)
    etag, modified = headers["ETag"], headers["Last-Modified"]
    for field in (etag, f"W/{etag}", "*", ", ".join(f'"{n}"' for n in range(300)) + f", {etag}"):
        status, body, answer = await fetch(service, path, **{"If-None-Match": field, "Range": "bytes=0-1"})
        assert (status, body, answer["ETag"]) == (304, b"", etag)
    assert (await fetch(service, path, **{"If-Modified-Since": modified}))[0] == 304
    assert (await fetch(service, path, **{"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}))[0] == 200
    await expect_problem(service, "GET", path, 412, "precondition_failed", headers={"If-Match": '"another"'})
    past = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    await expect_problem(service, "GET", path, 412, "precondition_failed", headers=past)
    assert (await fetch(service, path, **{"If-Match": f'"x", {etag}'}))[0] == 200


async def test_head_ignores_a_range(track: tuple[RunningService, str]) -> None:
    service, path = track
    status, body, headers = await fetch(service, path, "HEAD", Range="bytes=0-1")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(CONTENT_BYTES))


async def test_a_compressed_file_beside_the_track_is_never_served(track: tuple[RunningService, str]) -> None:
    service, path = track
    (file,) = (service.data_dir / "tracks").glob("*.mp3")
    file.with_name(file.name + ".gz").write_bytes(b"trap")
    status, body, headers = await fetch(service, path, **{"Accept-Encoding": "gzip"})
    assert (status, body) == (200, CONTENT)
    assert "Content-Encoding" not in headers


@pytest.mark.parametrize("change", ["delete", "shorten", "link"])
async def test_a_track_whose_file_was_changed_or_deleted_is_gone(
    track: tuple[RunningService, str], change: str, tmp_path: Path
) -> None:
    service, path = track
    (file,) = (service.data_dir / "tracks").glob("*.mp3")
    match change:
        case "delete":
            file.unlink()
        case "shorten":
            file.write_bytes(CONTENT[:100])
        case _:
            other = tmp_path / "other"
            other.write_bytes(CONTENT)
            file.unlink()
            file.symlink_to(other)
    await expect_problem(service, "GET", path, 410, "expired")


async def test_a_track_whose_file_is_lost_is_converted_again_for_the_next_job(
    track: tuple[RunningService, str],
) -> None:
    service, _ = track
    (file,) = (service.data_dir / "tracks").glob("*.mp3")
    file.unlink()
    job = await service.completed(VIDEO)
    assert (await fetch(service, job["download_url"]))[:2] == (200, CONTENT)
    assert service.converter.order == [VIDEO, VIDEO]


async def test_a_transfer_continues_after_its_file_was_deleted(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.size_bytes = 20_000_000
        job = await service.completed(VIDEO)
        async with service.client.get(service.url + job["download_url"]) as response:
            start = await response.content.readexactly(1000)
            for file in (service.data_dir / "tracks").glob("*.mp3"):
                file.unlink()
            rest = await response.read()
        assert start + rest == content_of(VIDEO, 20_000_000)


async def test_a_transfer_whose_file_is_truncated_ends_with_its_connection(tmp_path: Path) -> None:
    """On a kept connection the client would take the next response for the missing bytes."""
    size, cut = 50_000_000, 30_000_000  # both more than the socket buffers of both sides hold
    async with running_service(tmp_path / "data") as service:
        service.converter.size_bytes = size
        job = await service.completed(VIDEO)
        (file,) = (service.data_dir / "tracks").glob("*.mp3")
        reader, writer = await asyncio.open_connection(service.host, service.port)
        received = bytearray()
        try:
            request = f"GET {job['download_url']} HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(request.encode() + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert f"Content-Length: {size}".encode() in await reader.readuntil(b"\r\n\r\n")
            os.truncate(file, cut)
            async with asyncio.timeout(PATIENCE_SECONDS):
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
        await until(lambda: service.parts.sender.active == 0, "no transfer is counted any more")


async def test_a_client_that_leaves_during_a_transfer_frees_its_place(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.size_bytes = 20_000_000
        job = await service.completed(VIDEO)
        for _ in range(5):
            response = await service.client.get(service.url + job["download_url"])
            await response.content.readexactly(1000)
            response.close()
        await until(lambda: service.parts.sender.active == 0, "no transfer is counted any more")


async def test_behind_nginx_the_response_names_the_file_instead_of_sending_it(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", ACCEL_REDIRECT_PREFIX="/protected-tracks/") as service:
        job = await service.completed(VIDEO)
        status, body, headers = await fetch(service, job["download_url"])
        (file,) = (service.data_dir / "tracks").glob("*.mp3")
        assert (status, body) == (200, b"")
        assert headers["X-Accel-Redirect"] == f"/protected-tracks/{file.name}"
        assert headers["ETag"].strip('"') == job["file"]["sha256"]
        # nginx would evaluate these again, and wrongly, so the service sends the file itself.
        for field in ({"If-Match": headers["ETag"]}, {"If-Unmodified-Since": "tomorrow"}):
            status, body, headers = await fetch(service, job["download_url"], **field)
            assert (status, body) == (200, CONTENT)
            assert "X-Accel-Redirect" not in headers
        file.unlink()
        await expect_problem(service, "GET", job["download_url"], 410, "expired")


async def test_random_ranges_are_answered_like_slices_of_the_content(track: tuple[RunningService, str]) -> None:
    service, path = track
    chance = random.Random(7)
    for _ in range(300):
        first, last = sorted(chance.randrange(CONTENT_BYTES) for _ in range(2))
        status, body, _ = await fetch(service, path, Range=f"bytes={first}-{last}")
        assert (status, body) == (206, CONTENT[first : last + 1])


async def test_a_download_expires_by_the_clock_of_the_store_and_not_of_this_machine(
    track: tuple[RunningService, str],
) -> None:
    service, path = track
    # The sweep is held, so that the record is still there when its time is over.
    service.store.held_calls["expire"] = asyncio.Event()
    assert (await fetch(service, path))[0] == 200
    service.store_clock.shift_seconds = 25 * 3600.0
    await expect_problem(service, "GET", path, 410, "expired")
    # A track that was published while the store's clock was ahead is downloadable: it expires by that clock as well.
    later = (await service.completed("later______"))["download_url"]
    assert (await fetch(service, later))[:2] == (200, content_of("later______"))
    service.store_clock.shift_seconds = 0.0
    assert (await fetch(service, path))[:2] == (200, CONTENT)


async def test_a_download_is_a_503_while_the_store_cannot_tell_the_time(track: tuple[RunningService, str]) -> None:
    service, path = track
    service.store.broken["retention_time"] = StoreDown("no answer")
    await expect_problem(service, "GET", path, 503, "store_unavailable")


@pytest.mark.fuzz
async def test_a_resume_never_mixes_two_files(tmp_path: Path) -> None:
    """80 times a track is lost and made again, with other content, between the two parts of a download."""
    chance = random.Random(2)
    videos = [f"video{number:06d}" for number in range(80)]

    async def made(service: RunningService, size: int) -> dict[str, dict[str, Any]]:
        """Delete all tracks, and have one of this size made of each video."""
        for file in (service.data_dir / "tracks").glob("*.mp3"):
            file.unlink()
        service.converter.size_bytes = size
        return dict(zip(videos, await asyncio.gather(*map(service.completed, videos)), strict=True))

    async def resume(service: RunningService, video: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        content = content_of(video, size + 1)
        headers = {"Range": f"bytes={chance.randrange(size)}-", "If-Range": f'"{old["file"]["sha256"]}"'}
        assert (await fetch(service, old["download_url"], **headers))[0] == 410
        status, body, fields = await fetch(service, new["download_url"], **headers)
        assert (status, body) == (200, content)
        assert fields["ETag"] != headers["If-Range"]
        headers["If-Range"] = f'"{new["file"]["sha256"]}"'
        status, body, _ = await fetch(service, new["download_url"], **headers)
        assert status == 206
        assert content.endswith(body)

    async with running_service(tmp_path / "data") as service:
        for size in range(10_000, 10_000 + 2 * FUZZ_FACTOR, 2):
            old, new = await made(service, size), await made(service, size + 1)
            await asyncio.gather(*(resume(service, video, old[video], new[video]) for video in videos))


async def test_a_track_on_a_remote_shelf_is_a_temporary_redirect() -> None:
    sender = Sender(shelf=RemoteShelf(), client_max_downloads=0, count_bytes=lambda _: None)
    request = make_mocked_request("GET", "/download/ID.mp3")
    response = await sender.send(request, TRACK, METADATA, VIDEO_ID, DEFAULT_RECIPE, ClientId("addr:192.0.2.1"))
    assert response.status == 307
    assert response.headers["Location"] == f"https://tracks.example/{TRACK.file_name}"
    assert sender.active == 0
