"""One try of a conversion: extract, download while encoding, verify, tag. Other modules do the work of each step.

Rules: an extraction and an encoding each wait for a slot, which clients share; a conversion that waits for an encoding
slot holds only a file and the process that downloads it; no child process outlives the coroutine that started it; the
exit code 0 of an encoder is not enough, so every frame or packet is checked before the result counts as a track.
"""

import asyncio
import contextlib
import errno
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, assert_never

from msgspec import structs

from ytmp3.converter import Converted
from ytmp3.converter.audio.broken import BrokenError
from ytmp3.converter.audio.encoder import Encoder, EncoderRun
from ytmp3.converter.audio.ffmpeg import SNIFF_BYTES, demuxer_of, encode_arguments, is_streamable, may_be_as_wanted
from ytmp3.converter.audio.joining import NotJoinableError
from ytmp3.converter.audio.mp3 import walk_file
from ytmp3.converter.audio.tags import tags_of
from ytmp3.converter.audio.verify import assemble, check_cut, check_duration, read_cover
from ytmp3.converter.causes import first_cause
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.long_track import EncoderPlaces, LongEncoding, LongRun, LongTrack
from ytmp3.converter.progress import Progress
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.slots import FairSlots, Slot
from ytmp3.converter.spool import Spool, SpoolReplacedError
from ytmp3.converter.task import Task, ladder_of, way_of
from ytmp3.converter.tools import Tools
from ytmp3.converter.youtube.events import Facts
from ytmp3.converter.youtube.fetch import Connections, Fetch
from ytmp3.converter.youtube.signs import Sign
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.core.job import Metadata, Stage
from ytmp3.core.link import canonical_link
from ytmp3.core.loudness import Measured, volume_of
from ytmp3.core.recipe import Format

COVER_GRACE_SECONDS: Final = 2.0
"""Longest wait, in seconds, for the cover after the encoding: it is optional, so the track must not wait long."""
LOGGED_CHARACTERS: Final = 4000
"""After a failure, this many characters from the end of yt-dlp's output are logged."""

logger = logging.getLogger(__name__)


class ConversionTry:
    """One try of a conversion."""

    def __init__(
        self,
        *,
        slots: tuple[FairSlots, FairSlots],
        tools: Tools,
        limits: ConversionLimits,
        task: Task,
        progress: Progress,
    ) -> None:
        extract_slots, self._encode_slots = slots
        self._take_slot = functools.partial(extract_slots.slot, task.client)
        self._tools = tools
        self._limits = limits
        self._task = task
        self._progress = progress
        self._measured: Measured | None = None
        self._fetch = Fetch(task.scratch, limits, self._take_again, tools.files)
        self._encoded_path = task.scratch / f"encoded.{task.recipe.extension}"

    @property
    def tool_log(self) -> str:
        """The end of yt-dlp's standard output and error."""
        return self._fetch.log.text()[-LOGGED_CHARACTERS:].strip()

    @property
    def facts(self) -> Facts | None:
        """The latest report of the youtube child about the extraction."""
        return self._fetch.facts

    @property
    def is_slowed(self) -> bool:
        """Whether an extraction succeeded, but YouTube has answered 429 to a part of it, such as the page."""
        return self._fetch.chosen is not None and self._fetch.chosen.facts.signs.get(Sign.RATE_LIMITED, 0) > 0

    def may_try_another_format(self, error: ConversionError) -> bool:
        """Whether YouTube offers another format in place of the one that could not be decoded."""
        is_format_at_fault = error.code in {FailureCode.MEDIA_INVALID, FailureCode.NO_AUDIO}
        return is_format_at_fault and self._fetch.chosen is not None and self._fetch.chosen.has_other_formats

    def without_its_format(self) -> Task:
        """Return the task of the next try: in a folder of its own, without this one's format. Blocking."""
        assert self._fetch.chosen is not None
        if self._fetch.spool is not None:
            self._fetch.spool.path.unlink(missing_ok=True)
        excluded = (*self._task.excluded_formats, self._fetch.chosen.format_id)
        scratch = self._task.scratch / f"without-{len(excluded)}"
        scratch.mkdir()
        cookies = None if self._task.cookies is None else self._task.cookies.again_at(scratch / "cookies")
        return structs.replace(
            self._task, scratch=scratch, cookies=cookies, excluded_formats=excluded, is_repeated=True
        )

    @property
    def _announced_seconds(self) -> float | None:
        """How long the sound of the whole video should be: the track's own duration, or else the video's."""
        assert self._fetch.chosen is not None
        return self._fetch.chosen.track_seconds or self._fetch.chosen.metadata.duration_seconds

    @property
    def _expected_seconds(self) -> float | None:
        """How long the requested part of the sound should be."""
        return self._task.recipe.cut.length_of(self._announced_seconds or None)

    @contextlib.asynccontextmanager
    async def _take_again(self) -> AsyncIterator[Slot]:
        """Wait until the identity's budget allows another extraction, and hold a slot for it."""
        await self._task.passage.extract_again()
        async with self._take_slot() as slot:
            yield slot

    async def run(self) -> Converted:
        """Make the track. However this ends, its child processes have ended."""
        async with self._tools.connections(self._task.identity) as connections:
            try:
                metadata = await self._extract(connections)
                self._progress.extracted(metadata)
                cover = await self._download_and_encode()
            finally:
                await to_its_end(self._fetch.end())
        return await self._verify_and_tag(metadata, cover)

    async def _extract(self, connections: Connections) -> Metadata:
        async with self._take_again() if self._task.is_repeated else self._take_slot():
            with self._progress.timing(Stage.EXTRACTING):
                extraction, profile = way_of(self._tools, self._limits, self._task)
                await self._fetch.start(self._tools.spawner, extraction, profile, connections)
                extracted = await self._fetch.extracted()
                check_cut(self._task.recipe.cut, self._announced_seconds)
        logger.debug("format chosen", extra={"video_id": self._task.video_id, "format": extracted.format})
        return extracted.metadata

    async def _download_and_encode(self) -> bytes | None:
        """Download and encode concurrently. Returns the cover picture, or None if it is not ready in time."""
        download = asyncio.create_task(self._download(), name="download")
        encode = asyncio.create_task(self._encode(), name="encode")
        cover = asyncio.create_task(self._cover(), name="cover")
        try:
            await asyncio.wait([download, encode], return_when=asyncio.FIRST_EXCEPTION)
            if download.done() and encode.done():
                await asyncio.wait([cover], timeout=COVER_GRACE_SECONDS)
        finally:
            # Cancel all three before waiting: each may take five seconds to end its child process (TERM, then KILL).
            for task in (download, encode, cover):
                task.cancel()
            await to_its_end(asyncio.wait([download, encode, cover]))
        if errors := [error for task in (download, encode) if not task.cancelled() and (error := task.exception())]:
            raise first_cause(errors)
        return None if cover.cancelled() else cover.result()

    async def _download(self) -> None:
        with self._progress.timing(Stage.DOWNLOADING):
            await self._fetch.watch()
        if (served := self._fetch.served) is not None:
            ladder_of(self._tools, self._task).ended(
                served.rung, served.failed_rungs, served.client, served.refused_clients
            )

    async def _encode(self) -> None:
        while True:
            spool = await self._fetch.current_spool()
            with contextlib.suppress(SpoolReplacedError):
                await self._encode_spool(spool)
                return

    async def _encode_spool(self, spool: Spool) -> None:
        await spool.reaches(SNIFF_BYTES)
        head = await self._tools.files.run(spool.head, SNIFF_BYTES)
        demuxer = demuxer_of(head)
        if demuxer is None:
            raise ConversionError(FailureCode.MEDIA_INVALID, f"unknown container: {head[:16].hex()}")
        # An MP3 source may be copied instead of encoded, but only if the whole file is one clean stream at the wanted
        # bit rate. That can be checked only when the download is complete. Other copies wait for this too: they take a
        # tenth of a second, so an earlier start gains nothing.
        may_copy, must_copy = may_be_as_wanted(demuxer, self._task.recipe), self._task.recipe.is_copied
        may_overlap = not (may_copy or must_copy or spool.is_complete) and is_streamable(demuxer, head)
        if may_overlap and self._encode_slots.has_free(self._task.client):
            async with self._encode_slot() as slot:
                if await self._encode_growing(spool, demuxer, slot):
                    return
        await spool.completion()
        async with self._encode_slot():
            is_copied = must_copy or (may_copy and await self._is_as_wanted(spool))
            if is_copied or not await self._encode_long(spool, demuxer, _nothing):
                with self._encoder(spool, demuxer, is_copied=is_copied) as encoder:
                    self._measured = await encoder.encode_file(spool)

    async def _encode_growing(self, spool: Spool, demuxer: str, slot: Slot) -> bool:
        """Encode while the spool grows. Returns False if ffmpeg cannot read this file as a stream.

        In that case ffmpeg may still be able to read the complete file. The slot is given back as soon as the encoder
        waits for input: an encoder that waits for a slow download needs no core.
        """
        try:
            if not await self._encode_long(spool, demuxer, slot.release):
                with self._encoder(spool, demuxer, is_copied=False) as encoder:
                    self._measured = await encoder.encode_stream(spool, slot.release)
        except ConversionError as error:
            if error.code not in {FailureCode.MEDIA_INVALID, FailureCode.NO_AUDIO}:
                raise
            return False
        return True

    async def _encode_long(self, spool: Spool, demuxer: str, on_waiting: Callable[[], None]) -> bool:
        """Encode a long track with several encoders, if cores are idle. Returns whether that was possible."""
        places = EncoderPlaces(self._encode_slots, self._tools.cores, self._task.client)
        seconds, division = self._expected_seconds or 0.0, self._limits.division
        if seconds < division.min_seconds or self._task.recipe.format is not Format.MP3:
            return False
        if not places.are_several:
            self._tools.long_tracks[LongEncoding.BUSY] += 1
            return False
        run = LongRun(
            demuxer=demuxer,
            recipe=self._task.recipe,
            target=self._encoded_path,
            announced_seconds=self._announced_seconds,
            sound=self._task.sound,
            plan=division.for_track(seconds),
        )
        on_seconds = functools.partial(self._on_encoded, spool)
        try:
            self._measured = await LongTrack(self._tools, run, self._limits, places, on_seconds).encode(
                spool, on_waiting
            )
        except (NotJoinableError, ConversionError, OSError) as error:
            if not _is_of_division(error):
                raise
            logger.info(
                "encoding a long track as a whole", extra={"video_id": self._task.video_id, "reason": f"{error}"}
            )
            self._tools.long_tracks[LongEncoding.NOT_DIVISIBLE] += 1
            return False
        self._tools.long_tracks[LongEncoding.DIVIDED] += 1
        return True

    @contextlib.contextmanager
    def _encoder(self, spool: Spool, demuxer: str, *, is_copied: bool) -> Iterator[Encoder]:
        recipe, ffmpeg = self._task.recipe, self._tools.ffmpeg

        def arguments(source: str) -> list[str]:
            return encode_arguments(ffmpeg, source=source, demuxer=demuxer, recipe=recipe, is_copied=is_copied)

        with self._tools.cores.one() as core:
            run = EncoderRun(
                arguments=arguments,
                recipe=recipe,
                target=self._encoded_path,
                announced_seconds=self._announced_seconds,
                core=core,
                profile=self._tools.profiles.ffmpeg,
                sound=self._task.sound if recipe.format is Format.MP3 else None,
            )
            on_seconds = functools.partial(self._on_encoded, spool)
            yield Encoder(self._tools.spawner, run, self._limits, on_seconds, self._tools.files)

    def _on_encoded(self, spool: Spool, seconds: float) -> None:
        expected = self._expected_seconds
        stage = Stage.CONVERTING if spool.is_complete else Stage.DOWNLOADING
        encoded = seconds / expected if expected else spool.fraction / 2
        self._progress.moved(stage, downloaded=spool.fraction, encoded=encoded)

    @contextlib.asynccontextmanager
    async def _encode_slot(self) -> AsyncIterator[Slot]:
        # Short encodings go first, and every copy is short unless its loudness is measured.
        is_short = self._task.recipe.is_copied and not self._task.recipe.is_measured
        seconds = 0.0 if is_short else self._expected_seconds or 0.0
        async with self._encode_slots.slot(self._task.client, seconds) as slot:
            with self._progress.timing(Stage.CONVERTING):
                yield slot

    async def _is_as_wanted(self, spool: Spool) -> bool:
        """Whether the complete download already is one clean MP3 stream of the wanted bit rate."""
        with contextlib.suppress(BrokenError):
            stream = await self._tools.verifiers.run(walk_file, spool.path)
            return f"{stream.bitrate_kbps}k" == self._task.recipe.quality
        return False

    async def _cover(self) -> bytes | None:
        cover = await asyncio.shield(self._fetch.cover)
        # Use only the last part of the name, so that the child cannot name a file outside the scratch folder.
        path = None if cover is None else self._task.scratch / Path(cover.name).name
        return None if path is None else await self._tools.files.run(read_cover, path)

    async def _verify_and_tag(self, metadata: Metadata, cover: bytes | None) -> Converted:
        self._progress.moved(Stage.CONVERTING, downloaded=1.0, encoded=1.0)
        with self._progress.timing(Stage.PUBLISHING):
            recipe, link = self._task.recipe, canonical_link(self._task.video_id)
            volume = volume_of(recipe.loudness, self._measured)
            tags = tags_of(metadata, link, cover, volume, start_seconds=recipe.cut.start_seconds or 0.0)
            target = self._task.scratch / f"track.{recipe.extension}"
            track = await self._tools.verifiers.run(assemble, self._encoded_path, recipe.format, tags, target)
        check_duration(track.duration_seconds, self._announced_seconds, self._limits, self._task.recipe.cut)
        if track.size_bytes > self._limits.max_file_bytes:
            raise ConversionError(FailureCode.TOO_LARGE, f"the track has {track.size_bytes} bytes")
        return Converted(
            path=target,
            **structs.asdict(track),
            loudness_lufs=volume.lufs,
            metadata=metadata,
            stage_seconds=self._progress.stage_seconds,
        )


def _is_of_division(error: NotJoinableError | ConversionError | OSError) -> bool:
    """Return whether one encoder may succeed where a division has failed with this error.

    It needs less space, fewer processes and fewer open files, and nothing that an operator's ffmpeg may lack, such as
    the muxer of WAV.
    """
    match error:
        case NotJoinableError():
            return True
        case ConversionError(code=code):
            return code in {FailureCode.TOOL_MISSING, FailureCode.STORAGE_FULL}
        case OSError():
            return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}
        case _:
            assert_never(error)


def _nothing() -> None:
    """Do nothing: a complete download has nothing to wait for."""
