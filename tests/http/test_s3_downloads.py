"""Tracks in a bucket of a real object store: sent through the service, or by the object store itself."""

import asyncio
import io
import zipfile
from pathlib import Path
from uuid import uuid4

import pytest

from tests.core.test_mp4 import whole
from tests.core.test_tag_edits import edited, written
from tests.fakes import content_of
from tests.http.batch_requests import created, ended, video
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.http.test_cover import COVER, LINK, METADATA, tagged
from tests.stand.chaos_proxy import ChaosProxy
from tests.stand.s3_server import S3Server
from tests.stand.waiting import until
from ytmp3.client.api import Api
from ytmp3.client.download import download
from ytmp3.converter.audio.mp4 import pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.tags import tags_of
from ytmp3.core.tag_edits import TagEdits
from ytmp3.http.connections import TIMEOUTS

pytestmark = pytest.mark.xdist_group("s3")

VIDEO = "dQw4w9WgXcQ"
LARGE_BYTES = 2_500_000
"""More than two pieces of `s3_requests.PIECE_BYTES`."""


async def ranges_are_right(service: RunningService, path: str, content: bytes, etag: str) -> None:
    """Check ranges and conditions as for a track on a disk; `etag` is what the service has sent."""
    for given, status, body in (
        ({"Range": "bytes=5-9", "If-Range": etag}, 206, content[5:10]),
        ({"Range": f"bytes={2**20 - 3}-{2**20 + 3}", "If-Match": etag}, 206, content[2**20 - 3 : 2**20 + 4]),
        ({"Range": "bytes=-7", "If-Range": etag}, 206, content[-7:]),
        ({"If-None-Match": etag}, 304, b""),
        ({"If-Match": '"other"'}, 412, None),
        ({"Range": f"bytes={len(content)}-"}, 416, None),
    ):
        async with service.client.get(service.url + path, headers=given) as response:
            assert response.status == status, given
            assert body is None or await response.read() == body


async def the_archive_is_right(service: RunningService, count: int = 3) -> None:
    batch = await ended(service, await created(service, [video(number) for number in range(count)]))
    address = service.url + batch["archive_url"]
    async with service.client.get(address) as response:
        assert response.status == 200
        body = await response.read()
        assert len(body) == int(response.headers["Content-Length"])
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        for number, name in enumerate(archive.namelist()[:count]):
            assert archive.read(name) == content_of(video(number), LARGE_BYTES)
    start = LARGE_BYTES - 10
    async with service.client.get(address, headers={"Range": f"bytes={start}-{start + LARGE_BYTES}"}) as response:
        assert (response.status, await response.read()) == (206, body[start : start + LARGE_BYTES + 1])


async def the_covers_are_right(service: RunningService) -> None:
    mp4 = whole([50, 60], [2])
    service.converter.contents["mp3mp3mp3mp"] = tagged(COVER)
    service.converter.contents["m4am4am4am4"] = b"".join(
        pieces_of_mp4(read_mp4(mp4), mp4, mp4_tags(tags_of(METADATA, LINK, COVER)))
    )
    service.converter.contents["nononononon"] = tagged(None)
    for video_id, extension, cover in (
        ("mp3mp3mp3mp", "mp3", COVER),
        ("m4am4am4am4", "m4a", COVER),
        ("nononononon", "mp3", b""),
    ):
        job = await service.ended((await service.submit(video_id, format=extension))["job_id"])
        async with service.client.get(f"{service.url}/cover/{job['job_id']}.jpg") as response:
            assert (response.status, await response.read()) == (200 if cover else 204, cover)


async def the_chosen_tags_are_right(service: RunningService) -> None:
    content = service.converter.contents["edited_edit"] = written("mp3")
    request = {"url": "https://youtu.be/edited_edit", "metadata": {"title": "Mine", "cover": False}}
    async with service.client.post(f"{service.url}/extract", json=request) as response:
        job = await service.ended((await response.json())["job_id"])
    expected = edited(content, TagEdits(title="Mine", cover=False))
    for given, status, body in (({}, 200, expected), ({"Range": "bytes=3-90000"}, 206, expected[3:90001])):
        async with service.client.get(service.url + job["download_url"], headers=given) as response:
            assert (response.status, await response.read()) == (status, body)
    batch = await ended(service, await created(service, [{**request}, video(1)], metadata={"album": "Ours"}))
    async with service.client.get(service.url + batch["archive_url"]) as response:
        body, etag = await response.read(), response.headers["ETag"]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.read("1 Mine.mp3") == edited(content, TagEdits(title="Mine", album="Ours", cover=False))
    part = {"Range": "bytes=50-90000", "If-Range": etag}
    async with service.client.get(service.url + batch["archive_url"], headers=part) as response:
        assert (response.status, await response.read()) == (206, body[50:90001])


async def test_tracks_pass_through_the_service_with_its_own_tags_and_ranges(
    s3_server: S3Server, tmp_path: Path
) -> None:
    async with running_service(tmp_path / "data", **s3_server.environment(uuid4().hex)) as service:
        service.converter.size_bytes = LARGE_BYTES
        job, content = await service.completed(VIDEO), content_of(VIDEO, LARGE_BYTES)
        assert not (tmp_path / "data" / "tracks").exists()
        for method, body in (("HEAD", b""), ("GET", content)):
            async with service.client.request(method, service.url + job["download_url"]) as response:
                assert response.status == 200
                assert response.headers["ETag"] == f'"{job["file"]["sha256"]}"'
                assert int(response.headers["Content-Length"]) == len(content)
                assert await response.read() == body
                etag = response.headers["ETag"]
        await ranges_are_right(service, job["download_url"], content, etag)
        await the_archive_is_right(service)
        await the_covers_are_right(service)
        await the_chosen_tags_are_right(service)
        # The client has the last byte of an archive before the service has ended the transfer.
        await until(lambda: service.parts.sender.active == 0, "no transfer is left")


async def test_downloads_are_redirected_where_the_object_store_answers_as_the_service_would(
    s3_server: S3Server, tmp_path: Path
) -> None:
    environment = s3_server.environment(uuid4().hex, download="redirect")
    async with running_service(tmp_path / "data", **environment) as service:
        service.converter.size_bytes = LARGE_BYTES
        job, content = await service.completed(VIDEO), content_of(VIDEO, LARGE_BYTES)
        path, etag = job["download_url"], f'"{job["file"]["sha256"]}"'
        async with service.client.get(service.url + path, allow_redirects=False) as response:
            assert (response.status, response.headers["Cache-Control"]) == (307, "no-store")
            assert response.headers["Location"].startswith(s3_server.endpoint)
            assert "ETag" not in response.headers
        async with service.client.get(service.url + path) as response:
            assert (response.status, await response.read()) == (200, content)
            assert "filename*=UTF-8''Rock%20n%20Roll" in response.headers["Content-Disposition"]
            theirs = response.headers["ETag"]
        async with service.client.head(service.url + path, allow_redirects=False) as response:
            assert (response.status, response.headers["ETag"]) == (200, etag)
        await ranges_are_right(service, path, content, etag)
        for given, status in (
            ({"Range": "bytes=5-9"}, 307),
            ({"Range": "bytes=5-9", "If-Range": theirs}, 307),
            ({"Origin": "https://example.org"}, 200),
        ):
            async with service.client.get(service.url + path, headers=given, allow_redirects=False) as response:
                assert response.status == status, given
        async with service.client.get(f"{service.url}/") as response:
            assert f"media-src 'self' {s3_server.endpoint}" in response.headers["Content-Security-Policy"]
        await the_archive_is_right(service)
        await the_covers_are_right(service)
        # The command-line client: the first half came from the service, the rest may come from anywhere.
        folder = tmp_path / "downloads"
        folder.mkdir()
        (folder / "Rock n Roll Tür 100.mp3.part").write_bytes(content[: LARGE_BYTES // 2])
        api = Api(server=service.url, key="a-key")
        saved = await asyncio.to_thread(download, api, job, folder, lambda _: None)
        assert saved.read_bytes() == content


async def test_no_job_and_no_track_is_lost_while_the_object_store_fails(s3_server: S3Server, tmp_path: Path) -> None:
    async with ChaosProxy(int(s3_server.endpoint.rpartition(":")[2])) as proxy:
        settings = s3_server.environment(uuid4().hex) | {"S3_ENDPOINT": f"http://{proxy.address}"}
        async with running_service(tmp_path / "data", TIMEOUTS, {"disk_seconds": 0.2}, **settings) as service:
            done = await service.completed(VIDEO)
            proxy.lose_replies(1_000_000)
            waiting = await service.submit("video000001")
            await until(lambda: not service.parts.health.is_ready, "the instance is not ready")
            assert "object store" in service.parts.health.checks["storage"].detail
            await expect_problem(service, "GET", done["download_url"], 503, "storage_unavailable")
            await expect_problem(service, "GET", f"/cover/{done['job_id']}.jpg", 503, "storage_unavailable")
            async with service.client.post(f"{service.url}/extract", json={"url": f"youtu.be/{VIDEO}"}) as response:
                assert (await response.json())["code"] in {"storage_unavailable", "unready"}
            proxy.lose_replies(0)
            assert (await service.ended(waiting["job_id"]))["status"] == "completed"
            async with service.client.get(service.url + done["download_url"]) as response:
                assert await response.read() == content_of(VIDEO)
            assert service.converter.converted.count(VIDEO) == 1
