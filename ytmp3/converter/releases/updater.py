"""Updates yt-dlp without an operator (YTDLP_UPDATE). `core.rollout` decides; `Generations` uses what is chosen here.

One round: ask the index which releases there are; choose a candidate; fetch it; try it without a network (`workshop`);
try it at YouTube (`canary`); write it to the state with a small share of new conversions. A release that fails a trial
is quarantined. Whatever else fails ends the round, and a later one begins again.

A round holds the lock of the store while it chooses and fetches the candidate, and again while it writes the result, so
commands and servers can change the state during the trials, which may take long. If they have done so, the release is
not begun. A hold keeps the release on the disk meanwhile. Turns in the job store let one instance try a release at a
time. The state is written last: a round that is killed leaves the release in use, and at most a fetched one, which the
next round uses or removes.
"""

import asyncio
import contextlib
import logging
import math
import os
import random
import time
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Final

from msgspec import Struct

from ytmp3.converter import UpdateSurroundings
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.generations import Generations
from ytmp3.converter.releases.canary import Canary, Trial
from ytmp3.converter.releases.messages import shown
from ytmp3.converter.releases.store import LOCK_SECONDS, BusyError, DamagedError, ReleaseStore
from ytmp3.converter.releases.workshop import CannotTryError, FetchError, Workshop
from ytmp3.converter.sandbox.spawner import ZygoteError
from ytmp3.core import rollout
from ytmp3.core.errors import Fault
from ytmp3.core.release_state import State
from ytmp3.core.rollout import BROKEN_LOOK_SECONDS, WHOLE, CanaryVerdict, Offer, Steps

LONGEST_PAUSE_SECONDS: Final = 3600.0
"""Longest pause, in seconds, before a release whose trial said nothing is tried again. It begins with twice
BROKEN_LOOK_SECONDS and doubles. It matters while conversions fail, because the index is asked more often then."""
MAX_DOUBLINGS: Final = 10
"""Bounds the exponent of this pause: a release may be postponed any number of times."""

logger = logging.getLogger(__name__)


class Pace(Struct, frozen=True, kw_only=True):
    """When rounds begin. Tests are faster."""

    poll_seconds: float = 5.0
    """Interval, in seconds, at which a round is found due. Conversions may begin to fail at any time."""
    first_seconds: float = 120.0
    """Longest time from the start until the first round, in seconds. It is random: instances start together."""
    again_seconds: float = BROKEN_LOOK_SECONDS
    """Longest time, in seconds, until a round follows one that another instance, a command or the index prevented."""
    follow_seconds: float = 2.0
    """Interval, in seconds, at which the state of the releases is read. It is one small file."""
    steps: Steps = Steps()
    """How a release comes into use."""


class _Candidate(Struct, frozen=True, kw_only=True):
    """The release that a round tries."""

    version: str
    serial: int
    """The serial number of the state when it was chosen."""
    must_be_better: bool
    """Whether only a trial at YouTube justifies that it is used before the usual time."""


class _Postponed(Struct, frozen=True, kw_only=True):
    """The release whose last trials said nothing about it."""

    version: str = ""
    times: int = 0
    """Number of these trials in a row."""
    until: float = 0.0
    """When it may be tried again, by the monotonic clock."""


class Updater:
    """The rounds of one instance. `channel` is STABLE or NIGHTLY."""

    def __init__(
        self,
        channel: str,
        store: ReleaseStore,
        workshop: Workshop,
        canary: Canary,
        generations: Generations,
        pace: Pace,
        surroundings: UpdateSurroundings,
    ) -> None:
        self._channel = channel
        self._store = store
        self._workshop = workshop
        self._canary = canary
        self._generations = generations
        self._pace = pace
        self._surroundings = surroundings
        self._built_in = metadata.version("yt-dlp")
        self._postponed = _Postponed()

    async def run(self) -> None:
        """Do a round whenever it is due, until cancelled."""
        begun_at, longest_seconds = time.monotonic(), random.random() * self._pace.first_seconds  # noqa: S311
        chance = random.random()  # noqa: S311
        while True:
            await asyncio.sleep(self._pace.poll_seconds)
            wait_seconds = rollout.look_seconds(chance, is_broken=self._surroundings.is_broken())
            if time.monotonic() - begun_at < min(wait_seconds, longest_seconds):
                continue
            begun_at, chance = time.monotonic(), random.random()  # noqa: S311
            longest_seconds = math.inf if await self._has_looked() else self._pace.again_seconds

    async def _has_looked(self) -> bool:
        """Do one round. Returns False if something prevented it that mostly ends within minutes."""
        try:
            await self.look()
        except FetchError as error:
            logger.warning("extractor update failed", extra={"reason": shown(str(error))})
            return False
        except BusyError as error:
            logger.info("extractor update not tried", extra={"reason": shown(str(error))})
            return False
        except (DamagedError, ZygoteError, OSError) as error:
            logger.warning("extractor update failed", extra={"reason": shown(str(error))})
        except Exception:
            # The outermost frame of a loop: an error in one round must not end it.
            logger.exception("extractor update failed")
        return True

    async def look(self) -> None:
        """Do one round.

        Raises:
            FetchError, DamagedError, ZygoteError, OSError: the text says why it could not be done.
            BusyError: another instance, or a command, changes the releases.
        """
        if (await asyncio.to_thread(self._store.state)).share != WHOLE:
            return  # another update is being tried
        offers = await self._workshop.offers()
        async with self._surroundings.turn() as obstacle:
            if obstacle:
                raise BusyError(obstacle)
            with contextlib.ExitStack() as hold:
                async with self._changing():
                    state = await asyncio.to_thread(self._store.state)
                    candidate = None if state.share != WHOLE else await self._candidate(state, offers)
                    if candidate is None:
                        return
                    await self._fetch(candidate.version)
                    hold.callback(os.close, await asyncio.to_thread(self._store.hold, candidate.version))
                trial = await self._try(candidate)
            async with self._changing(wait_seconds=LOCK_SECONDS):
                await self._conclude(candidate, trial)

    async def _candidate(self, state: State, offers: tuple[Offer, ...]) -> _Candidate | None:
        now = time.time()
        seen = rollout.first_seen(offers, state.active or self._built_in, state.seen, now)
        await asyncio.to_thread(self._store.remember, seen)

        def newest(*, is_broken: bool) -> str | None:
            quarantined = state.quarantined
            return rollout.candidate(
                offers, self._channel, seen=seen, quarantined=quarantined, now=now, is_broken=is_broken
            )

        cause = self._surroundings.cause()
        usual = newest(is_broken=cause is Fault.RELEASE)
        # YouTube alone may be the cause, so a young release must show that it is better.
        version = newest(is_broken=True) if cause is Fault.YOUTUBE and self._canary.videos else usual
        is_early = version == self._postponed.version and time.monotonic() < self._postponed.until
        if version is None or is_early:
            return None
        return _Candidate(version=version, serial=state.serial, must_be_better=version != usual)

    async def _fetch(self, version: str) -> None:
        """Bring a release into the store, without those of earlier rounds."""
        logger.info("extractor update found", extra={"release": version})
        await asyncio.to_thread(self._store.make_room, version)
        if not await asyncio.to_thread(self._store.is_whole, version):
            await self._workshop.fetch(version)

    async def _try(self, candidate: _Candidate) -> Trial:
        trial = await self._without_network(candidate.version)
        if trial.verdict is not CanaryVerdict.PASSED:
            # A busy machine may be the cause.
            trial = await self._without_network(candidate.version)
        return trial if trial.verdict is not CanaryVerdict.PASSED else await self._at_youtube(candidate)

    async def _without_network(self, version: str) -> Trial:
        try:
            faults = await self._workshop.faults(version)
        except CannotTryError as error:
            return Trial(verdict=CanaryVerdict.UNDECIDED, reason=str(error))
        return Trial(verdict=CanaryVerdict.REFUSED if faults else CanaryVerdict.PASSED, reason="; ".join(faults))

    async def _at_youtube(self, candidate: _Candidate) -> Trial:
        if not self._canary.videos:
            return Trial(verdict=CanaryVerdict.PASSED)
        new = await asyncio.to_thread(self._generations.maker.held, candidate.version)
        try:
            await new.start()
            if new.program.refused:
                return Trial(verdict=CanaryVerdict.UNDECIDED, reason=new.program.refused)
            with self._generations.in_use() as established:
                return await self._canary.run(
                    new,
                    established,
                    is_paused=self._surroundings.is_broken(),
                    must_be_better=candidate.must_be_better,
                )
        except ZygoteError as error:
            return Trial(verdict=CanaryVerdict.UNDECIDED, reason=str(error))
        finally:
            await to_its_end(new.close())

    async def _conclude(self, candidate: _Candidate, trial: Trial) -> None:
        """Quarantine a release; or begin to use it, unless something was chosen during the trial."""
        version, state = candidate.version, await asyncio.to_thread(self._store.state)
        is_overtaken = state.serial != candidate.serial
        if is_overtaken and (trial.verdict is CanaryVerdict.PASSED or version == state.active):
            raise BusyError("another release was chosen during the trial")
        facts = {"release": version, "reason": shown(trial.reason)}
        times = 1 + (self._postponed.times if self._postponed.version == version else 0)
        self._postponed = _Postponed()
        match trial.verdict:
            case CanaryVerdict.REFUSED:
                await asyncio.to_thread(self._store.quarantine, version, shown(trial.reason))
                await asyncio.to_thread(self._store.remove, version)
                logger.error("extractor update refused", extra=facts)
            case CanaryVerdict.UNDECIDED:
                pause_seconds = min(LONGEST_PAUSE_SECONDS, BROKEN_LOOK_SECONDS * 2.0 ** min(times, MAX_DOUBLINGS))
                until = time.monotonic() + pause_seconds
                self._postponed = _Postponed(version=version, times=times, until=until)
                logger.warning("extractor update postponed", extra={**facts, "times": times})
            case CanaryVerdict.PASSED:
                await asyncio.to_thread(self._store.verify, version)
                # The release in use fails, as its cause or the trial shows: then all conversions use the new one.
                is_broken = candidate.must_be_better or self._surroundings.cause() is Fault.RELEASE
                share = self._generations.steps.first(is_broken=is_broken)
                await asyncio.to_thread(self._store.begin, version, share)
                await asyncio.to_thread(self._store.tidy)

    @contextlib.asynccontextmanager
    async def _changing(self, *, wait_seconds: float = 0.0) -> AsyncIterator[None]:
        """Hold the lock of the store, as `ReleaseStore.changing`. Its files are used in threads."""
        held = contextlib.ExitStack()
        changing = self._store.changing(wait_seconds=wait_seconds)
        entering = asyncio.ensure_future(asyncio.to_thread(held.enter_context, changing))
        try:
            await asyncio.shield(entering)
            yield
        finally:
            await to_its_end(_leave(entering, held))


async def _leave(entering: asyncio.Future[None], held: contextlib.ExitStack) -> None:
    """Free the lock. A thread cannot be cancelled: it may get the lock only after the caller was cancelled."""
    await asyncio.wait([entering])
    await asyncio.to_thread(held.close)
