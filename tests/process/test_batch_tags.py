"""Chosen tags of the tracks of a batch, read back by two independent readers from an archive that was resumed."""

import asyncio
import io
import signal
import zipfile
from pathlib import Path
from typing import Any, Final

import mutagen
import pytest
from tinytag import TinyTag

from tests.fake_youtube import BEHAVIOURS, Kind, Spawned, video_id, watch_url
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until
from ytmp3.core.recipe import Format

CHAPTERS: Final = BEHAVIOURS[Kind.CHAPTERS].chapters
VIDEO: Final = video_id(Kind.CHAPTERS, 3)


async def ended(service: ServiceProcess, **fields: object) -> dict[str, Any]:
    """Create a batch, and return it once it has ended."""
    async with service.client.post(f"{service.url}/batches", json=fields) as response:
        assert response.status == 202, await response.text()
        batch: dict[str, Any] = await response.json()

    async def has_ended() -> bool:
        batch.update((await service.get(batch["status_url"]))[1])
        return batch["completed_at"] is not None

    await until(has_ended, "the batch has ended", seconds=300, poll_seconds=0.05)
    return batch


async def resumed(service: ServiceProcess, batch: dict[str, Any], folder: Path, *, is_killed: bool) -> list[Path]:
    """Download an archive in two parts, perhaps with a crash of the service between them, and return its tracks."""
    async with service.client.get(service.url + batch["archive_url"]) as response:
        etag, size = response.headers["ETag"], int(response.headers["Content-Length"])
        begin = await response.content.readexactly(size // 2)
    if is_killed:
        await service.stop(signal.SIGKILL)
        await service.start()
    rest = {"Range": f"bytes={len(begin)}-", "If-Range": etag}
    async with service.client.get(service.url + batch["archive_url"], headers=rest) as response:
        assert (response.status, response.headers["ETag"]) == (206, etag)
        whole = begin + await response.read()
    assert len(whole) == size
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
        return [folder / name for name in archive.namelist() if not name.endswith(".m3u8")]


def by_mutagen(path: Path) -> list[str]:
    """Return title, artist, album and position."""
    tags: Any = mutagen.File(path).tags
    match path.suffix:
        case ".m4a":
            number, total = tags["trkn"][0]
            return [*(tags[name][0] for name in ("\xa9nam", "\xa9ART", "\xa9alb")), f"{number}/{total}"]
        case ".opus":
            position = f"{tags['tracknumber'][0]}/{tags['tracktotal'][0]}"
            return [*(tags[name][0] for name in ("title", "artist", "album")), position]
    return [str(tags[name]) for name in ("TIT2", "TPE1", "TALB", "TRCK")]


def by_tinytag(path: Path) -> list[str]:
    tag = TinyTag.get(path)
    return [str(each) for each in (tag.title, tag.artist, tag.album, f"{tag.track}/{tag.track_total}")]


async def test_the_chapters_of_a_video_become_numbered_tracks(youtube: Spawned, tmp_path: Path) -> None:
    async with service_process(tmp_path, **egress(youtube)) as service:
        batch = await ended(service, chapters=watch_url(VIDEO), metadata={"artist": "DJ Ä", "cover": False})
        assert (batch["status"], batch["counts"]["completed"]) == ("completed", 3), batch
        paths = await resumed(service, batch, tmp_path / "tracks", is_killed=True)
        starts = [start / 1000 for start, _ in CHAPTERS]
        for number, (path, (_, title)) in enumerate(zip(paths, CHAPTERS, strict=True), 1):
            expected = [title, "DJ Ä", batch["chapters"]["title"], f"{number}/3"]
            assert await asyncio.to_thread(by_mutagen, path) == expected
            assert await asyncio.to_thread(by_tinytag, path) == expected
        items = (await service.get(batch["items_url"]))[1]["items"]
        lengths = [item["job"]["file"]["duration_seconds"] for item in items]
        assert lengths[:2] == pytest.approx([starts[1] - starts[0], starts[2] - starts[1]], abs=0.001)
        whole = await service.until((await service.submit(watch_url(VIDEO)))["job_id"])
        assert sum(lengths) == pytest.approx(whole["file"]["duration_seconds"], abs=0.001)
        plain = await ended(service, chapters=watch_url(video_id(Kind.SHORT, 3)))
        assert plain["error"]["code"] == "no_chapters"


async def test_tracks_of_every_format_have_the_tags_of_their_batch(youtube: Spawned, tmp_path: Path) -> None:
    urls = [
        {"url": watch_url(VIDEO), "metadata": {"title": "Erstes \U0001f3b6", "artist": "Own"}},
        "no link",
        watch_url(video_id(Kind.CHAPTERS, 4)),
    ]
    metadata = {"artist": "All", "album": "Album", "track_numbers": True}
    async with service_process(tmp_path, **egress(youtube)) as service:
        for format_ in Format:
            batch = await ended(service, urls=urls, metadata=metadata, format=format_)
            assert batch["counts"]["completed"] == 2, batch
            paths = await resumed(service, batch, tmp_path / format_, is_killed=False)
            wanted = ["Erstes \U0001f3b6", "Own", "Album", "1/3"], ["Fake chapter 4", "All", "Album", "3/3"]
            for path, expected in zip(paths, wanted, strict=True):
                assert await asyncio.to_thread(by_mutagen, path) == expected
                assert await asyncio.to_thread(by_tinytag, path) == expected
