"""The shelf in a folder, beyond the contract that every shelf keeps (`test_shelf_contract`)."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest

from tests.stand.waiting import until
from ytmp3.core.job import Track
from ytmp3.storage import Description, InternalRedirect, OpenFile
from ytmp3.storage.local import WRITERS, LocalShelf

CONTENT = b"a track"
NAME = "ab-1.mp3"


def track_of(name: str = NAME, content: bytes = CONTENT) -> Track:
    sha256 = hashlib.sha256(content).hexdigest()
    return Track(file_name=name, size_bytes=len(content), duration_seconds=1.0, sha256=sha256, published_at=1.0)


TRACK = track_of()
DESCRIPTION = Description(content_type="audio/mpeg", content_disposition="attachment", sha256=TRACK.sha256)
OTHER = track_of("other.mp3")
LONGER = track_of(content=CONTENT + b"!")
CHANGED = CONTENT[:-1] + b"K"


@pytest.fixture
async def shelf(tmp_path: Path) -> LocalShelf:
    shelf = LocalShelf(tmp_path / "tracks", accel_redirect_prefix="/tracks/")
    await shelf.open()
    return shelf


@pytest.fixture
async def published(shelf: LocalShelf, tmp_path: Path) -> LocalShelf:
    source = tmp_path / "encoded"
    source.write_bytes(CONTENT)
    os.utime(source, (1_700_000_000, 1_700_000_000.25))
    assert await shelf.publish(source, NAME, DESCRIPTION) == 1_700_000_000.25
    assert not source.exists()
    return shelf


async def test_a_published_track_is_held_with_its_content_only(published: LocalShelf) -> None:
    assert await published.holds(TRACK)
    assert not await published.holds(LONGER)
    assert not await published.holds(OTHER)
    assert not await LocalShelf(published.folder).holds(track_of(content=CHANGED))


async def test_only_the_group_of_the_service_may_read_the_tracks_that_nginx_sends(published: LocalShelf) -> None:
    assert (published.folder / NAME).stat().st_mode & 0o777 == 0o440
    assert published.folder.stat().st_mode & 0o777 == 0o750


async def test_no_other_user_may_read_the_tracks_that_the_service_sends_itself(tmp_path: Path) -> None:
    shelf = LocalShelf(tmp_path / "data/tracks")
    shelf.folder.mkdir(parents=True, mode=0o755)
    await shelf.open()
    (tmp_path / "encoded").write_bytes(CONTENT)
    await shelf.publish(tmp_path / "encoded", NAME, DESCRIPTION)
    assert (shelf.folder / NAME).stat().st_mode & 0o777 == 0o400
    assert shelf.folder.stat().st_mode & 0o777 == 0o700


async def test_a_new_data_folder_is_closed_to_others_and_an_existing_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "existing").mkdir(mode=0o755)
    for name, mode in (("new", 0o700), ("existing", 0o755)):
        await LocalShelf(tmp_path / name / "tracks").open()
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


async def test_a_disk_without_file_modes_can_hold_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chmod", refuse)
    shelf = LocalShelf(tmp_path / "data/tracks")
    await shelf.open()
    (tmp_path / "encoded").write_bytes(CONTENT)
    await shelf.publish(tmp_path / "encoded", NAME, DESCRIPTION)
    assert await shelf.holds(TRACK)


async def test_slow_writes_delay_no_download(
    published: LocalShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tracks are being published than there are threads for it, and the disk answers none of them."""
    disk_answers, waiting = threading.Event(), list[int]()

    def wait(descriptor: int) -> None:
        waiting.append(descriptor)
        disk_answers.wait()

    sources = [tmp_path / f"encoded{number}" for number in range(2 * WRITERS)]
    for source in sources:
        source.write_bytes(CONTENT)
    monkeypatch.setattr(os, "fsync", wait)
    try:
        publishing = [
            asyncio.create_task(published.publish(source, f"cd-{number}.mp3", DESCRIPTION))
            for number, source in enumerate(sources)
        ]
        await until(lambda: len(waiting) == WRITERS, "all threads for writes wait")
        delivery = await published.deliver(TRACK, may_redirect=False)
        assert isinstance(delivery, OpenFile)
        os.close(delivery.descriptor)
        assert not any(task.done() for task in publishing)
    finally:
        disk_answers.set()
    await asyncio.gather(*publishing)


async def test_a_track_is_delivered_as_an_open_file_that_outlives_its_deletion(published: LocalShelf) -> None:
    delivery = await published.deliver(TRACK, may_redirect=False)
    assert isinstance(delivery, OpenFile)
    await published.delete(NAME)
    await published.delete(NAME)
    assert os.read(delivery.descriptor, 100) == CONTENT
    os.close(delivery.descriptor)


async def test_a_track_is_delivered_by_redirect_where_that_is_allowed(published: LocalShelf) -> None:
    assert await published.deliver(TRACK, may_redirect=True) == InternalRedirect("/tracks/" + NAME)
    without_proxy = LocalShelf(published.folder)
    delivery = await without_proxy.deliver(TRACK, may_redirect=True)
    assert isinstance(delivery, OpenFile)
    os.close(delivery.descriptor)


@pytest.mark.parametrize("may_redirect", [False, True])
async def test_a_missing_or_changed_track_is_not_delivered(published: LocalShelf, *, may_redirect: bool) -> None:
    assert await published.deliver(OTHER, may_redirect=may_redirect) is None
    assert await published.deliver(LONGER, may_redirect=may_redirect) is None


async def test_a_track_that_was_changed_on_disk_is_never_delivered(published: LocalShelf) -> None:
    """With the same size, and with its times put back, before and after its first download."""
    path = published.folder / NAME
    damaged: list[str] = []
    for is_checked_before in (False, True):
        shelf = LocalShelf(published.folder, on_damaged=damaged.append)
        before = path.stat()
        if is_checked_before:
            assert await shelf.holds(TRACK)
        path.chmod(0o600)
        path.write_bytes(CHANGED)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        for _ in range(2):
            assert await shelf.deliver(TRACK, may_redirect=is_checked_before) is None
            assert not await shelf.holds(TRACK)
        assert await shelf.is_damaged(TRACK)
        assert damaged == [NAME], "it is reported once"
        damaged.clear()
        path.write_bytes(CONTENT)
        assert await shelf.holds(TRACK)


async def test_downloads_that_begin_together_share_one_check(
    published: LocalShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks, sha256, checks = [track_of() for _ in range(50)], hashlib.sha256, list[object]()

    def counted() -> object:
        checks.append(published)
        return sha256()

    monkeypatch.setattr(hashlib, "sha256", counted)
    before = len(os.listdir("/proc/self/fd"))
    assert all(await asyncio.gather(*map(published.holds, tracks)))
    assert len(checks) == 1
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before, "every descriptor is closed")


async def test_only_a_track_with_another_content_is_damaged(published: LocalShelf) -> None:
    assert not await published.is_damaged(TRACK)
    assert not await published.is_damaged(OTHER), "a missing file is not damaged"
    assert await published.is_damaged(LONGER)


async def test_a_symbolic_link_is_not_delivered(shelf: LocalShelf, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    (shelf.folder / NAME).symlink_to(tmp_path / "secret")
    assert await shelf.deliver(TRACK, may_redirect=False) is None


async def test_a_failed_publication_leaves_nothing_on_the_shelf(shelf: LocalShelf, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        await shelf.publish(tmp_path / "missing", NAME, DESCRIPTION)
    assert list(shelf.folder.iterdir()) == []


async def test_only_old_files_are_named(published: LocalShelf) -> None:
    (published.folder / "a folder").mkdir()
    assert await published.names(older_than_seconds=-3600.0) == [NAME]
    assert await published.names(older_than_seconds=3600.0) == []
