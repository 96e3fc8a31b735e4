"""The cover of a track: the picture is read from the tag that the converter has written, and only its owner gets it."""

import hashlib
from pathlib import Path
from typing import Final

import pytest

from tests.core.test_mp4 import whole
from tests.core.test_ogg import stream
from tests.fakes import content_of
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from ytmp3.converter.audio.id3 import id3v2_tag
from ytmp3.converter.audio.mp4 import pieces_of_mp4, read_mp4
from ytmp3.converter.audio.mp4_tags import mp4_tags
from ytmp3.converter.audio.ogg import pieces_of_opus, read_opus
from ytmp3.converter.audio.ogg_tags import opus_tags
from ytmp3.converter.audio.tags import tags_of
from ytmp3.core.errors import FailureCode
from ytmp3.core.job import Metadata
from ytmp3.http.keys import key_line, new_secret

VIDEO: Final = "dQw4w9WgXcQ"
LINK: Final = f"https://www.youtube.com/watch?v={VIDEO}"
COVER: Final = b"\xff\xd8\xff\xe0" + hashlib.sha256(b"a picture").digest() * 2000 + b"\xff\xd9"
METADATA: Final = Metadata(title="Tür " * 40, uploader="Someone", duration_seconds=3.0, thumbnail_url=None)
ALICE, BOB = new_secret(b"a" * 24), new_secret(b"b" * 24)


def tagged(cover: bytes | None) -> bytes:
    """Return a track as the converter writes it."""
    return id3v2_tag(tags_of(METADATA, LINK, cover)) + content_of(VIDEO)


async def test_the_cover_is_the_picture_in_the_track_and_is_not_sent_twice(service: RunningService) -> None:
    service.converter.contents[VIDEO] = tagged(COVER)
    job = await service.completed(VIDEO)
    address = f"{service.url}/cover/{job['job_id']}.jpg"
    async with service.client.get(address) as response:
        assert (response.status, response.content_type) == (200, "image/jpeg")
        assert response.headers["Cache-Control"].startswith("private, max-age=")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert await response.read() == COVER
        etag = response.headers["ETag"]
    for known, status in ((etag, 304), (f'"x", W/{etag}', 304), ("*", 304), ('"x"', 200)):
        async with service.client.get(address, headers={"If-None-Match": known}) as response:
            assert response.status == status
    async with service.client.head(address) as response:
        assert response.headers["Content-Length"] == str(len(COVER))


@pytest.mark.parametrize("extension", ["m4a", "opus"])
async def test_copied_formats_have_covers_too(service: RunningService, extension: str) -> None:
    tags = tags_of(METADATA, LINK, COVER)
    if extension == "m4a":
        mp4 = whole([50, 60], [2])
        pieces = pieces_of_mp4(read_mp4(mp4), mp4, mp4_tags(tags))
    else:
        ogg = stream([[50, 60]])
        pieces = pieces_of_opus(read_opus(ogg), ogg, opus_tags(tags))
    service.converter.contents[VIDEO] = b"".join(pieces)
    job = await service.ended((await service.submit(VIDEO, format=extension))["job_id"])
    assert job["download_url"].endswith(f".{extension}")
    async with service.client.get(f"{service.url}/cover/{job['job_id']}.jpg") as response:
        assert (response.status, response.content_type, await response.read()) == (200, "image/jpeg", COVER)


@pytest.mark.parametrize(
    "content",
    [tagged(None), tagged(b"GIF89a" * 99), content_of(VIDEO), b"ID3\x03\x00\x00", b"OggS\0", b"\0\0\0\x08ftyp"],
)
async def test_a_track_without_a_picture_has_an_empty_cover(service: RunningService, content: bytes) -> None:
    service.converter.contents[VIDEO] = content
    job = await service.completed(VIDEO)
    async with service.client.get(f"{service.url}/cover/{job['job_id']}.jpg") as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_without_a_track_there_is_no_cover(service: RunningService) -> None:
    await expect_problem(service, "GET", f"/cover/{'0' * 34}.jpg", 404, "job_unknown")
    service.converter.hold(VIDEO)
    job_id = (await service.submit(VIDEO))["job_id"]
    await expect_problem(service, "GET", f"/cover/{job_id}.jpg", 409, "not_ready")
    await expect_problem(service, "GET", f"/cover/{job_id}.png", 404, "not_found")
    service.converter.fail("b" * 11, FailureCode.PRIVATE)
    job = await service.ended((await service.submit("b" * 11))["job_id"])
    await expect_problem(service, "GET", f"/cover/{job['job_id']}.jpg", 410, "private")


async def test_a_damaged_or_missing_track_has_no_cover(service: RunningService) -> None:
    service.converter.contents[VIDEO] = tagged(COVER)
    job = await service.completed(VIDEO)
    (track,) = (service.data_dir / "tracks").glob("*.mp3")
    track.chmod(0o600)
    track.write_bytes(tagged(COVER[::-1]))
    await expect_problem(service, "GET", f"/cover/{job['job_id']}.jpg", 410, "expired")
    track.unlink()
    await expect_problem(service, "GET", f"/cover/{job['job_id']}.jpg", 410, "expired")


async def test_only_the_owner_of_a_job_gets_its_cover(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{key_line('alice', ALICE)}\n{key_line('bob', BOB)}\n")
    settings = {"API_KEYS_FILE": str(tmp_path / "keys"), "DOWNLOAD_LINK_SECONDS": "600"}
    async with running_service(tmp_path / "data", **settings) as service:
        service.converter.contents[VIDEO] = tagged(COVER)
        service.client.headers["X-API-Key"] = ALICE
        job = await service.completed(VIDEO)
        path = f"/cover/{job['job_id']}.jpg"
        async with service.client.get(service.url + path) as response:
            assert response.status == 200
        await expect_problem(service, "GET", path, 404, "job_unknown", headers={"X-API-Key": BOB})
        signature = job["download_url"].partition("?")[2]
        for query in ("", f"?{signature}"):  # a signed link gives access to the track alone
            await expect_problem(service, "GET", path + query, 401, "unauthorized", headers={"X-API-Key": "x"})
