"""Runs a program for a short time: starts it with a descriptor as input, reads its output, and ends it."""

import asyncio
import os
from collections.abc import Callable

from msgspec import Struct

from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.sandbox.pipes import DRAIN_SECONDS, Reader, Tail
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.spawner import Spawner


class ShortRun(Struct, frozen=True, kw_only=True):
    """The arguments of a run."""

    argv: list[str]
    source: int
    """The descriptor that becomes its standard input. The caller closes it."""
    descriptors: list[int]
    """The descriptors that become its 3, 4, ... The caller closes them."""
    folder: str
    limits: ResourceLimits
    seconds: float
    """Longest time that the program may run."""
    max_output_bytes: int
    """Number of bytes from the beginning of its standard output that are kept."""


class Completed(Struct, frozen=True, kw_only=True):
    """A run that has ended."""

    status: int
    """Exit status; negative for the signal that ended it."""
    output: bytes
    errors: str
    """The end of its standard error."""


async def run_briefly(spawner: Spawner, run: ShortRun) -> Completed:
    """Run a program to its end. In every case, no process and no descriptor is left.

    Raises:
        TimeoutError: the program did not end in time, and was killed.
        ZygoteError: the program could not be started.
    """
    output, errors = bytearray(), Tail()
    readers: list[Reader] = []

    def take(chunk: bytes) -> None:
        output.extend(chunk[: run.max_output_bytes - len(output)])

    out, err = _pipe_to(take, readers), _pipe_to(errors.add, readers)
    try:
        descriptors = [run.source, out, err, *run.descriptors]
        child = await spawner.execute(run.argv, run.limits, descriptors, folder=run.folder)
    except BaseException:
        _close(readers)
        raise
    finally:
        os.close(out)
        os.close(err)
    try:
        async with asyncio.timeout(run.seconds):
            ended = await child.wait()
            await asyncio.wait([reader.ended for reader in readers], timeout=DRAIN_SECONDS)
    finally:
        try:
            await to_its_end(child.end())
        finally:
            _close(readers)
    return Completed(status=ended.status, output=bytes(output), errors=errors.text())


def _pipe_to(sink: Callable[[bytes], None], readers: list[Reader]) -> int:
    """Create a pipe whose content is passed to `sink`. Returns its writing end."""
    ours, theirs = os.pipe()
    readers.append(Reader(ours, sink))
    return theirs


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.close()
