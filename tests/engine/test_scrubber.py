"""A track that was changed on disk is found, removed, and converted again; and a healthy one is left alone."""

import os
from pathlib import Path

import pytest

from tests.engine.rig import Rig, engine
from ytmp3.core.job import Job, Status
from ytmp3.engine.scrubber import SCRUB_BYTES, Scrubber

pytestmark = pytest.mark.attack

VIDEO = "aaaaaaaaaaa"


async def finished(now: Rig) -> tuple[Job, Path]:
    job = await now.submit(VIDEO)
    track = (await now.ended(job)).conversion.track
    assert track is not None
    return job, now.shelf.folder / track.file_name


def change(path: Path) -> None:
    """Change one byte, and nothing that shows: neither the size nor the time of the last modification."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_damaged_track_is_removed_and_its_link_is_converted_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job, path = await finished(now)
        scrubber = Scrubber(now.store, now.shelf)
        assert await scrubber.scrub() == 0
        change(path)
        assert await scrubber.scrub() == 1
        assert not path.exists()
        again = await now.submit(VIDEO)
        assert (await now.ended(again)).conversion.conversion_id != (await now.conversion(job)).conversion_id
        await now.check_completed(again)


async def test_a_submission_finds_a_damaged_track_before_the_scrubber_does(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        _, path = await finished(now)
        change(path)
        again = await now.submit(VIDEO)
        assert (await now.ticket(again)).status is not Status.COMPLETED
        await now.ended(again)
        await now.check_completed(again)


async def test_files_without_a_record_are_left_to_the_sweep(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job, path = await finished(now)
        (path.parent / "unheard of").write_bytes(b"stray")
        assert await Scrubber(now.store, now.shelf).scrub() == 0
        assert (path.parent / "unheard of").exists()
        await now.check_completed(job)


class Large:
    """A track of half a step."""

    size_bytes = SCRUB_BYTES // 2

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name


class Records:
    """A store in which every file is a large track."""

    async def tracks(self, file_names: list[str]) -> dict[str, Large]:
        return {name: Large(name) for name in file_names}


class Folder:
    """A shelf that records which tracks are read."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.read: list[str] = []

    async def names(self, *, older_than_seconds: float) -> list[str]:
        return self._names

    async def is_damaged(self, track: Large) -> bool:
        self.read.append(track.file_name)
        return False


async def test_a_step_reads_no_more_than_its_share_and_a_round_reads_everything() -> None:
    names = [f"{number}.mp3" for number in range(5)]
    folder = Folder(names)
    scrubber = Scrubber(Records(), folder)  # type: ignore[arg-type]
    for read_so_far in (2, 4, 5):
        await scrubber.scrub()
        assert folder.read == names[:read_so_far]
    await scrubber.scrub()
    assert folder.read == names + names[:2]
