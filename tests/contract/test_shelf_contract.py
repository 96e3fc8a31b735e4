"""The contract of a shelf of finished tracks: with a folder, and with a bucket of a real object store."""

import asyncio
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast
from uuid import uuid4

import pytest

from tests.stand.s3_server import S3Server
from ytmp3.core.job import Track
from ytmp3.storage import Description, OpenFile, RemoteFile, Shelf
from ytmp3.storage.local import LocalShelf

CONTENT = bytes(range(256)) * 9
NAME, OTHER_NAME = f"{'0' * 34}-1.mp3", f"{'0' * 34}-2.mp3"
"""Names as `core.job.track_file_name` makes them: a shelf may ignore all others."""


def track_of(name: str = NAME, content: bytes = CONTENT) -> Track:
    sha256 = hashlib.sha256(content).hexdigest()
    return Track(file_name=name, size_bytes=len(content), duration_seconds=1.0, sha256=sha256, published_at=1.0)


TRACK = track_of()
OTHER = track_of(OTHER_NAME)
DESCRIPTION = Description(content_type="audio/mpeg", content_disposition="attachment", sha256=TRACK.sha256)

OpenShelf: TypeAlias = Callable[[], Shelf]


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
async def shelves(request: pytest.FixtureRequest, tmp_path: Path) -> list[Shelf]:
    """Two shelves on the same, empty place, as two instances have them."""
    if request.param == "folder":
        local = [LocalShelf(tmp_path / "tracks") for _ in range(2)]
        for shelf in local:
            await shelf.open()
        return [*local]
    from ytmp3.storage.s3 import S3Shelf

    server = cast("S3Server", request.getfixturevalue("s3_server"))
    prefix = uuid4().hex
    remote = [S3Shelf(server.settings(prefix)) for _ in range(2)]
    for bucket in remote:
        await bucket.open()
    return [*remote]


@pytest.fixture
async def published(shelves: list[Shelf], tmp_path: Path) -> list[Shelf]:
    """The same, after the first one has published a track."""
    source = tmp_path / "encoded"
    source.write_bytes(CONTENT)
    assert await shelves[0].publish(source, NAME, DESCRIPTION) > 0
    assert not source.exists()
    return shelves


async def part_of(shelf: Shelf, track: Track, offset: int, count: int) -> bytes:
    """Read a part of a track in the way in which it is delivered."""
    match await shelf.deliver(track, may_redirect=False):
        case OpenFile(descriptor) as file:
            try:
                return os.pread(descriptor, count, offset)
            finally:
                shelf.close_file(file)
        case RemoteFile() as remote:
            return b"".join([piece async for piece in remote.read(offset, count)])
        case other:
            raise AssertionError(other)


async def test_a_published_track_is_delivered_by_every_instance_and_nothing_else_is(published: list[Shelf]) -> None:
    for shelf in published:
        assert await part_of(shelf, TRACK, 0, len(CONTENT)) == CONTENT
        assert await part_of(shelf, TRACK, 250, 10) == CONTENT[250:260]
        assert await shelf.holds(TRACK)
        assert await shelf.has_all([TRACK] * 3)
        assert not await shelf.has_all([TRACK, OTHER])
        assert await shelf.crc32(NAME) == zlib.crc32(CONTENT)
        assert await shelf.crc32(OTHER_NAME) is None
        assert not await shelf.is_damaged(TRACK)
        assert not await shelf.is_damaged(OTHER), "a missing track is not damaged"


async def test_a_track_with_another_content_or_size_is_damaged_and_never_delivered(published: list[Shelf]) -> None:
    for shelf in published:
        for other in (track_of(content=CONTENT[:-1] + b"K"), track_of(content=CONTENT + b"!")):
            assert await shelf.deliver(other, may_redirect=True, may_leave=True) is None
            assert not await shelf.holds(other)
            assert await shelf.is_damaged(other)
        assert not await shelf.has_all([track_of(content=CONTENT + b"!")])


async def test_a_deleted_track_is_gone_for_every_instance(published: list[Shelf]) -> None:
    await published[0].delete(NAME)
    await published[0].delete(NAME)
    for shelf in published:
        assert not await shelf.holds(TRACK)
        assert await shelf.deliver(TRACK, may_redirect=False) is None
        assert await shelf.names(older_than_seconds=-3600.0) == []


async def test_only_tracks_of_the_given_age_are_named(published: list[Shelf], tmp_path: Path) -> None:
    (tmp_path / "probe").write_bytes(b"x" * 4096)
    published[0].try_publishing(tmp_path / "probe")
    assert not (tmp_path / "probe").exists()
    await published[0].mark()
    for shelf in published:
        assert await shelf.names(older_than_seconds=-3600.0) == [NAME]
        assert await shelf.names(older_than_seconds=3600.0) == []


async def test_instances_that_start_at_once_have_the_same_mark(shelves: list[Shelf]) -> None:
    await asyncio.gather(*(shelf.mark() for shelf in shelves))
    assert len({await shelf.mark() for shelf in shelves}) == 1


async def test_installations_on_one_shelf_know_of_each_other_and_the_sweep_is_given_no_sign(
    shelves: list[Shelf],
) -> None:
    one, same = shelves
    for shelf in shelves:
        assert await shelf.sign("a") is None
    for shelf, name in ((one, "b"), (same, "a"), (one, "b")):
        age = await shelf.sign(name)
        assert age is not None
        assert age >= 0
    assert await one.names(older_than_seconds=-3600.0) == []


async def test_a_failed_publication_leaves_nothing(shelves: list[Shelf], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        await shelves[0].publish(tmp_path / "missing", NAME, DESCRIPTION)
    assert await shelves[1].names(older_than_seconds=-3600.0) == []
