"""Open files of a coroutine that is cancelled while a call of it runs in a thread."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.stand.waiting import until
from ytmp3.converter.audio.open_files import OpenFiles, write_all
from ytmp3.threads import Threads


class Call:
    """A call that hangs in its thread until it is released."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.is_released = threading.Event()

    def hang(self) -> None:
        self.has_begun.set()
        self.is_released.wait()

    def write_late(self, target: int) -> None:
        self.hang()
        write_all(target, b"late")


async def written(files: OpenFiles, path: Path, call: Call) -> None:
    try:
        target = await files.open(path, os.O_WRONLY | os.O_CREAT)
        await files.run(call.write_late, target)
    finally:
        await files.close_all()


def descriptors_of(path: Path) -> list[str]:
    """Return the descriptors of this process that are open for the file."""
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.realpath(link) == str(path)]


async def a_few_steps() -> None:
    """Let the coroutine make more steps than it needs to react."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("hangs_before", "content"), [(True, b""), (False, b"late")])
async def test_a_cancelled_coroutine_ends_after_its_last_call(
    tmp_path: Path, hangs_before: bool, content: bytes
) -> None:
    threads, call, path = Threads("test", 1), Call(), tmp_path / "target"
    if hangs_before:
        # The file is opened when this call in the only thread has returned.
        threads.executor.submit(call.hang)
    writing = asyncio.create_task(written(OpenFiles(threads), path, call))
    try:
        await until(call.has_begun.is_set, "the call has begun", poll_seconds=0.01)
        await a_few_steps()
        writing.cancel()
        await a_few_steps()
        assert not writing.done(), "the call may still change the file"
    finally:
        call.is_released.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert path.read_bytes() == content
    await threads.run(os.getpid)  # after the calls that close files
    assert descriptors_of(path) == []
