"""Tries a release of yt-dlp at YouTube before any conversion uses it, with the videos that the operator has named.

Each video is extracted as for a conversion, and two samples are read: its beginning, and a piece beyond the first
minute. If that fails, the release in use tries the same video, so that an incident of YouTube blames no release. Each
extraction takes its place in the hourly budget of an identity.

If conversions pause because of YouTube, a release that serves a video may be no better than the one in use, which tries
the same video then, too: YouTube's incident may just have ended.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from ytmp3.converter import TrialPassage
from ytmp3.converter.generation import Generation
from ytmp3.converter.identities import IdentityBook
from ytmp3.converter.releases.messages import shown
from ytmp3.converter.releases.workshop import scratch_folder
from ytmp3.converter.sandbox.spawner import ZygoteError
from ytmp3.converter.settings import ConversionLimits
from ytmp3.converter.slots import Slot
from ytmp3.converter.task import Task, way_of
from ytmp3.converter.youtube.events import Probed, ProbeTask
from ytmp3.converter.youtube.prober import probe
from ytmp3.core.errors import FAILURES, FailureCode, Fault
from ytmp3.core.ids import ClientId, VideoId
from ytmp3.core.probation import is_suspicious
from ytmp3.core.recipe import DEFAULT_RECIPE
from ytmp3.core.rollout import CanaryOutcome, CanaryVerdict, judge

WAIT_SECONDS: Final = 600.0
"""Time, in seconds, after which no further extraction begins. It includes the waits for places in the hourly budget,
which may be used up. An extraction that has begun has a time limit of its own, so that no place is wasted."""
PAUSED_UNDECIDED: Final = 2
"""While conversions pause, the trial ends after this number of undecided videos: further ones would tell no more."""
LATER_SECONDS: Final = 75.0
"""Place of the second sample in the track, in seconds, as for `ytmp3 doctor`."""
SAMPLES_SECONDS: Final = 30.0
"""Time, in seconds, for both samples, in addition to the time for the extraction."""
_CLIENT: Final = ClientId("update")
"""The client for whom the trial takes one of the slots for extractions."""

TakePassage = Callable[[VideoId], AbstractAsyncContextManager[TrialPassage]]
"""Waits for a place in the budget of an identity, and holds it until the block ends."""


class Trial(Struct, frozen=True, kw_only=True):
    """The result."""

    verdict: CanaryVerdict
    reason: str = ""
    """Why the release has not passed."""
    is_late: bool = False
    """Whether the time was over before all videos were tried."""


class Ask(Protocol):
    """Extracts a video with the new release, or with the established one."""

    async def __call__(self, video_id: VideoId, *, is_new: bool) -> Probed:
        """Return what was found. Raises TimeoutError if no further extraction may begin."""


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
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.videos = videos
        self._limits = limits
        self._identities = identities
        self._take_passage = take_passage
        self._take_slot = take_slot
        self._later_seconds = later_seconds
        self._wait_seconds = wait_seconds

    async def run(
        self, new: Generation, established: Generation, *, is_paused: bool = False, must_be_better: bool = False
    ) -> Trial:
        """Try all videos with a new release, and those that fail with the established one, too.

        `is_paused` and `must_be_better`: see `try_videos`.
        """
        until = asyncio.get_running_loop().time() + self._wait_seconds

        async def ask(video_id: VideoId, *, is_new: bool) -> Probed:
            return await self._ask(video_id, new if is_new else established, until)

        trial = await try_videos(self.videos, ask, is_paused=is_paused, must_be_better=must_be_better)
        if trial.is_late and trial.verdict is CanaryVerdict.UNDECIDED:
            why = f"the trial videos were not finished within {self._wait_seconds:g} s (is the hourly budget used up?)"
            return msgspec.structs.replace(trial, reason="; ".join(each for each in (why, trial.reason) if each))
        return trial

    async def _ask(self, video_id: VideoId, generation: Generation, until: float) -> Probed:
        """Extract a video once, and read two samples. Raises TimeoutError if it cannot begin until then."""
        tools = generation.tools
        limit = asyncio.timeout_at(until)
        try:
            async with (
                limit,
                self._take_passage(video_id) as passage,
                self._take_slot(_CLIENT),
                scratch_folder("ytmp3-canary-") as scratch,
            ):
                limit.reschedule(None)
                passage.begin()
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
                    found = await probe(tools.spawner, probe_task, profile, connections, seconds=seconds)
                if not failure_of(found):
                    passage.served(video_id)
                return found
        except (ZygoteError, OSError) as error:
            if limit.expired():
                raise  # a TimeoutError is an OSError
            # Not the release's fault: no process could be started, or the disk is full.
            return Probed(code=FailureCode.STORAGE_FULL.value, reason=str(error))


async def try_videos(videos: Sequence[VideoId], ask: Ask, *, is_paused: bool, must_be_better: bool) -> Trial:
    """Compare two releases by these videos. A TimeoutError of `ask` ends the trial; what was found until then counts.

    `is_paused`: conversions fail, so most videos will be undecided. `must_be_better`: the new release passes only if it
    serves a video with which the established one fails.
    """
    outcomes: list[CanaryOutcome] = []
    reason, is_better, is_late = "", not must_be_better, False
    try:
        for video_id in videos:
            outcome, reason_now = await _compare(video_id, ask)
            outcomes.append(outcome)
            reason = reason_now or reason
            if outcome is CanaryOutcome.SERVED and not is_better:
                found = await ask(video_id, is_new=False)
                is_better = bool(failure_of(found)) and may_blame(found)
            undecided = outcomes.count(CanaryOutcome.UNDECIDED)
            if outcome is CanaryOutcome.WORSE or (is_paused and undecided >= PAUSED_UNDECIDED):
                break
    except TimeoutError:
        is_late = True
    verdict = judge(outcomes)
    if is_late and not outcomes:
        verdict = CanaryVerdict.UNDECIDED
    if verdict is CanaryVerdict.PASSED and not is_better:
        verdict, reason = CanaryVerdict.UNDECIDED, reason or "the release in use serves the trial videos, too"
    return Trial(verdict=verdict, reason=reason, is_late=is_late)


async def _compare(video_id: VideoId, ask: Ask) -> tuple[CanaryOutcome, str]:
    for is_last in (False, True):
        found = await ask(video_id, is_new=True)
        reason = failure_of(found)
        if not reason:
            return CanaryOutcome.SERVED, ""
        if not may_blame(found):
            break
        # The one in use may fail for the same reason, and a failure of the new one may be chance.
        if not is_last and failure_of(await ask(video_id, is_new=False)):
            break
    else:
        return CanaryOutcome.WORSE, f"{video_id}: {reason}"
    return CanaryOutcome.UNDECIDED, f"{video_id}: {reason}"


def failure_of(found: Probed) -> str:
    """Return why a video was not served, in one line; empty: it was."""
    if found.code:
        return shown(f"{found.code}: {found.reason}")
    for name, sample in (("the beginning", found.beginning), ("a part beyond the first minute", found.later)):
        if sample is not None and sample.error:
            return shown(f"{name} cannot be read: {sample.error}")
    return ""


def may_blame(found: Probed) -> bool:
    """Return whether the release may have caused the failure. The child is not trusted: its code may be none.

    A refused address is not blamed: the two releases may have asked through different identities.
    """
    if not found.code or found.code not in set(FailureCode):
        return True
    code = FailureCode(found.code)
    return is_suspicious(code) and FAILURES[code].fault is not Fault.ADDRESS
