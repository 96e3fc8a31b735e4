"""The server's side of a child that only reports what it finds: a playlist, or a probe of a player client.

A download has more to it: permits, limits while it runs, and a spool (`fetch`).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final

from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.sandbox.pipes import DRAIN_SECONDS, Lines, Reader, Tail
from ytmp3.converter.sandbox.protocol import Profile, ResourceLimits
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.youtube.events import MAX_LINE_BYTES
from ytmp3.converter.youtube.fetch import DATA_BYTES, Connections

FILE_BYTES: Final = 2**20
"""Largest file that such a child may write. It needs to write none."""


async def run_extraction(
    spawner: Spawner,
    task: bytes,
    profile: Profile,
    connections: Connections,
    on_line: Callable[[bytes], None],
    *,
    seconds: float,
) -> bool:
    """Run a child that extracts one video once, with the limits of a download and the connections to the server.

    As `run_child`, which describes the other parameters, the result and the error.
    """
    limits = ResourceLimits(
        file_bytes=FILE_BYTES,
        cpu_seconds=int(2 * seconds) + 1,
        data_bytes=DATA_BYTES,
        network=True,
        profile=profile,
    )
    # In place of the pipe of permits, which a second extraction would need.
    no_permits = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        more = connections.descriptors(no_permits)
        return await run_child(spawner, task, limits, on_line, seconds=seconds, more=more)
    finally:
        os.close(no_permits)


async def run_child(
    spawner: Spawner,
    task: bytes,
    limits: ResourceLimits,
    on_line: Callable[[bytes], None],
    *,
    seconds: float,
    more: Sequence[int] = (),
) -> bool:
    """Run a child for at most `seconds`, and end it then. Returns whether it has ended before.

    `on_line` is called with each line of its events, which are not decoded yet. `more` are the further descriptors that
    the child gets; they stay the caller's.

    Raises:
        ZygoteError: the child could not be forked.
    """
    log_ours, log_theirs = os.pipe()
    events_ours, events_theirs = os.pipe()
    readers = [Reader(log_ours, Tail().add), Reader(events_ours, Lines(MAX_LINE_BYTES, on_line).add)]
    try:
        try:
            child = await spawner.fork(task, limits, log=log_theirs, events=events_theirs, more=more)
        finally:
            os.close(log_theirs)
            os.close(events_theirs)
        try:
            await asyncio.wait([child.ended], timeout=seconds)
            has_ended = child.ended.done()
            # Of a child that is late, only what is in the pipe already is read.
            await asyncio.wait([reader.ended for reader in readers], timeout=DRAIN_SECONDS if has_ended else 0)
        finally:
            await to_its_end(child.end())
    finally:
        for reader in readers:
            reader.close()
    return has_ended
