"""Divides decoded sound into the segments of a long track: reads a pipe, and writes one spool for each segment.

A decoder writes the samples into a pipe, about four times as fast as one encoder reads them. The divider writes them to
files, so that several encoders can read different segments at once. It stops reading while a segment waits for an
encoder. So the files take the space of those segments that are being encoded, and of at most two more: 46 MB each for
two minutes at 48 kHz in stereo. They are read within seconds, so most of them are removed before the system writes them
to the disk.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.open_files import OpenFiles, write_all
from ytmp3.converter.audio.samples import SampleForm, read_header
from ytmp3.converter.audio.segments import OVERLAP_FRAMES, PRE_ROLL_FRAMES, Plan, Segment, samples_in
from ytmp3.converter.sandbox.pipes import resolve
from ytmp3.converter.spool import Spool
from ytmp3.threads import Threads

READ_BYTES: Final = 2**18
"""Most bytes of one read from the pipe."""

FIRST_BYTES: Final = 4096
"""Most bytes of the read that finds out whether there is a stream, or another segment."""

CALL_BYTES: Final = 2**20
"""Most bytes that one call in a thread moves, so that the encoder is told about them soon: the capacity of the pipe."""

LONGEST_PAUSE_SECONDS: Final = 0.02
SHORTEST_PAUSE_SECONDS: Final = 0.002
"""Bounds, in seconds, of the pause after an empty pipe has bytes again. Meanwhile, the decoder fills half of the pipe.
Without a pause, the loop would wake up for each few kB that the decoder writes. With a longer one, the decoder would
wait for the loop: it writes up to 130 MB/s, and two encoders read up to 80 MB/s."""


class SourceSegment(Struct, frozen=True):
    """The samples of one segment."""

    segment: Segment
    form: SampleForm
    spool: Spool
    """It may still grow."""


class Divider:
    """Divides one stream of samples. `folder` is for the files, and is made if it does not exist."""

    def __init__(self, plan: Plan, folder: Path, threads: Threads) -> None:
        self._plan = plan
        self._folder = folder
        self._files = OpenFiles(threads)
        self._loop = asyncio.get_running_loop()
        self._pipe: asyncio.Future[int] = self._loop.create_future()
        self.segments: asyncio.Queue[SourceSegment | None] = asyncio.Queue(maxsize=1)
        """The segments, in order, and None after the last one."""
        self.is_full = False
        """Whether a segment waits for an encoder, so that nothing is read."""
        self.has_ended = False
        """Whether the decoder has closed the pipe."""
        self.samples = 0
        """Samples of each channel so far. At the end: those of the track."""

    def read_from(self, pipe: int) -> None:
        """Set the pipe to read from, which `close` closes."""
        os.set_blocking(pipe, False)
        self._files.adopt(pipe)
        self._pipe.set_result(pipe)

    async def run(self) -> None:
        """Read the pipe to its end. Without any sample, there is no segment.

        Raises:
            BrokenError: the decoder does not write samples.
            OSError: the disk is full, or fails.
        """
        await self._files.run(self._folder.mkdir, exist_ok=True)
        pipe = await self._pipe
        beginning, found = b"", None
        while found is None:
            more = await self._read(pipe)
            if not more:
                break
            beginning += more
            found = read_header(beginning)
        if found is not None:
            form, position = found
            await self._divide(pipe, form, beginning[position:])
        await self.segments.put(None)

    async def close(self) -> None:
        """Close the pipe and the files, but do not remove the files. Call it when `run` has ended: no file is added."""
        await self._files.close_all()

    async def _divide(self, pipe: int, form: SampleForm, content: bytes) -> None:
        """Write the segments. `content` has the first samples."""
        overlap_bytes = samples_in(PRE_ROLL_FRAMES + OVERLAP_FRAMES) * form.step_bytes
        number = 0
        while True:
            segment = self._plan.segment(number)
            size_bytes = samples_in(segment.end_frame - segment.first_frame) * form.step_bytes
            spool = Spool(self._folder / f"{number}.pcm")
            target = await self._files.open(spool.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            await self._files.run(write_all, target, content)
            spool.grow(len(content), None)
            await self._offer(SourceSegment(segment, form, spool))
            await self._fill(pipe, target, spool, size_bytes)
            self.samples = samples_in(segment.first_frame) + spool.size_bytes // form.step_bytes
            # If the track ends here, the next segment would have nothing of its own.
            more = b"" if self.has_ended else await self._read(pipe)
            if more:
                content = await self._files.run(os.pread, target, overlap_bytes, size_bytes - overlap_bytes) + more
            spool.complete(spool.size_bytes)
            self._files.close(target)
            if not more:
                return
            number += 1

    async def _offer(self, source: SourceSegment) -> None:
        self.is_full = True
        await self.segments.put(source)
        self.is_full = False

    async def _fill(self, pipe: int, target: int, spool: Spool, size_bytes: int) -> None:
        """Move samples until the spool has this size, or the decoder ends."""
        pause_seconds, moved_bytes = LONGEST_PAUSE_SECONDS, 0
        while spool.size_bytes < size_bytes and not self.has_ended:
            wanted = min(CALL_BYTES, size_bytes - spool.size_bytes)
            moved, self.has_ended = await self._files.run(_move, pipe, target, wanted)
            spool.grow(spool.size_bytes + moved, None)
            moved_bytes += moved
            if moved < wanted and not self.has_ended:
                await self._readable(pipe)
                pause_seconds *= CALL_BYTES / 2 / max(1, moved_bytes)
                pause_seconds = min(LONGEST_PAUSE_SECONDS, max(SHORTEST_PAUSE_SECONDS, pause_seconds))
                await asyncio.sleep(pause_seconds)
                moved_bytes = 0

    async def _read(self, pipe: int) -> bytes:
        """Wait for bytes, and read some; none at the end."""
        while True:
            await self._readable(pipe)
            try:
                content = os.read(pipe, FIRST_BYTES)
            except BlockingIOError:
                continue
            self.has_ended = not content
            return content

    async def _readable(self, pipe: int) -> None:
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pipe, resolve, readable, None)
        try:
            await readable
        finally:
            self._loop.remove_reader(pipe)


def _move(pipe: int, target: int, count: int) -> tuple[int, bool]:
    """Move up to so many bytes. Returns how many, and whether the pipe has ended. Blocks: called in a thread."""
    moved = 0
    while moved < count:
        try:
            content = os.read(pipe, min(READ_BYTES, count - moved))
        except BlockingIOError:
            return moved, False
        if not content:
            return moved, True
        write_all(target, content)
        moved += len(content)
    return moved, False
