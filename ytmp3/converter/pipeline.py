"""The order of a conversion: extract, download while encoding, verify, tag. Everything else is in the rooms it calls.

Rules: extraction and encoding each pass a FIFO gate, and what waits at the second one is only a file; a tool never
outlives the coroutine that started it; no exit code is believed without the walk over the MP3's frames.

CPU of a conversion: the encoder's, and beside it 0.05 s for the youtube child, 0.01 s each for server and zygote. The
ratios to ffmpeg alone are in scripts/bench/RESULTS.md.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter import Converted, ToolCheck
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.audio.encoder import Encoder, Order
from ytmp3.converter.audio.ffmpeg import SNIFF_BYTES, demuxer_of, demuxer_of_copies, is_streamable
from ytmp3.converter.audio.mp3 import CutError, Mp3Error, Stream, walk_file
from ytmp3.converter.audio.tag import MAX_COVER_BYTES, id3v2_tag
from ytmp3.converter.check import Checker
from ytmp3.converter.progress import Progress
from ytmp3.converter.sandbox.spawner import Spawner, ToolsLostError
from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.converter.spool import Spool, SpoolReplacedError
from ytmp3.converter.tools import deno_path, ffmpeg_path
from ytmp3.converter.youtube.fetch import Fetch
from ytmp3.converter.youtube.metadata import without_queries
from ytmp3.converter.youtube.news import Extraction, Found, Preload
from ytmp3.core.errors import ConversionError, FailureCode, NoProcess
from ytmp3.core.ids import VideoId
from ytmp3.core.job import Metadata, Report, Stage
from ytmp3.core.link import canonical_link
from ytmp3.core.recipe import Recipe

TOLERATED_SECONDS: Final = 2.0
TOLERATED_FRACTION: Final = 0.02
"""Announced durations are whole seconds, and YouTube's audio may differ a little from its video."""

COVER_GRACE_SECONDS: Final = 2.0
"""How long a finished encoding waits for the thumbnail."""


JPEG_MAGIC: Final = b"\xff\xd8\xff"

LOGGED_CHARACTERS: Final = 4000

_ASSEMBLE_BYTES: Final = 2**20

logger = logging.getLogger(__name__)


class Pipeline:
    """The Converter of one instance.

    `work_folder` is for files that the checks of the tools write. Each conversion has a scratch folder of its own.
    """

    def __init__(self, settings: ToolSettings, limits: ConversionLimits, work_folder: Path) -> None:
        self._limits = limits
        self._settings = settings
        self._ffmpeg = ffmpeg_path(settings)
        deno = deno_path()
        self._spawner = Spawner(
            Preload(
                egress_proxy=settings.egress_proxy,
                egress_ca_file=None if settings.egress_ca_file is None else str(settings.egress_ca_file),
                deno_path=deno,
            )
        )
        self._checker = Checker(self._spawner, ffmpeg=self._ffmpeg, deno=deno, folder=work_folder)
        self._extract_gate = asyncio.Semaphore(settings.extract_concurrency)
        self._encode_gate = asyncio.Semaphore(settings.encode_concurrency)
        self._cores = Cores(os.sched_getaffinity(0), places=settings.encode_concurrency)

    async def open(self) -> None:
        """Start the preloaded tool process. Never raises for a missing tool: `check` tells."""
        try:
            await self._spawner.ready()
        except ToolsLostError as error:
            logger.error("no tool process", extra={"reason": str(error)})

    async def close(self) -> None:
        """End every process of this converter; returns when none is left."""
        await self._spawner.close()

    async def check(self) -> list[ToolCheck]:
        """Ask yt-dlp, the JS runtime and ffmpeg whether they work."""
        return await self._checker.check()

    async def convert(
        self, video_id: VideoId, recipe: Recipe, scratch: Path, on_progress: Callable[[Report], None]
    ) -> Converted:
        """Convert one video; see the Converter protocol.

        Raises:
            ConversionError: with the code that says whose matter it is.
        """
        conversion = _Conversion(
            gates=(self._extract_gate, self._encode_gate),
            tools=_Tools(
                spawner=self._spawner,
                ffmpeg=self._ffmpeg,
                cores=self._cores,
                cookies_file=self._settings.cookies_file,
            ),
            limits=self._limits,
            task=_Task(video_id=video_id, recipe=recipe, scratch=scratch),
            progress=Progress(on_progress),
        )
        try:
            return await conversion.run()
        except ConversionError as error:
            _log_failure(video_id, error, conversion.tool_log)
            raise
        except ToolsLostError as error:
            raise NoProcess(str(error)) from error
        except OSError as error:
            # Our own disk: full, or failing. The output is what is missing then, and a later attempt may succeed.
            raise ConversionError(FailureCode.OUTPUT_TRUNCATED, f"{error.strerror}") from error


class _Tools(Struct, frozen=True, kw_only=True):
    spawner: Spawner
    ffmpeg: str
    cores: Cores
    cookies_file: Path | None


class _Task(Struct, frozen=True, kw_only=True):
    video_id: VideoId
    recipe: Recipe
    scratch: Path


class Turn:
    """A place in a gate, which may be left early, and is left once."""

    def __init__(self, gate: asyncio.Semaphore) -> None:
        self._gate = gate
        self._is_mine = False

    async def take(self) -> None:
        """Wait for the place, first come, first served."""
        await self._gate.acquire()
        self._is_mine = True

    def leave(self) -> None:
        """Let the next one in."""
        if self._is_mine:
            self._is_mine = False
            self._gate.release()


class _Conversion:
    """One call of `convert`."""

    def __init__(
        self,
        *,
        gates: tuple[asyncio.Semaphore, asyncio.Semaphore],
        tools: _Tools,
        limits: ConversionLimits,
        task: _Task,
        progress: Progress,
    ) -> None:
        self._extract_gate, self._encode_gate = gates
        self._tools = tools
        self._limits = limits
        self._task = task
        self._progress = progress
        self._fetch = Fetch(task.scratch, limits)
        self._encoded_path = task.scratch / f"encoded.{task.recipe.extension}"

    @property
    def tool_log(self) -> str:
        """The end of what yt-dlp wrote."""
        return self._fetch.log.text()[-LOGGED_CHARACTERS:].strip()

    async def run(self) -> Converted:
        try:
            found = await self._extract()
            self._progress.extracted(found.metadata)
            picture = await self._download_and_encode(found)
        finally:
            await self._fetch.end()
        return await self._verify_and_tag(found.metadata, picture)

    async def _extract(self) -> Found:
        async with self._extract_gate:
            with self._progress.timing(Stage.EXTRACTING):
                await self._fetch.start(self._tools.spawner, await self._extraction())
                return await self._fetch.found()

    async def _extraction(self) -> Extraction:
        cookies = self._tools.cookies_file
        if cookies is not None:
            # yt-dlp writes its cookies back at the end: into a copy, so that conversions do not race for the file.
            cookies = Path(await asyncio.to_thread(shutil.copyfile, cookies, self._task.scratch / "cookies"))
        return Extraction(
            video_id=self._task.video_id,
            scratch=str(self._task.scratch),
            cookies_file=None if cookies is None else str(cookies),
            max_duration_seconds=self._limits.max_duration_seconds,
            max_file_bytes=self._limits.max_file_bytes,
        )

    async def _download_and_encode(self, found: Found) -> bytes | None:
        """Do both, and return the cover if it is there in time."""
        download = asyncio.create_task(self._download(), name="download")
        encode = asyncio.create_task(self._encode(found), name="encode")
        cover = asyncio.create_task(self._cover(), name="cover")
        try:
            await asyncio.wait([download, encode], return_when=asyncio.FIRST_EXCEPTION)
            if download.done() and encode.done():
                await asyncio.wait([cover], timeout=COVER_GRACE_SECONDS)
        finally:
            # All at once: each may have a tool to end, and a tool may take its five seconds.
            for task in (download, encode, cover):
                task.cancel()
            await asyncio.wait([download, encode, cover])
        if errors := [error for task in (download, encode) if not task.cancelled() and (error := task.exception())]:
            raise _first_cause(errors)
        return None if cover.cancelled() else cover.result()

    async def _download(self) -> None:
        with self._progress.timing(Stage.DOWNLOADING):
            await self._fetch.watch()

    async def _encode(self, found: Found) -> None:
        while True:
            spool = await self._fetch.begun()
            with contextlib.suppress(SpoolReplacedError):
                await self._encode_spool(spool, found)
                return

    async def _encode_spool(self, spool: Spool, found: Found) -> None:
        await spool.reaches(SNIFF_BYTES)
        head = spool.head(SNIFF_BYTES)
        demuxer = demuxer_of(head)
        if demuxer is None:
            raise ConversionError(FailureCode.MEDIA_INVALID, f"unknown container: {head[:16].hex()}")
        # A copy needs the whole file first, to know that it is one clean stream at the wanted rate.
        may_copy = demuxer == demuxer_of_copies(self._task.recipe)
        may_overlap = not may_copy and is_streamable(demuxer, head) and not spool.is_complete
        if may_overlap and not self._encode_gate.locked():
            async with self._turn() as turn:
                if await self._tried_stream(spool, demuxer, found, turn):
                    return
        await spool.completion()
        async with self._turn():
            is_copied = may_copy and await self._is_as_wanted(spool)
            with self._encoder(spool, demuxer, found, is_copied=is_copied) as encoder:
                await encoder.encode_file(spool)

    async def _tried_stream(self, spool: Spool, demuxer: str, found: Found, turn: Turn) -> bool:
        """Encode while it grows. False if that did not work for this container: then the finished file may."""
        try:
            with self._encoder(spool, demuxer, found, is_copied=False) as encoder:
                # An encoder that waits for a slow download needs no core: others may have its turn.
                await encoder.encode_stream(spool, turn.leave)
        except ConversionError as error:
            if error.code not in {FailureCode.MEDIA_INVALID, FailureCode.NO_AUDIO}:
                raise
            return False
        return True

    @contextlib.contextmanager
    def _encoder(self, spool: Spool, demuxer: str, found: Found, *, is_copied: bool) -> Iterator[Encoder]:
        announced = found.metadata.duration_seconds

        def on_seconds(seconds: float) -> None:
            stage = Stage.CONVERTING if spool.is_complete else Stage.DOWNLOADING
            encoded = seconds / announced if announced else spool.fraction / 2
            self._progress.moved(stage, downloaded=spool.fraction, encoded=encoded)

        with self._tools.cores.one() as core:
            order = Order(
                ffmpeg=self._tools.ffmpeg,
                demuxer=demuxer,
                recipe=self._task.recipe,
                is_copied=is_copied,
                target=self._encoded_path,
                announced_seconds=announced,
                core=core,
            )
            yield Encoder(self._tools.spawner, order, self._limits, on_seconds)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[Turn]:
        turn = Turn(self._encode_gate)
        await turn.take()
        try:
            with self._progress.timing(Stage.CONVERTING):
                yield turn
        finally:
            turn.leave()

    async def _is_as_wanted(self, spool: Spool) -> bool:
        """Whether the finished download is one clean MP3 stream of the wanted bit rate already."""
        with contextlib.suppress(Mp3Error):
            stream = await asyncio.to_thread(walk_file, spool.path)
            return f"{stream.bitrate_kbps}k" == self._task.recipe.quality
        return False

    async def _cover(self) -> bytes | None:
        cover = await asyncio.shield(self._fetch.cover)
        return None if cover is None else _read_cover(self._task.scratch / Path(cover.name).name)

    async def _verify_and_tag(self, metadata: Metadata, cover: bytes | None) -> Converted:
        self._progress.moved(Stage.CONVERTING, downloaded=1.0, encoded=1.0)
        with self._progress.timing(Stage.PUBLISHING):
            tag = id3v2_tag(metadata, canonical_link(self._task.video_id), cover)
            target = self._task.scratch / f"track.{self._task.recipe.extension}"
            stream, size, sha256 = await asyncio.to_thread(_assemble, self._encoded_path, tag, target)
        _judge_duration(stream, metadata, self._limits)
        if size > self._limits.max_file_bytes:
            raise ConversionError(FailureCode.TOO_LARGE, f"the track has {size} bytes")
        return Converted(
            path=target,
            size_bytes=size,
            duration_seconds=stream.duration_seconds,
            sha256=sha256,
            metadata=metadata,
            stage_seconds=self._progress.stage_seconds,
        )


def _read_cover(path: Path) -> bytes | None:
    """Return the cover, or None if that file is none: a picture is never a reason to fail."""
    with contextlib.suppress(OSError):
        # The child that wrote it has had strangers' bytes in its hands: no link of its making is followed.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor has no Path
            cover = file.read(MAX_COVER_BYTES + 1)
        if cover.startswith(JPEG_MAGIC) and len(cover) <= MAX_COVER_BYTES:
            return cover
    return None


def _log_failure(video_id: VideoId, error: ConversionError, tool_log: str) -> None:
    words = {"video_id": video_id, "code": error.code.value, "reason": without_queries(error.reason)}
    logger.warning("attempt failed", extra=words)
    if tool_log:
        logger.info("what yt-dlp said", extra={"video_id": video_id, "tool_log": without_queries(tool_log)})


def _judge_duration(stream: Stream, metadata: Metadata, limits: ConversionLimits) -> None:
    """Raise ConversionError if the sound is longer than allowed or not as long as announced."""
    seconds, announced = stream.duration_seconds, metadata.duration_seconds
    if seconds > limits.max_duration_seconds + TOLERATED_SECONDS:
        raise ConversionError(FailureCode.TOO_LONG, f"{seconds:.1f} s")
    if announced and abs(seconds - announced) > max(TOLERATED_SECONDS, TOLERATED_FRACTION * announced):
        raise ConversionError(FailureCode.OUTPUT_TRUNCATED, f"{seconds:.1f} s of {announced:.1f} s")


def _assemble(encoded: Path, tag: bytes, target: Path) -> tuple[Stream, int, str]:
    """Verify, then write tag and frames to `target`, hashing on the way. Blocking: runs in a thread.

    Raises:
        ConversionError: the encoder's output is not one clean MP3 stream.
        OSError: it cannot be read or written.
    """
    try:
        stream = walk_file(encoded)
    except CutError as error:
        raise ConversionError(FailureCode.OUTPUT_TRUNCATED, f"the encoder's output: {error}") from error
    except Mp3Error as error:
        raise ConversionError(FailureCode.MEDIA_INVALID, f"the encoder's output: {error}") from error
    digest = hashlib.sha256(tag)
    buffer = bytearray(_ASSEMBLE_BYTES)
    view = memoryview(buffer)
    with encoded.open("rb", buffering=0) as source, target.open("wb", buffering=0) as sink:
        sink.write(tag)
        while count := source.readinto(buffer):
            digest.update(view[:count])
            sink.write(view[:count])
        size = sink.tell()
    return stream, size, digest.hexdigest()


def _first_cause(errors: list[BaseException]) -> BaseException:
    """Return the error to report: the download's before the encoder's, which may only suffer from it."""
    return next((error for error in errors if not _is_about_media(error)), errors[0])


def _is_about_media(error: BaseException) -> bool:
    return isinstance(error, ConversionError) and error.code is FailureCode.MEDIA_INVALID
