"""Encodes one long track with several encoders at once, on cores that are idle.

LAME has no threads, so one encoder uses little more than one core. Here, one ffmpeg decodes the source, the `Divider`
cuts the samples into overlapping segments of one or two minutes, several ffmpeg encode one segment each, and
`JoinedTrack` joins their frames. The result differs from that of one encoder in a few frames at each join, which are of
the same quality.

The rules:

* The conversion's own slot is for one encoder. Each further one takes a free slot for its segment, and only while a
  core is idle and no other conversion waits for a slot. A segment takes a second or two, so others hardly wait.
* The joined frames are written in order, and as soon as they are final, so that a client can listen meanwhile.
* If the parts cannot be joined, NotJoinableError is raised, and the caller encodes the track as a whole.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter import SoundProgress
from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.audio.divider import Divider, SourceSegment
from ytmp3.converter.audio.encoder import Encoder, EncoderRun
from ytmp3.converter.audio.ffmpeg import decode_arguments, segment_arguments
from ytmp3.converter.audio.joined_track import JoinedTrack
from ytmp3.converter.audio.joining import NotJoinableError
from ytmp3.converter.audio.open_files import OpenFiles, write_all
from ytmp3.converter.audio.segments import Plan, may_be_joined
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.slots import FairSlots, Slot
from ytmp3.converter.spool import Spool
from ytmp3.converter.tools import Tools
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.ids import ClientId
from ytmp3.core.loudness import Measured
from ytmp3.core.recipe import Recipe

MAX_ENCODERS: Final = 4
"""Most encoders of one track. One process decodes, which takes about a quarter of the CPU time of a conversion, so more
encoders would wait for it."""

COPY_BYTES: Final = 2**18
"""Most bytes of a segment that are read at once."""


class LongEncoding(StrEnum):
    """How a long track was encoded. The values are labels of a metric."""

    DIVIDED = "divided"
    """By several encoders."""
    BUSY = "busy"
    """By one encoder, because no further core or slot was idle."""
    NOT_DIVISIBLE = "not_divisible"
    """By one encoder, after a division was tried that failed: other sample rates, no possible join, a full disk, or a
    killed process."""


class Place(Struct, frozen=True):
    """Where an encoder may run."""

    core: int | None
    """The only CPU core to run on; None for all."""
    slot: Slot | None
    """The slot of this encoder, which may be given back early. None: it uses that of the conversion."""


class EncoderPlaces:
    """The encoders that one track may run: one with the conversion's own slot, and more where slots and cores are idle.

    One coroutine waits for places.
    """

    def __init__(self, slots: FairSlots, cores: Cores, client: ClientId) -> None:
        self._slots = slots
        self._cores = cores
        self._client = client
        self._count = 0
        self._is_own_used = False
        self._freed = asyncio.Event()

    @property
    def are_several(self) -> bool:
        """Whether two encoders could run now: one with the conversion's slot, which it holds, and another one."""
        return self._cores.idle > 1 and self._slots.is_idle(self._client)

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[Place]:
        """Wait for a place, and hold it until the block ends.

        Idle cores are looked for at the beginning, and whenever an encoder of this track ends.
        """
        while self._is_own_used and not self._may_have_another:
            self._freed.clear()
            await self._freed.wait()
        is_own, self._is_own_used = not self._is_own_used, True
        self._count += 1
        try:
            with self._cores.one() as core:
                if is_own:
                    yield Place(core, None)
                else:
                    async with self._slots.slot(self._client) as slot:
                        yield Place(core, slot)
        finally:
            self._count -= 1
            self._is_own_used = self._is_own_used and not is_own
            self._freed.set()

    @property
    def _may_have_another(self) -> bool:
        return self._count < MAX_ENCODERS and self._cores.idle > 0 and self._slots.is_idle(self._client)


class _Running(Struct):
    """An encoder that runs, or has ended."""

    source: SourceSegment
    path: Path
    """The file that it writes."""
    place: contextlib.AsyncExitStack
    """Gives its place back."""
    changed: asyncio.Event
    """Set when its output has grown, or it has ended."""
    task: asyncio.Task[None] | None = None


class LongRun(Struct, frozen=True, kw_only=True):
    """The arguments of one run."""

    demuxer: str
    recipe: Recipe
    target: Path
    """The file for the sound; an older one is overwritten."""
    announced_seconds: float | None
    sound: SoundProgress | None
    """What listeners hear."""
    plan: Plan


class LongTrack:
    """One run. `on_seconds` is called with the encoded duration, in seconds, whenever it has grown."""

    def __init__(
        self,
        tools: Tools,
        run: LongRun,
        limits: ConversionLimits,
        places: EncoderPlaces,
        on_seconds: Callable[[float], None],
    ) -> None:
        self._tools = tools
        self._run = run
        self._limits = limits
        self._places = places
        self._on_seconds = on_seconds
        self._folder = run.target.parent / "segments"
        self._all: list[_Running] = []
        self._written_bytes = 0
        self._in_order: asyncio.Queue[_Running | None] = asyncio.Queue()
        """The encoders in the order of their segments, for the coroutine that joins; then None."""

    async def encode(self, spool: Spool, on_waiting: Callable[[], None]) -> Measured | None:
        """Encode a spool, which may still grow. Returns the loudness, if the recipe asks for it.

        `on_waiting` is called whenever a check finds that the decoder waits for the download. In every case, no process
        and no file of a segment is left, and nothing changes the target any more. After an error, it may exist and be
        incomplete.

        Raises:
            NotJoinableError: the sound is of another kind than MPEG-1, or a join is not possible.
            ConversionError: the decoder or an encoder failed, or exceeded a limit.
            SpoolReplacedError: the download started over.
            ZygoteError: a process could not be started, or the zygote died.
            OSError: such as a full disk.
        """
        divider = Divider(self._run.plan, self._folder, self._tools.files)
        decoding = asyncio.create_task(self._decode(divider, spool, on_waiting), name="decode")
        others = [
            asyncio.create_task(divider.run(), name="divide"),
            asyncio.create_task(self._start_encoders(divider), name="start-encoders"),
            asyncio.create_task(self._join(divider), name="join"),
        ]
        try:
            await asyncio.wait([decoding, *others], return_when=asyncio.FIRST_EXCEPTION)
            if divider.has_ended:
                # The decoder has closed its output, so it ends now. If it has failed, that is the cause.
                await asyncio.wait([decoding])
            _raise_first([decoding, *others])
            return decoding.result()
        except BaseException:
            if self._run.sound is not None:
                self._run.sound.withdraw()
            raise
        finally:
            await to_its_end(self._clean_up(divider, [decoding, *others]))

    async def _clean_up(self, divider: Divider, tasks: Sequence[asyncio.Task[Measured | None]]) -> None:
        """Cancel all tasks and wait for them: first those that start others. Then remove the files of the segments."""
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        encoders = [running.task for running in self._all if running.task is not None]
        for task in encoders:
            task.cancel()
        if encoders:
            await asyncio.wait(encoders)
            for task in encoders:
                _ = task.cancelled() or task.exception()  # marks it as retrieved
        for running in self._all:
            # Of a task that was cancelled before its first step, too.
            await running.place.aclose()
        await divider.close()
        await self._tools.files.run(shutil.rmtree, self._folder, ignore_errors=True)

    async def _decode(self, divider: Divider, spool: Spool, on_waiting: Callable[[], None]) -> Measured | None:
        run = self._run

        def arguments(source: str) -> list[str]:
            return decode_arguments(self._tools.ffmpeg, source=source, demuxer=run.demuxer, recipe=run.recipe)

        decoder = Encoder(
            self._tools.spawner,
            EncoderRun(
                arguments=arguments,
                recipe=run.recipe,
                target=run.target,
                on_pipe=divider.read_from,
                is_held=lambda: divider.is_full,
                announced_seconds=run.announced_seconds,
                core=None,
                profile=self._tools.profiles.ffmpeg,
                sound=None,
            ),
            self._limits,
            _ignore,
            self._tools.files,
        )
        return await _encode(decoder, spool, on_waiting)

    async def _start_encoders(self, divider: Divider) -> None:
        """Start an encoder for each segment, as soon as there is a place for it."""
        while (source := await divider.segments.get()) is not None:
            if not may_be_joined(source.form.sample_rate, source.form.channels):
                raise NotJoinableError(f"{source.form.sample_rate} Hz, {source.form.channels} channels")
            place = contextlib.AsyncExitStack()
            where = await place.enter_async_context(self._places.one())
            path = self._folder / f"{source.segment.number}.mp3"
            running = _Running(source=source, path=path, place=place, changed=asyncio.Event())
            self._all.append(running)
            running.task = asyncio.create_task(self._encode_segment(running, where), name="encode-segment")
            running.task.add_done_callback(lambda _, changed=running.changed: changed.set())  # type: ignore[misc]
            self._in_order.put_nowait(running)
        self._in_order.put_nowait(None)

    async def _encode_segment(self, running: _Running, place: Place) -> None:
        spool = running.source.spool
        async with running.place:
            on_waiting = _nothing if place.slot is None else place.slot.release
            try:
                await _encode(self._encoder(running, place.core), spool, on_waiting)
            except ConversionError as error:
                if error.code in {FailureCode.MEDIA_INVALID, FailureCode.NO_AUDIO}:
                    # The media are samples of this program, so this ffmpeg cannot read them.
                    raise NotJoinableError(f"a segment: {error}") from error
                raise
        await self._tools.files.run(spool.path.unlink, missing_ok=True)

    def _encoder(self, running: _Running, core: int | None) -> Encoder:
        quality, number, form = self._run.recipe.quality, running.source.segment.number, running.source.form
        assert quality is not None

        def arguments(source: str) -> list[str]:
            return segment_arguments(self._tools.ffmpeg, source=source, form=form, quality=quality, is_first=not number)

        run = EncoderRun(
            arguments=arguments,
            # The decoder has cut and measured the sound.
            recipe=Recipe(format=self._run.recipe.format, quality=quality),
            target=running.path,
            announced_seconds=self._run.announced_seconds,
            core=core,
            profile=self._tools.profiles.ffmpeg,
            sound=None,
        )
        return Encoder(self._tools.spawner, run, self._limits, lambda _: running.changed.set(), self._tools.files)

    async def _join(self, divider: Divider) -> None:
        """Write the track, segment by segment."""
        run = self._run
        is_variable = (run.recipe.quality or "").startswith("V")
        track = JoinedTrack(run.plan, is_variable=is_variable)
        files = OpenFiles(self._tools.files)
        try:
            target = await files.open(run.target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if run.sound is not None:
                seconds = run.recipe.cut.length_of(run.announced_seconds or None)
                run.sound.begin(run.target, seconds=seconds, is_variable=is_variable)
            count = 0
            while (running := await self._in_order.get()) is not None:
                if count:
                    await files.run(_next_segment, track, target)
                await self._append(track, running, files, target)
                count += 1
            # Without any segment, this raises: the caller finds out why.
            await files.run(_finish, track, divider.samples, target)
            if run.sound is not None:
                run.sound.grow()
        finally:
            await files.close_all()

    async def _append(self, track: JoinedTrack, running: _Running, files: OpenFiles, target: int) -> None:
        """Append the output of one encoder to the track while it grows."""
        assert running.task is not None
        # The first report of progress comes when the encoder has written something.
        await running.changed.wait()
        if running.task.done():
            running.task.result()
        source = await files.open(running.path, os.O_RDONLY | os.O_NOFOLLOW)
        position, has_ended = 0, False
        while not has_ended:
            has_ended = running.task.done()
            if has_ended:
                running.task.result()
            running.changed.clear()
            position, written = await files.run(_copy, track, source, position, target)
            self._grown(written, track.samples / running.source.form.sample_rate)
            if not has_ended:
                await running.changed.wait()
        files.close(source)
        await self._tools.files.run(running.path.unlink, missing_ok=True)

    def _grown(self, written_bytes: int, seconds: float) -> None:
        self._written_bytes += written_bytes
        if self._written_bytes > self._limits.max_file_bytes:
            raise ConversionError(FailureCode.TOO_LARGE, f"the track has more than {self._written_bytes} bytes")
        if self._run.sound is not None:
            self._run.sound.grow()
        self._on_seconds(seconds)


async def _encode(encoder: Encoder, spool: Spool, on_waiting: Callable[[], None]) -> Measured | None:
    if spool.is_complete:
        return await encoder.encode_file(spool)
    return await encoder.encode_stream(spool, on_waiting)


def _raise_first(tasks: Sequence[asyncio.Task[Measured | None]]) -> None:
    """Raise the error of the first task that has failed, if there is one."""
    errors = [error for task in tasks if task.done() and not task.cancelled() and (error := task.exception())]
    for error in errors:
        # The output of an encoder cannot be joined. That of a single encoder may still be a track.
        if isinstance(error, BrokenError):
            raise NotJoinableError(f"{error}") from error
        raise error


def _copy(track: JoinedTrack, source: int, position: int, target: int) -> tuple[int, int]:
    """Append all new bytes of a segment to the track. Returns the new position, and how much was written. Blocks."""
    written = 0
    while piece := os.pread(source, COPY_BYTES, position):
        position += len(piece)
        sound = track.add(piece)
        write_all(target, sound)
        written += len(sound)
    return position, written


def _next_segment(track: JoinedTrack, target: int) -> None:
    """Begin the next segment of the track. Blocks."""
    write_all(target, track.next_segment())


def _finish(track: JoinedTrack, samples: int, target: int) -> None:
    """Write the end of the track, and its first frame, which is known now. Blocks."""
    last, first_frame = track.finish(samples)
    write_all(target, last)
    os.lseek(target, 0, os.SEEK_SET)
    write_all(target, first_frame)


def _nothing() -> None:
    """Do nothing: the encoder has no slot of its own to give back."""


def _ignore(_seconds: float) -> None:
    """Do nothing: only the progress of the joined track counts."""
