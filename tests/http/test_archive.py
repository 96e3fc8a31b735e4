"""The archive of a batch: a ZIP of exact length that resumes at any byte, and what happens when tracks are gone."""

import asyncio
import io
import random
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace
from multidict import CIMultiDictProxy

from tests.http.batch_requests import created, ended, get, video
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.stand.waiting import until
from ytmp3.core.errors import FailureCode
from ytmp3.http.keys import key_line, new_secret

RANGES: Final = 300
"""Random ranges that are compared with the slices of the whole archive."""


@asynccontextmanager
async def archived(folder: Path, count: int = 3, **settings: str) -> AsyncIterator[tuple[RunningService, str]]:
    """Start a service with an ended batch of `count` tracks, and the address of its archive."""
    async with running_service(folder / "data", **settings) as service:
        batch = await ended(service, await created(service, [video(number) for number in range(count)]))
        yield service, batch["archive_url"]


async def fetch(service: RunningService, path: str, **headers: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
    async with service.client.get(service.url + path, headers=headers) as response:
        return response.status, response.headers, await response.read()


async def test_the_archive_has_every_track_once_in_order_with_a_playlist(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.failing[video(2)] = FailureCode.PRIVATE
        links = [video(1), video(2), "no link", video(3), video(1)]
        batch = await ended(service, await created(service, links))
        status, headers, body = await fetch(service, batch["archive_url"])
        assert (status, headers["Content-Type"], len(body)) == (200, "application/zip", int(headers["Content-Length"]))
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            assert names == ["1 Rock n Roll Tür 100.mp3", "2 Rock n Roll Tür 100.mp3", "playlist.m3u8"]
            for name, number in zip(names, (1, 3), strict=False):
                job = await service.completed(video(number))
                _, _, track = await fetch(service, job["download_url"])
                assert archive.read(name) == track
            lines = archive.read("playlist.m3u8").decode().splitlines()
            assert lines[0] == "#EXTM3U"
            assert lines[2::2] == names[:2]
            assert lines[1] == '#EXTINF:3,Rock "n" Roll / Tür 100%'
        again = await fetch(service, batch["archive_url"])
        assert (again[1]["ETag"], again[2]) == (headers["ETag"], body)


async def test_random_ranges_equal_the_slices_of_the_whole(tmp_path: Path) -> None:
    chance = random.Random(5)
    async with archived(tmp_path) as (service, url):
        _, headers, whole = await fetch(service, url)
        for _ in range(RANGES):
            first, last = sorted(chance.randrange(len(whole)) for _ in range(2))
            status, part_headers, part = await fetch(service, url, Range=f"bytes={first}-{last}")
            assert (status, part) == (206, whole[first : last + 1])
            assert part_headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
            assert part_headers["ETag"] == headers["ETag"]


async def test_conditions_are_judged_as_for_a_track(tmp_path: Path) -> None:
    async with archived(tmp_path) as (service, url):
        _, headers, whole = await fetch(service, url)
        etag = headers["ETag"]
        assert not etag.startswith("W/")
        assert (await fetch(service, url, **{"If-None-Match": etag}))[0] == 304
        assert (await fetch(service, url, **{"If-Modified-Since": headers["Last-Modified"]}))[0] == 304
        assert (await fetch(service, url, **{"Range": "bytes=5-9", "If-Range": etag}))[::2] == (206, whole[5:10])
        assert (await fetch(service, url, **{"Range": "bytes=5-9", "If-Range": '"other"'}))[::2] == (200, whole)
        assert (await fetch(service, url, Range="bytes=0-1,3-4"))[::2] == (200, whole)
        assert (await fetch(service, url, Range="bytes=-7"))[::2] == (206, whole[-7:])
        await expect_problem(service, "GET", url, 412, "precondition_failed", headers={"If-Match": '"other"'})
        await expect_problem(
            service, "GET", url, 416, "range_not_satisfiable", headers={"Range": f"bytes={len(whole)}-"}
        )
        async with service.client.head(service.url + url, headers={"Range": "bytes=0-1"}) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(whole)))


@pytest.mark.filterwarnings("default:none of these is installed")
@pytest.mark.parametrize(
    ("programs", "options"), [(("unzip",), ("-tqq",)), (("bsdtar",), ("-xOf",)), (("7z", "7zz"), ("t", "-bso0"))]
)
async def test_other_programs_read_the_archive(
    tmp_path: Path, programs: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Each reads all tracks and compares them with their checksums. A program that is missing is named in a warning."""
    program = next((name for name in programs if shutil.which(name) is not None), None)
    if program is None:
        # Python's zipfile reads the archive in every case (above).
        warnings.warn(f"none of these is installed: {', '.join(programs)}", pytest.PytestWarning, stacklevel=1)
        return
    async with archived(tmp_path) as (service, url):
        path = tmp_path / "archive.zip"
        path.write_bytes((await fetch(service, url))[2])
        assert await exit_code(program, *options, path) == 0
        broken = bytearray(path.read_bytes())
        broken[200] ^= 1
        path.write_bytes(broken)
        assert await exit_code(program, *options, path) != 0, "the program does not check what it reads"


async def exit_code(*command: str | Path) -> int:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return await process.wait()


async def test_curl_resumes_an_interrupted_archive(tmp_path: Path) -> None:
    async with archived(tmp_path) as (service, url):
        whole = (await fetch(service, url))[2]
        path = tmp_path / "archive.zip"
        path.write_bytes(whole[:12_345])
        curl = await asyncio.create_subprocess_exec("curl", "-fsS", "-C", "-", "-o", path, service.url + url)
        assert await curl.wait() == 0
        assert path.read_bytes() == whole


async def test_a_batch_has_no_archive_before_its_end_or_without_a_track(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        hold = service.converter.hold(video(1))
        service.converter.failing[video(1)] = FailureCode.PRIVATE
        batch = await created(service, [video(1)])
        assert batch["archive_url"] is None
        url = f"{batch['status_url']}/archive.zip"
        headers = await expect_problem(service, "GET", url, 409, "not_ready")
        assert int(headers["Retry-After"]) >= 1
        hold.set()
        batch = await ended(service, batch)
        assert batch["archive_url"] is None
        await expect_problem(service, "GET", url, 410, "no_tracks")
        await expect_problem(service, "GET", f"/batches/{'0' * 34}/archive.zip", 404, "batch_unknown")


async def test_a_cancelled_batch_has_an_archive_of_what_was_finished(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        service.converter.hold(video(2))
        batch = await created(service, [video(1), video(2)])

        async def one_is_completed() -> bool:
            return bool((await get(service, batch["status_url"]))["counts"]["completed"] == 1)

        await until(one_is_completed, "the first item is completed", poll_seconds=0.03)
        async with service.client.delete(service.url + batch["status_url"]):
            pass
        url = (await ended(service, batch))["archive_url"]
        with zipfile.ZipFile(io.BytesIO((await fetch(service, url))[2])) as archive:
            assert len(archive.namelist()) == 2


async def test_the_address_of_another_list_is_refused(tmp_path: Path) -> None:
    async with archived(tmp_path) as (service, url):
        path, _, revision = url.partition("?revision=")
        assert (await fetch(service, path))[0] == 200
        await expect_problem(service, "GET", f"{path}?revision={revision[:-1]}x", 410, "archive_changed")
        await expect_problem(service, "GET", f"{path}?revision=", 410, "archive_changed")


async def test_a_missing_or_damaged_file_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    async with archived(tmp_path) as (service, url):
        whole = (await fetch(service, url))[2]
        tracks = sorted((service.data_dir / "tracks").glob("*.mp3"))
        tracks[1].write_bytes(b"short")
        await expect_problem(service, "GET", url, 410, "expired")
        tracks[1].unlink()
        await expect_problem(service, "GET", url, 410, "expired")
        end = await fetch(service, url, Range="bytes=-10")
        assert end[::2] == (206, whole[-10:]), "a part that needs no missing file"


async def test_an_expired_track_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    async with archived(tmp_path) as (service, url):
        items = (await get(service, url.partition("archive.zip")[0] + "items"))["items"]
        async with service.client.delete(f"{service.url}/jobs/{items[1]['job']['job_id']}") as response:
            assert response.status == 200
        await expect_problem(service, "GET", url, 410, "expired")


async def test_tracks_do_not_expire_while_their_archive_is_sent(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", JOB_EXPIRATION_HOURS="0.02") as service:
        service.converter.size_bytes = 3_000_000
        batch = await ended(service, await created(service, [video(number) for number in range(4)]))
        async with service.client.get(service.url + batch["archive_url"]) as response:
            begun = await response.content.readexactly(1000)
            # The retention ends. Without the pins, the tracks would be removed now.
            service.store_clock.shift_seconds += 80
            assert await service.store.expire(100) == []
            rest = await response.content.read()
        with zipfile.ZipFile(io.BytesIO(begun + rest)) as archive:
            assert archive.testzip() is None


async def test_the_tracks_of_a_batch_are_kept_until_its_archive_expires(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data", JOB_EXPIRATION_HOURS="1") as service:
        service.converter.hold(video(2))
        batch = await created(service, [video(1), video(2)])
        await until(lambda: video(1) in service.converter.converted, "the first is converted", poll_seconds=0.03)
        service.store_clock.shift_seconds += 2000
        service.converter.hold(video(2)).set()
        batch = await ended(service, batch)
        items = (await get(service, batch["items_url"]))["items"]
        assert all(item["job"]["expires_at"] >= batch["completed_at"][:11] for item in items)
        service.store_clock.shift_seconds += 3500
        assert await service.store.expire(100) == []
        assert (await fetch(service, batch["archive_url"]))[0] == 200


async def test_an_archive_counts_as_one_download(tmp_path: Path) -> None:
    async with archived(tmp_path, CLIENT_MAX_DOWNLOADS="1") as (service, _):
        service.converter.size_bytes = 8_000_000
        batch = await ended(service, await created(service, [video(number) for number in range(10, 14)]))
        async with service.client.get(service.url + batch["archive_url"]) as response:
            assert response.status == 200
            await expect_problem(service, "GET", batch["archive_url"], 429, "client_quota")
            # A HEAD sends no content, and the service knows the length without reading a file.
            async with service.client.head(service.url + batch["archive_url"]) as described:
                assert (described.status, described.content_length) == (200, response.content_length)
            assert service.parts.sender.active == 1
            body = await response.read()
        assert len(body) > 4 * 8_000_000
        await until(lambda: service.parts.sender.active == 0, "the transfer has ended", poll_seconds=0.03)
        assert (await fetch(service, batch["archive_url"], Range="bytes=0-9"))[0] == 206


async def test_the_checksum_of_an_old_track_is_computed_from_its_file(tmp_path: Path) -> None:
    """Records of 0.2 have no CRC-32."""
    async with running_service(tmp_path / "data") as service:
        original = service.store.finish

        async def without_checksum(lease: Any, track: Any, metadata: Any) -> Any:
            return await original(lease, replace(track, crc32=None), metadata)

        service.store.finish = without_checksum  # type: ignore[method-assign]
        batch = await ended(service, await created(service, [video(1), video(2)]))
        for _ in range(2):
            with zipfile.ZipFile(io.BytesIO((await fetch(service, batch["archive_url"]))[2])) as archive:
                assert archive.testzip() is None


async def test_a_signed_link_gives_access_to_the_archive_alone(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    secret = new_secret(b"a" * 24)
    keys.write_text(f"{key_line('reader', secret)}\n")
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys), DOWNLOAD_LINK_SECONDS="100") as service:
        service.client.headers["X-API-Key"] = secret
        batch = await ended(service, await created(service, [video(1)]))
        url = batch["archive_url"]
        del service.client.headers["X-API-Key"]
        assert "signature=" in url
        assert (await fetch(service, url))[0] == 200
        await expect_problem(service, "GET", batch["status_url"] + "?" + url.partition("?")[2], 401, "unauthorized")
        await expect_problem(service, "GET", url.replace("signature=", "signature=x"), 401, "unauthorized")
        service.store_clock.shift_seconds += 200
        await expect_problem(service, "GET", url, 403, "link_expired")
