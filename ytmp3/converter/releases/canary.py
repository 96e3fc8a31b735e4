"""Tries a release of yt-dlp at YouTube before any conversion uses it, with the videos that the operator has named.

Each video is extracted as for a conversion, and two samples are read: its beginning, and a piece beyond the first
minute. If that fails, the release in use tries the same video, so that an incident of YouTube blames no release. Each
extraction takes its place in the hourly budget of an identity.
"""

import asyncio
import contextlib
import functools
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter import Passage
from ytmp3.converter.generation import Generation
from ytmp3.converter.identities import IdentityBook
from ytmp3.converter.releases.messages import shown
from ytmp3.converter.sandbox.spawner import ZygoteError
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.slots import Slot
from ytmp3.converter.task import Task, way_of
from ytmp3.converter.youtube.events import Probed, ProbeTask
from ytmp3.converter.youtube.prober import probe
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.probation import is_suspicious
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.core.rollout import CanaryOutcome, CanaryVerdict, judge

SECONDS: Final = 600.0
"""Longest time of the whole trial, in seconds. Meanwhile, commands cannot change the release. It includes the wait for
a place in the hourly budget, which may be used up."""
LATER_SECONDS: Final = 75.0
"""Place of the second sample in the track, in seconds, as for `ytmp3 doctor`."""
SAMPLES_SECONDS: Final = 30.0
"""Time, in seconds, for both samples, in addition to the time for the extraction."""
_CLIENT: Final = ClientId("update")
"""The client for whom the trial takes one of the slots for extractions."""

logger = logging.getLogger(__name__)

TakePassage = Callable[[VideoId], AbstractAsyncContextManager[Passage]]
"""Waits for a place in the budget of an identity, and holds it until the block ends."""


class Trial(Struct, frozen=True, kw_only=True):
    """The result."""

    verdict: CanaryVerdict
    reason: str = ""
    """Why the release has not passed."""


class Canary:
    """Tries releases. `take_slot` waits for a slot for extractions."""

    def __init__(
        self,
        videos: Sequence[VideoId],
        limits: ConversionLimits,
        identities: IdentityBook,
        *,
        take_passage: TakePassage,
        take_slot: Callable[[ClientId], AbstractAsyncContextManager[Slot]],
        later_seconds: float = LATER_SECONDS,
    ) -> None:
        self.videos = videos
        self._limits = limits
        self._identities = identities
        self._take_passage = take_passage
        self._take_slot = take_slot
        self._later_seconds = later_seconds

    async def run(self, new: Generation, established: Generation) -> Trial:
        """Try all videos with a new release, and those that fail with the established one, too."""
        outcomes: list[CanaryOutcome] = []
        reason = ""
        try:
            async with asyncio.timeout(SECONDS):
                for video_id in self.videos:
                    outcome, reason_now = await self._compare(video_id, new, established)
                    outcomes.append(outcome)
                    reason = reason_now or reason
                    if outcome is CanaryOutcome.WORSE:
                        break
        except TimeoutError:
            return Trial(verdict=CanaryVerdict.UNDECIDED, reason=f"no end within {SECONDS:g} s")
        return Trial(verdict=judge(outcomes), reason=reason)

    async def _compare(self, video_id: VideoId, new: Generation, established: Generation) -> tuple[CanaryOutcome, str]:
        for is_last in (False, True):
            found = await self._ask(video_id, new)
            reason = failure_of(found)
            if not reason:
                return CanaryOutcome.SERVED, ""
            if not may_blame(found):
                break
            # The one in use may fail for the same reason, and a failure of the new one may be chance.
            if not is_last and failure_of(await self._ask(video_id, established)):
                break
        else:
            return CanaryOutcome.WORSE, f"{video_id}: {reason}"
        return CanaryOutcome.UNDECIDED, f"{video_id}: {reason}"

    async def _ask(self, video_id: VideoId, generation: Generation) -> Probed:
        """Extract a video once, and read two samples."""
        tools = generation.tools
        try:
            async with self._take_passage(video_id) as passage, self._take_slot(_CLIENT), _scratch() as scratch:
                task = Task(
                    video_id=video_id,
                    recipe=DEFAULT_RECIPE,
                    client=_CLIENT,
                    scratch=scratch,
                    passage=passage,
                    identity=self._identities.of(passage.name),
                )
                async with tools.connections(task.identity) as connections:
                    extraction, profile = way_of(tools, self._limits, task)
                    probe_task = ProbeTask(extraction=extraction, later_seconds=self._later_seconds)
                    seconds = self._limits.extract_seconds + SAMPLES_SECONDS
                    return await probe(tools.spawner, probe_task, profile, connections, seconds=seconds)
        except (ZygoteError, OSError) as error:
            # Not the release's fault: no process could be started, or the disk is full.
            return Probed(code=FailureCode.STORAGE_FULL.value, reason=str(error))


@contextlib.asynccontextmanager
async def _scratch() -> AsyncIterator[Path]:
    """Make a folder for one child, and remove it afterwards."""
    make = functools.partial(tempfile.TemporaryDirectory, prefix="ytmp3-canary-", ignore_cleanup_errors=True)
    folder = await asyncio.to_thread(make)
    try:
        yield Path(folder.name)
    finally:
        await asyncio.to_thread(folder.cleanup)


def failure_of(found: Probed) -> str:
    """Return why a video was not served, in one line; empty: it was."""
    if found.code:
        return shown(f"{found.code}: {found.reason}")
    for name, sample in (("the beginning", found.beginning), ("a part beyond the first minute", found.later)):
        if sample is not None and sample.error:
            return shown(f"{name} cannot be read: {sample.error}")
    return ""


def may_blame(found: Probed) -> bool:
    """Return whether the release may have caused the failure. The child is not trusted: its code may be none."""
    return not found.code or found.code not in set(FailureCode) or is_suspicious(FailureCode(found.code))
