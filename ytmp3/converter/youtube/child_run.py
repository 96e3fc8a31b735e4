"""The server's side of a child that only reports what it finds: a playlist, or a probe of a player client.

A download has more to it: permits, limits while it runs, and a spool (`fetch`).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final

from ytmp3.converter.sandbox.pipes import DRAIN_SECONDS, Lines, Reader, Tail
from ytmp3.converter.sandbox.protocol import ResourceLimits
from ytmp3.converter.sandbox.spawner import Spawner
from ytmp3.converter.youtube.events import MAX_LINE_BYTES

FILE_BYTES: Final = 2**20
"""Largest file that such a child may write. It needs to write none."""


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
            await child.end()
    finally:
        for reader in readers:
            reader.close()
    return has_ended
