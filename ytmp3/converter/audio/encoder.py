"""One run of ffmpeg: reads a spool, writes the encoded, copied or decoded sound, and reports its progress.

ffmpeg gets no file name and no network. While it runs, the server checks the wall time, the time without progress, the
size of the output, and the encoded duration.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter import SoundProgress
from ytmp3.converter.audio.ffmpeg import (
    FILE,
    MEMORY_BYTES,
    STREAM,
    encoded_seconds,
    errors_in,
    gain_of_encoder,
    measured_in,
)
from ytmp3.converter.audio.messages import code_of_ffmpeg_message
from ytmp3.converter.audio.open_files import OpenFiles
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.sandbox.pipes import DRAIN_SECONDS, Lines, Reader, Tail
from ytmp3.converter.sandbox.protocol import NOT_STARTED_STATUS, Profile, ResourceLimits
from ytmp3.converter.sandbox.spawner import Child, Spawner
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.spool import Splicer, Spool, open_spool, widen
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.loudness import Measured
from ytmp3.core.recipe import Recipe
from ytmp3.threads import Threads

WATCH_SECONDS: Final = 1.0
"""Longest interval between two checks of the limits, in seconds. If the idle limit is short, it is a quarter of
that."""

PROGRESS_LINE_BYTES: Final = 1024
"""Longest accepted line of ffmpeg's progress output, in bytes. Real lines are far shorter."""

NICENESS: Final = 19
"""The lowest priority, because encoders use all CPU time that they get. With 20 songs in progress, the p99 of a status
request was 150 to 190 ms with niceness 10 and about 100 ms with 19. Other child processes keep 10, so that health
checks pass on a busy machine."""

OUTPUT_SLACK_BYTES: Final = 2**20
"""Difference between ffmpeg's RLIMIT_FSIZE and the limit on the size, in bytes. A file just above the limit is then
refused with a clear error, before ffmpeg is killed."""

RUNAWAY_FACTOR: Final = 2.0
RUNAWAY_SECONDS: Final = 60.0
"""Encoding stops when the audio is longer than the announced duration times the factor, plus these seconds. Then the
announced duration is wrong, and the result would be refused at the end anyway."""

SKIP_SPEED: Final = 10.0
"""While ffmpeg decodes the sound before a cut, it reports no progress. It gets a second for each ten seconds of sound;
on an idle core, it decodes more than a hundred in a second."""

ERROR_CHARACTERS: Final = 1000
"""Number of characters, from the end of ffmpeg's error output, that become the reason of an error."""

SIGXFSZ_STATUSES: Final = frozenset({-25, 153})
"""Exit statuses of a process that exceeded RLIMIT_FSIZE: ended by signal 25, or 128 + 25 from a shell script."""


def _never() -> bool:
    """Return False: the default of `is_held`."""
    return False


class EncoderRun(Struct, frozen=True, kw_only=True):
    """The arguments of one run."""

    arguments: Callable[[str], list[str]]
    """Returns the command for a kind of input: STREAM or FILE."""
    recipe: Recipe
    target: Path
    """The file for the sound; an older one is overwritten."""
    on_pipe: Callable[[int], None] | None = None
    """Takes the reading end of a pipe, and closes it. The sound is written to this pipe instead of the target."""
    is_held: Callable[[], bool] = _never
    """Whether the reader of the pipe waits for something else. The time without progress is not counted then."""
    announced_seconds: float | None
    core: int | None
    """The only CPU core to run on; None for all."""
    profile: Profile | None
    """What ffmpeg may reach; None if it is an operator's script."""
    sound: SoundProgress | None
    """What listeners hear; None for a format that has no live sound."""


class Encoder:
    """Runs ffmpeg once. `on_seconds` is called with the encoded duration, in seconds, whenever it has grown."""

    def __init__(
        self,
        spawner: Spawner,
        run: EncoderRun,
        limits: ConversionLimits,
        on_seconds: Callable[[float], None],
        files: Threads,
    ) -> None:
        self._spawner = spawner
        self._files = files
        self._output_files = OpenFiles(files)
        self._run = run
        self._limits = limits
        self._on_seconds = on_seconds
        self._seconds = 0.0
        self._moved_at = self._begun_at = time.monotonic()
        self._tail = Tail()
        self._splicer: Splicer | None = None
        self._on_waiting: Callable[[], None] = _ignore

    async def encode_stream(self, spool: Spool, on_waiting: Callable[[], None]) -> Measured | None:
        """Encode a spool that still grows. `on_waiting` is called whenever a check finds the encoder waiting for input.

        Returns the loudness, if the recipe asks for it.

        In every case, no process is left, and nothing changes the target any more. After an error, it may exist and be
        incomplete.

        Raises:
            ConversionError: the encoder failed or exceeded a limit.
            SpoolReplacedError: the download started over.
            ZygoteError: the process could not be started, or the zygote died.
        """
        theirs, ours = os.pipe()
        widen(ours)
        os.set_blocking(ours, False)
        self._splicer = Splicer(spool, ours, self._files)
        self._on_waiting = on_waiting
        return await self._encode(STREAM, theirs, asyncio.create_task(self._splicer.run(), name="splicer"))

    async def encode_file(self, spool: Spool) -> Measured | None:
        """Encode a spool that is complete. Returns and raises as `encode_stream` does."""
        source = await self._files.descriptor(open_spool, spool.path)
        return await self._encode(FILE, source, None)

    async def _encode(self, kind: str, source: int, splicing: asyncio.Task[None] | None) -> Measured | None:
        """Start and supervise one process, and check its exit status. `source` is its input, and is closed here."""
        readers: list[Reader] = []
        child: Child | None = None
        try:
            child = await self._start(kind, source, readers)
            # The limits on the encoder's time begin now, so that they do not include the wait for the zygote.
            self._moved_at = self._begun_at = time.monotonic()
            await self._watch(child, splicing)
            await asyncio.wait([reader.ended for reader in readers], timeout=DRAIN_SECONDS)
            self._judge(child.ended.result().status)
            self._on_sound()
            return self._measured()
        except BaseException:
            if self._run.sound is not None:
                self._run.sound.withdraw()
            raise
        finally:
            await to_its_end(self._clean_up(splicing, child, readers))

    async def _clean_up(
        self, splicing: asyncio.Task[None] | None, child: Child | None, readers: Sequence[Reader]
    ) -> None:
        if splicing is not None:
            # This closes the pipe, and must happen before SIGTERM: ffmpeg handles the signal only when its read has
            # returned, which the closed pipe causes. The task must have begun: otherwise it would close nothing.
            await asyncio.sleep(0)
            splicing.cancel()
            await asyncio.wait([splicing])
        if child is not None:
            await child.end()
        for reader in readers:
            reader.close()
        await self._output_files.close_all()

    async def _start(self, kind: str, source: int, readers: list[Reader]) -> Child:
        run = self._run
        with contextlib.ExitStack() as stack:
            stack.callback(self._files.close if kind == FILE else os.close, source)
            target = await self._output(stack)
            if run.sound is not None:
                quality = run.recipe.quality or ""
                seconds = run.recipe.cut.length_of(run.announced_seconds or None)
                run.sound.begin(run.target, seconds=seconds, is_variable=quality.startswith("V"))
            progress_ours, progress = os.pipe()
            stack.callback(os.close, progress)
            lines = Lines(PROGRESS_LINE_BYTES, self._on_line)
            readers.append(Reader(progress_ours, lines.add))
            errors_ours, errors = os.pipe()
            stack.callback(os.close, errors)
            readers.append(Reader(errors_ours, self._tail.add))
            limits = ResourceLimits(
                file_bytes=self._limits.max_file_bytes + OUTPUT_SLACK_BYTES,
                cpu_seconds=int(2 * self._wall_seconds()) + 1,
                memory_bytes=MEMORY_BYTES,
                niceness=NICENESS,
                core=run.core,
                profile=run.profile,
            )
            descriptors = [source, progress, errors, target]
            return await self._spawner.execute(run.arguments(kind), limits, descriptors, folder=str(run.target.parent))

    async def _output(self, stack: contextlib.ExitStack) -> int:
        """Return the descriptor that ffmpeg writes the sound to. `stack` closes it here, when ffmpeg has it."""
        if self._run.on_pipe is None:
            target = await self._output_files.open(self._run.target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            stack.callback(self._output_files.close, target)
            return target
        ours, theirs = os.pipe()
        stack.callback(os.close, theirs)
        widen(ours)
        self._run.on_pipe(ours)
        return theirs

    async def _watch(self, child: Child, splicing: asyncio.Task[None] | None) -> None:
        while not child.ended.done():
            waited: list[asyncio.Future[object]] = [child.ended]  # type: ignore[list-item]
            if splicing is not None and not splicing.done():
                waited.append(splicing)  # type: ignore[arg-type]
            await asyncio.wait(
                waited,
                timeout=min(WATCH_SECONDS, self._limits.idle_seconds / 4),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if splicing is not None and splicing.done():
                splicing.result()  # raises if the spool has been replaced
            self._check()

    def _check(self) -> None:
        """Raise ConversionError if a limit is exceeded."""
        now = time.monotonic()
        if self._is_waiting_for_input():
            self._moved_at = now
            self._on_waiting()
        elif self._run.is_held():
            self._moved_at = now
        if self._seconds > self._limits.max_duration_seconds or self._is_runaway():
            raise ConversionError(FailureCode.TOO_LONG, f"{self._seconds:.0f} s encoded")
        skipped = 0.0 if self._seconds else self._run.recipe.cut.start_ms / 1000
        if now - self._moved_at > self._limits.idle_seconds + skipped / SKIP_SPEED:
            raise ConversionError(FailureCode.TOOL_MISSING, "the encoder does not move")
        if now - self._begun_at > self._wall_seconds() and not self._is_waiting_for_input():
            raise ConversionError(FailureCode.TOOL_MISSING, "the encoder takes too long")

    def _is_waiting_for_input(self) -> bool:
        return self._splicer is not None and self._splicer.is_waiting_for_input

    def _is_runaway(self) -> bool:
        announced = self._run.announced_seconds
        return announced is not None and self._seconds > RUNAWAY_FACTOR * announced + RUNAWAY_SECONDS

    def _wall_seconds(self) -> float:
        hours = (self._run.announced_seconds or self._limits.max_duration_seconds) / 3600
        return self._limits.encode_seconds * max(1.0, hours)

    def _on_line(self, line: bytes) -> None:
        seconds = encoded_seconds(line)
        if seconds is not None and seconds > self._seconds:
            self._seconds = seconds
            self._moved_at = time.monotonic()
            self._on_sound()
            self._on_seconds(seconds)

    def _measured(self) -> Measured | None:
        if not self._run.recipe.is_measured:
            return None
        measured = measured_in(self._tail.text())
        if measured is None:
            raise ConversionError(FailureCode.TOOL_MISSING, "the encoder has not reported the loudness")
        return measured.changed(gain_of_encoder(self._run.recipe))

    def _on_sound(self) -> None:
        if self._run.sound is not None:
            self._run.sound.grow()

    def _judge(self, status: int) -> None:
        if status == 0:
            return
        reason = f"status {status}: {errors_in(self._tail.text())[-ERROR_CHARACTERS:].strip()}"
        if status == NOT_STARTED_STATUS:
            raise ConversionError(FailureCode.TOOL_MISSING, reason)
        if status in SIGXFSZ_STATUSES:
            raise ConversionError(FailureCode.TOO_LARGE, reason)
        if status < 0:
            raise ConversionError(FailureCode.TOOL_MISSING, reason)
        raise ConversionError(code_of_ffmpeg_message(reason), reason)


def _ignore() -> None:
    """Do nothing: the default for `on_waiting`."""
