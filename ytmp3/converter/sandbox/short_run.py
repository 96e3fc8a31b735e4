"""A program that answers in moments: started, fed from a descriptor, read to a bound, ended."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ytmp3.converter.sandbox.pipes import Reader, Tail
from ytmp3.converter.sandbox.protocol import Walls
from ytmp3.converter.sandbox.spawner import Spawner

PIPES_SECONDS: Final = 0.5


class ShortRun(Struct, frozen=True, kw_only=True):
    """What to run. `descriptors` become its 3, 4, ...; they and `source` (its 0) stay the caller's."""

    argv: list[str]
    source: int
    descriptors: list[int]
    folder: str
    walls: Walls
    seconds: float
    max_answer_bytes: int


class Answer(Struct, frozen=True, kw_only=True):
    """What came of it."""

    status: int
    output: bytes
    complaints: str


async def run_briefly(spawner: Spawner, run: ShortRun) -> Answer:
    """Run a program to its end.

    Raises:
        TimeoutError: it did not end in time; it is gone now.
        ToolsLostError: it could not be started.
    """
    output, complaints = bytearray(), Tail()
    readers: list[Reader] = []

    def take(chunk: bytes) -> None:
        output.extend(chunk[: run.max_answer_bytes - len(output)])

    out, err = _pipe_to(take, readers), _pipe_to(complaints.add, readers)
    try:
        child = await spawner.execute(run.argv, run.walls, [run.source, out, err, *run.descriptors], folder=run.folder)
    except BaseException:
        _close(readers)
        raise
    finally:
        os.close(out)
        os.close(err)
    try:
        async with asyncio.timeout(run.seconds):
            ended = await child.wait()
            await asyncio.wait([reader.ended for reader in readers], timeout=PIPES_SECONDS)
    finally:
        await child.end()
        _close(readers)
    return Answer(status=ended.status, output=bytes(output), complaints=complaints.text())


def _pipe_to(sink: Callable[[bytes], None], readers: list[Reader]) -> int:
    ours, theirs = os.pipe()
    readers.append(Reader(ours, sink))
    return theirs


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.close()
