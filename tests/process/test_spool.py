"""The spool while it grows, and how it is spliced into a pipe."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from tests.stand.waiting import until
from ytmp3.converter.spool import Splicer, Spool, SpoolReplacedError
from ytmp3.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


def splice(spool: Spool) -> tuple[Splicer, asyncio.Task[None], int]:
    """Start to splice; the reading end of the pipe is the caller's."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    splicer = Splicer(spool, theirs, Threads("test", 2))
    return splicer, asyncio.create_task(splicer.run()), ours


async def test_a_reported_size_that_is_not_on_disk_yet_does_not_block_the_event_loop(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b"first")
    spool = Spool(path)
    spool.grow(5 + 6, 100)
    splicer, task, pipe = splice(spool)
    # A splicer that trusted the reported size would never give control back to this coroutine.
    await until(lambda: splicer.is_waiting_for_input, "the splicer waits for input")
    assert os.read(pipe, 100) == b"first"
    with path.open("ab") as file:
        file.write(b"second")
    spool.grow(11, 100)
    spool.complete(1000)  # larger than the file, which ends the splice all the same
    await asyncio.wait_for(task, 60)
    assert os.read(pipe, 100) == b"second"
    assert os.read(pipe, 1) == b""
    os.close(pipe)


async def test_a_splicer_that_waits_for_input_ends_when_its_spool_is_replaced(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.path.touch()
    splicer, task, pipe = splice(spool)
    await until(lambda: splicer.is_waiting_for_input, "the splicer waits for input")
    spool.replace()
    with pytest.raises(SpoolReplacedError):
        await asyncio.wait_for(task, 60)
    os.close(pipe)


async def test_bytes_that_arrive_with_the_completion_during_a_move_are_moved_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.path.write_bytes(b"first")

    class Late(Threads):
        """The child writes the rest and reports the end after the thread has read all, and before the loop knows it."""

        async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            result = await super().run(function, *args, **kwargs)
            if not spool.is_complete and function.__name__ == "_move":
                with spool.path.open("ab") as file:
                    file.write(b"second")
                spool.complete(11)
            return result

    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    await asyncio.wait_for(Splicer(spool, theirs, Late("test", 2)).run(), 60)
    assert os.read(ours, 100) == b"firstsecond"
    os.close(ours)
