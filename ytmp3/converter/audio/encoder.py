"""One run of ffmpeg: the spool goes in, MP3 frames come out into a file, and real progress while it does.

The encoder has no name of any file, no network, and no way to outlive its limits: wall time, silence, size of its
output, and the duration it has encoded so far are all judged here, while it runs.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.ffmpeg import FILE, STREAM, encode_arguments, encoded_seconds
from ytmp3.converter.audio.messages import code_of_ffmpeg_message
from ytmp3.converter.sandbox.pipes import Lines, Reader, Tail
from ytmp3.converter.sandbox.protocol import TOOL_NOT_STARTED, Walls
from ytmp3.converter.sandbox.spawner import Child, Spawner
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.spool import PIPE_BYTES, Pour, Spool
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.recipe import Recipe

CHECK_SECONDS: Final = 1.0
PIPES_SECONDS: Final = 0.5
PROGRESS_LINE_BYTES: Final = 1024

MEMORY_BYTES: Final = 2 * 2**30
"""Address space. ffmpeg needs 0.4 GiB of it for a song, 30 MB of them in memory; a hostile file could ask for more."""

NICENESS: Final = 19
"""The least share: encoders take every core there is. With 20 songs converting, the p99 of a status was 150 to 190 ms
with 10, and about 100 ms with 19. Other tools keep 10, lest a busy machine makes their checks fail."""

OVERSHOOT_BYTES: Final = 2**20
RUNAWAY_FACTOR: Final = 2.0
RUNAWAY_SECONDS: Final = 60.0
"""Sound beyond twice the announced length and a minute is a lie that is not worth finishing."""

SIGXFSZ_STATUSES: Final = frozenset({-25, 153})


class Order(Struct, frozen=True, kw_only=True):
    """What one run is to do."""

    ffmpeg: str
    demuxer: str
    recipe: Recipe
    is_copied: bool
    """The source has the recipe's codec and quality already: its frames are copied, not encoded again."""
    target: Path
    announced_seconds: float | None
    core: int | None
    """The one to keep to; None for all."""


class Encoder:
    """Runs ffmpeg once."""

    def __init__(
        self, spawner: Spawner, order: Order, limits: ConversionLimits, on_seconds: Callable[[float], None]
    ) -> None:
        self._spawner = spawner
        self._order = order
        self._limits = limits
        self._on_seconds = on_seconds
        self._seconds = 0.0
        self._moved_at = self._begun_at = time.monotonic()
        self._tail = Tail()
        self._pour: Pour | None = None
        self._on_starved: Callable[[], None] = _nothing

    async def encode_stream(self, spool: Spool, on_starved: Callable[[], None]) -> None:
        """Encode a spool that still grows. `on_starved` is called when it has grown too slowly for a second.

        Raises:
            ConversionError: it failed, or went over a limit.
            SpoolReplacedError: the download began again.
            ToolsLostError: the tool process is gone.
        """
        theirs, ours = os.pipe()
        _widen(ours)
        os.set_blocking(ours, False)
        self._pour = Pour(spool, ours)
        self._on_starved = on_starved
        await self._run(STREAM, theirs, asyncio.create_task(self._pour.run(), name="pour"))

    async def encode_file(self, spool: Spool) -> None:
        """Encode a spool that is complete. Raises as `encode_stream`."""
        source = os.open(spool.path, os.O_RDONLY | os.O_CLOEXEC)
        await self._run(FILE, source, None)

    async def _run(self, kind: str, source: int, pouring: asyncio.Task[None] | None) -> None:
        """Start, watch and judge one process; `source` is its standard input, closed here."""
        readers: list[Reader] = []
        child: Child | None = None
        try:
            child = await self._start(kind, source, readers)
            await self._watch(child, pouring)
            await asyncio.wait([reader.ended for reader in readers], timeout=PIPES_SECONDS)
            self._judge(child.ended.result().status)
        finally:
            if pouring is not None:
                # Before TERM: ffmpeg answers it only after its read returns, which the closed pipe sees to.
                pouring.cancel()
                await asyncio.wait([pouring])
            if child is not None:
                await child.end()
            for reader in readers:
                reader.close()

    async def _start(self, kind: str, source: int, readers: list[Reader]) -> Child:
        order = self._order
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, source)
            # In a thread: making a file waits for the file system's journal while another track is being fsynced. The
            # descriptor is opened here, where no cancellation can lose it.
            await asyncio.to_thread(_make_empty, order.target)
            target = os.open(order.target, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, target)
            progress_ours, progress = os.pipe()
            stack.callback(os.close, progress)
            lines = Lines(PROGRESS_LINE_BYTES, self._on_line)
            readers.append(Reader(progress_ours, lines.add))
            complaints_ours, complaints = os.pipe()
            stack.callback(os.close, complaints)
            readers.append(Reader(complaints_ours, self._tail.add))
            walls = Walls(
                file_bytes=self._limits.max_file_bytes + OVERSHOOT_BYTES,
                cpu_seconds=int(2 * self._wall_seconds()) + 1,
                memory_bytes=MEMORY_BYTES,
                niceness=NICENESS,
                core=order.core,
            )
            argv = encode_arguments(
                order.ffmpeg, source=kind, demuxer=order.demuxer, recipe=order.recipe, is_copied=order.is_copied
            )
            return await self._spawner.execute(
                argv, walls, [source, progress, complaints, target], folder=str(order.target.parent)
            )

    async def _watch(self, child: Child, pouring: asyncio.Task[None] | None) -> None:
        while not child.ended.done():
            waited: list[asyncio.Future[object]] = [child.ended]  # type: ignore[list-item]
            if pouring is not None and not pouring.done():
                waited.append(pouring)  # type: ignore[arg-type]
            await asyncio.wait(
                waited,
                timeout=min(CHECK_SECONDS, self._limits.idle_seconds / 4),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if pouring is not None and pouring.done():
                pouring.result()  # a replaced spool ends this run here
            self._check()

    def _check(self) -> None:
        """Raise ConversionError if a limit is passed now."""
        now = time.monotonic()
        if self._pour is not None and self._pour.is_starved:
            self._moved_at = now
            self._on_starved()
        if self._seconds > self._limits.max_duration_seconds or self._is_runaway():
            raise ConversionError(FailureCode.TOO_LONG, f"{self._seconds:.0f} s encoded")
        if now - self._moved_at > self._limits.idle_seconds:
            raise ConversionError(FailureCode.TOOL_MISSING, "the encoder does not move")
        if now - self._begun_at > self._wall_seconds() and not (self._pour and self._pour.is_starved):
            raise ConversionError(FailureCode.TOOL_MISSING, "the encoder takes too long")

    def _is_runaway(self) -> bool:
        announced = self._order.announced_seconds
        return announced is not None and self._seconds > RUNAWAY_FACTOR * announced + RUNAWAY_SECONDS

    def _wall_seconds(self) -> float:
        hours = (self._order.announced_seconds or self._limits.max_duration_seconds) / 3600
        return self._limits.encode_seconds * max(1.0, hours)

    def _on_line(self, line: bytes) -> None:
        seconds = encoded_seconds(line)
        if seconds is not None and seconds > self._seconds:
            self._seconds = seconds
            self._moved_at = time.monotonic()
            self._on_seconds(seconds)

    def _judge(self, status: int) -> None:
        if status == 0:
            return
        words = f"status {status}: {self._tail.text()[-1000:].strip()}"
        if status == TOOL_NOT_STARTED:
            raise ConversionError(FailureCode.TOOL_MISSING, words)
        if status in SIGXFSZ_STATUSES:
            raise ConversionError(FailureCode.TOO_LARGE, words)
        if status < 0:
            raise ConversionError(FailureCode.TOOL_MISSING, words)
        raise ConversionError(code_of_ffmpeg_message(words), words)


def _nothing() -> None:
    """Nobody asked."""


def _widen(pipe: int) -> None:
    with contextlib.suppress(OSError):  # over the user's quota of pipe pages: the default size works too
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _make_empty(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
