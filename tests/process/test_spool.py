"""The spool while it grows: what the child says of it, and what is poured out of it."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from ytmp3.converter.spool import Splicer, Spool, SpoolReplacedError
from ytmp3.converter.youtube.events import Event, Extraction, Preload, SpoolGrown, SpoolOpened
from ytmp3.core.ids import VideoId


def poured(spool: Spool) -> tuple[asyncio.Task[None], int]:
    """Begin to pour; the pipe's other end is the caller's."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    return asyncio.create_task(Splicer(spool, theirs).run()), ours


async def test_a_size_that_is_not_on_disk_yet_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b"first")
    spool = Spool(path)
    spool.grow(5 + 6, 100)
    task, pipe = poured(spool)
    await asyncio.sleep(0.05)
    assert os.read(pipe, 100) == b"first"
    before = time.process_time()
    await asyncio.sleep(0.2)
    assert time.process_time() - before < 0.1
    with path.open("ab") as file:
        file.write(b"second")
    spool.grow(11, 100)
    spool.complete(1000)  # which is a lie: the end is the end all the same
    async with asyncio.timeout(1):
        await task
    assert os.read(pipe, 100) == b"second"
    assert os.read(pipe, 1) == b""
    os.close(pipe)


async def test_a_spool_that_is_replaced_is_left_while_it_is_waited_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.path.touch()
    task, pipe = poured(spool)
    await asyncio.sleep(0.01)
    spool.replace()
    with pytest.raises(SpoolReplacedError):
        await asyncio.wait_for(task, 1)
    os.close(pipe)


def test_the_child_says_what_is_on_disk_and_not_what_is_in_its_buffer(tmp_path: Path) -> None:
    from ytmp3.converter.youtube.downloader import Downloader, StartedOverError, options
    from ytmp3.converter.youtube.extractor import VideoDownload

    said = list[Event]()
    spool = tmp_path / "spool-1"

    class Half(Downloader):
        """Writes a little, and reports it before it is written out; then more than it has counted."""

        def dl(self, name: str, info: object) -> tuple[bool, bool]:
            assert (name, info) == (str(spool), {})
            with spool.open("wb") as file:
                file.write(b"x" * 100)
                fetch._on_progress({"downloaded_bytes": 100})
                file.flush()
                fetch._on_progress({"downloaded_bytes": 100})
                fetch._on_progress({"downloaded_bytes": 50, "fragment_index": 1})
                fetch._on_progress({"downloaded_bytes": 50})
            raise AssertionError

    extraction = Extraction(
        video_id=VideoId("-"), scratch=str(tmp_path), cookies_file=None, max_duration_seconds=1, max_file_bytes=1000
    )
    preload = Preload(egress_proxy=None, egress_ca_file=None, deno_path=None)
    fetch = VideoDownload(Half(options(preload), None, None), extraction, said.append)
    with pytest.raises(StartedOverError):
        fetch._download({}, spool)
    sizes = [news.size_bytes for news in said if isinstance(news, SpoolGrown)]
    assert (said[0], sizes) == (SpoolOpened(name="spool-1"), [0, 100, 100])
