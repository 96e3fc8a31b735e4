"""The converter of an instance: owns what all conversions share, and tries one again with another format of YouTube.

`conversion` has the steps of one try.

Besides the encoder, a conversion takes 0.05 s of CPU time in the downloading child, and 0.01 s each in the server and
in the zygote. scripts/bench/RESULTS.md compares a conversion with ffmpeg alone.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from ytmp3.converter import (
    ONLY_PASSAGE,
    Converted,
    Observer,
    Passage,
    ReleaseInUse,
    SandboxIncompleteError,
    ToolCheck,
    UpdateSurroundings,
)
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.causes import log_failure
from ytmp3.converter.conversion import ConversionTry
from ytmp3.converter.generation import Generation
from ytmp3.converter.generations import Generations
from ytmp3.converter.progress import Progress
from ytmp3.converter.releases.canary import Canary
from ytmp3.converter.releases.store import ReleaseStore
from ytmp3.converter.releases.updater import Pace, Updater
from ytmp3.converter.releases.workshop import Workshop
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import ConversionLimits, Identity, ToolSettings
from ytmp3.converter.slots import FairSlots
from ytmp3.converter.task import Task, way_of
from ytmp3.converter.tools import Tools
from ytmp3.converter.tries import Tries
from ytmp3.converter.youtube.describer import Found, describe_video
from ytmp3.converter.youtube.events import Facts
from ytmp3.converter.youtube.lister import read_playlist
from ytmp3.converter.youtube.signs import Sign
from ytmp3.core.description import Description
from ytmp3.core.errors import ConversionError, FailureCode, Fault, NoProcess
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.playlist import Listing
from ytmp3.core.recipe import DEFAULT_RECIPE, Recipe
from ytmp3.core.rollout import OFF

logger = logging.getLogger(__name__)


def _folder_in(scratch: Path) -> Path:
    folder = scratch / "repeated"
    try:
        folder.mkdir()
    except OSError as error:
        raise ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}") from error
    return folder


class Pipeline:
    """The implementation of `Converter`; one for each instance.

    `work_folder` is for files that the health check writes. Each conversion has a scratch folder of its own.
    By default `spawner` and `cores` are made from the settings and the machine; tests pass others.
    """

    def __init__(
        self,
        settings: ToolSettings,
        limits: ConversionLimits,
        work_folder: Path,
        *,
        spawner: Spawner | None = None,
        cores: Cores | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._settings, self._limits, self._pace = settings, limits, pace or Pace()
        self._generations = Generations(
            settings,
            work_folder,
            spawner=spawner,
            cores=cores,
            steps=self._pace.steps,
            poll_seconds=self._pace.follow_seconds,
        )
        self._updating: asyncio.Task[None] | None = None
        self._signs: Counter[str] = Counter()
        extractions, encoders = settings.extract_concurrency, settings.encode_concurrency
        # An extraction may take 300 MB, but only for seconds, so it has no spare slot.
        self._slots = FairSlots(extractions, spare=0), FairSlots(encoders, spare=encoders)

    def use_identities(self, identities: Sequence[Identity]) -> None:
        """See the Protocol."""
        self._generations.identities.replace(identities)

    async def open(self) -> None:
        """Start the zygote; see the Converter protocol. If it does not start, the next conversion tries again."""
        await self._generations.open()
        try:
            missing = await self._generations.current.checker.missing_protections()
        except ZygoteError as error:
            missing = (str(error),)
        if missing and self._settings.requires_sandbox:
            raise SandboxIncompleteError("; ".join(missing))

    def start_updates(self, surroundings: UpdateSurroundings) -> None:
        """See the Protocol."""
        settings, generations = self._settings, self._generations
        generations.is_broken = lambda: surroundings.cause() is Fault.RELEASE
        if settings.releases_folder is None or settings.update == OFF:
            return
        store = ReleaseStore(settings.releases_folder)
        canary = Canary(
            settings.canary_videos,
            self._limits,
            generations.identities,
            take_passage=surroundings.passage,
            take_slot=self._slots[0].slot,
        )
        # The child that fetches follows the proxies and authorities of the environment, as `ytmp3 extractor` does.
        workshop = Workshop(settings, store, os.environ)
        updater = Updater(settings.update, store, workshop, canary, generations, self._pace, surroundings)
        self._updating = asyncio.create_task(updater.run(), name="update-releases")

    async def close(self) -> None:
        """End every process of this converter. Returns when none is left."""
        if self._updating is not None:
            self._updating.cancel()
            await asyncio.wait([self._updating])
        await self._generations.close()

    def solutions(self) -> Mapping[str, int]:
        """See the Protocol."""
        return self._generations.solutions

    def long_tracks(self) -> Mapping[str, int]:
        """See the Protocol."""
        return self._generations.long_tracks

    def release(self) -> ReleaseInUse:
        """See the Protocol."""
        return self._generations.release

    def release_outcomes(self) -> Mapping[tuple[str, str], int]:
        """See the Protocol."""
        return self._generations.outcomes

    async def check(self) -> list[ToolCheck]:
        """Check that yt-dlp, the JavaScript runtime and ffmpeg work."""
        identities = self._generations.identities
        # In use, so that its zygote is not ended while the check asks it for processes.
        with self._generations.in_use() as generation:
            cookies = await generation.tools.files.run(identities.check_cookies)
            checks = await generation.checker.check()
        return [*checks, *(() if cookies is None else (cookies,))]

    def signs(self) -> Mapping[str, int]:
        """Return how often each sign of trouble at YouTube was seen since the start."""
        return self._signs

    def refused_cookies(self) -> Mapping[str, int]:
        """See the Protocol."""
        return self._generations.identities.refused_cookies()

    async def list_playlist(self, url: str, client: ClientId, scratch: Path, *, max_items: int) -> Listing:
        """See the Protocol."""
        egress = self._generations.identities.first.egress
        async with self._slots[0].slot(client):
            with self._generations.in_use() as generation:
                spawner, profile = generation.tools.spawner, generation.tools.profiles.youtube_through(egress)
                return await read_playlist(spawner, url, scratch, profile, max_items=max_items, egress=egress)

    async def describe(
        self, video_id: VideoId, client: ClientId, scratch: Path, passage: Passage = ONLY_PASSAGE
    ) -> Description:
        """See the Protocol."""
        identity = self._generations.identities.of(passage.name)
        task = Task(
            video_id=video_id,
            recipe=DEFAULT_RECIPE,
            client=client,
            scratch=scratch,
            passage=passage,
            identity=identity,
        )
        with self._generations.in_use() as generation:
            tries = Tries(generation.tools, task)
            found = await self._describe(generation.tools, task)
            if isinstance(found.result, ConversionError) and (other := await tries.with_account(found.result)):
                again = await self._describe(generation.tools, other)
                if other.cookies is not None:
                    await tries.record_refusal(other.cookies, again.facts)
                found = found if isinstance(again.result, ConversionError) else again
        if isinstance(found.result, ConversionError):
            raise found.result
        return found.result

    async def _describe(self, tools: Tools, task: Task) -> Found:
        """Ask once. `task` asks as a guest, or with cookies."""
        if task.is_repeated:
            await task.passage.extract_again()
        try:
            async with self._slots[0].slot(task.client), tools.connections(task.identity) as connections:
                extraction, profile = way_of(tools, self._limits, task)
                seconds = self._limits.extract_seconds
                found = await describe_video(tools.spawner, extraction, profile, connections, seconds=seconds)
        except ZygoteError as error:
            raise NoProcess(str(error)) from error
        except OSError as error:
            raise ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}") from error
        self._record(task.video_id, found.facts)
        return found

    async def convert(
        self,
        video_id: VideoId,
        recipe: Recipe,
        client: ClientId,
        scratch: Path,
        observer: Observer,
        passage: Passage = ONLY_PASSAGE,
    ) -> Converted:
        """Convert one video; see the Converter protocol.

        Raises:
            ConversionError: its code is the reason, such as a private video or a missing program.
        """
        generations, progress = self._generations, Progress(observer.on_progress)
        task = Task(
            video_id=video_id,
            recipe=recipe,
            client=client,
            scratch=scratch,
            sound=observer.sound,
            passage=passage,
            identity=generations.identities.of(passage.name),
        )
        generation = generations.for_conversion()
        try:
            return await self._convert_with(generation, task, progress)
        except ConversionError as error:
            before = generations.before(generation)
            if before is None or not generations.may_repeat(generation, error.code):
                raise
            failed = error
        # The release of yt-dlp is new. Does the one before convert the video? This belongs to the same attempt.
        with generations.in_use(before):
            folder = await before.tools.files.run(_folder_in, scratch)
            again = structs.replace(task, scratch=folder, is_repeated=True)
            try:
                converted = await self._convert_with(before, again, progress)
            except ConversionError as error:
                generations.repeated_in_vain(generation, error.code)
                raise
        generations.blame(generation, failed.code)
        return converted

    async def _convert_with(self, generation: Generation, task: Task, progress: Progress) -> Converted:
        """Convert with the release of a generation, and count the outcome."""
        with self._generations.in_use(generation):
            try:
                converted = await self._convert(task, generation.tools, progress)
            except ConversionError:
                self._generations.ended(generation, is_good=False)
                raise
            self._generations.ended(generation, is_good=True)
            return converted

    async def _convert(self, task: Task, tools: Tools, progress: Progress) -> Converted:
        slots, video_id = self._slots, task.video_id
        tries = Tries(tools, task)
        task = await tries.first()
        while True:
            conversion = ConversionTry(slots=slots, tools=tools, limits=self._limits, task=task, progress=progress)
            try:
                converted = await self._run(conversion, task)
            except ConversionError as error:
                error.stage_seconds = {stage.value: seconds for stage, seconds in progress.stage_seconds.items()}
                log_failure(video_id, error, conversion.tool_log)
                task = await tries.after(task, conversion, error)
            else:
                await tries.succeeded(task, conversion)
                return converted

    async def _run(self, conversion: ConversionTry, task: Task) -> Converted:
        try:
            return await conversion.run()
        except ZygoteError as error:
            raise NoProcess(str(error)) from error
        except OSError as error:
            # The local disk is full or failing. A later attempt may succeed.
            raise ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}") from error
        finally:
            if conversion.is_slowed:
                task.passage.slowed()
            self._record(task.video_id, conversion.facts)

    def _record(self, video_id: VideoId, facts: Facts | None) -> None:
        """Count and log the signs of trouble in an extraction. The child is not trusted: unknown kinds are dropped."""
        signs = {} if facts is None else {sign: facts.signs[sign] for sign in Sign if facts.signs.get(sign, 0) > 0}
        if facts is None or not signs:
            return
        self._signs.update(signs)
        seen = {"client": facts.client[:40], "signs": signs, "formats": structs.asdict(facts.formats)}
        logger.info("trouble at YouTube", extra={"video_id": video_id, **seen})
