"""Updates yt-dlp without an operator (YTDLP_UPDATE). `core.rollout` decides; `Generations` uses what is chosen here.

One round: ask the index which releases there are; choose a candidate; fetch it; try it without a network (`workshop`);
try it at YouTube (`canary`); write it to the state with a small share of new conversions. A release that fails a trial
is quarantined. Whatever else fails ends the round, and a later one begins again.

A round holds the lock of the store from the choice of the candidate to its end, so only one instance with this folder
tries a release at a time, and no command changes the state meanwhile. Instances with folders of their own take turns.
The state is written last: a round that is killed leaves the release in use, and at most a fetched one, which the next
round uses.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from importlib import metadata

from msgspec import Struct

from ytmp3.converter.generations import Generations
from ytmp3.converter.releases.canary import Canary, Trial
from ytmp3.converter.releases.messages import shown
from ytmp3.converter.releases.store import BusyError, DamagedError, ReleaseStore
from ytmp3.converter.releases.workshop import FetchError, Workshop
from ytmp3.converter.sandbox.spawner import ZygoteError
from ytmp3.core import rollout
from ytmp3.core.release_state import State
from ytmp3.core.rollout import WHOLE, CanaryVerdict, Offer, Steps

logger = logging.getLogger(__name__)


class Pace(Struct, frozen=True, kw_only=True):
    """When rounds begin. Tests are faster."""

    poll_seconds: float = 5.0
    """Interval, in seconds, at which a round is found due. Conversions may begin to fail at any time."""
    first_seconds: float = 120.0
    """Longest time from the start until the first round, in seconds. It is random: instances start together."""
    follow_seconds: float = 2.0
    """Interval, in seconds, at which the state of the releases is read. It is one small file."""
    steps: Steps = Steps()
    """How a release comes into use."""


def _own_turn() -> AbstractAsyncContextManager[bool]:
    return contextlib.nullcontext(enter_result=True)


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
        *,
        take_turn: Callable[[], AbstractAsyncContextManager[bool]] = _own_turn,
    ) -> None:
        """`take_turn` yields False while another instance, perhaps with a folder of its own, tries a release."""
        self._channel = channel
        self._store = store
        self._workshop = workshop
        self._canary = canary
        self._generations = generations
        self._pace = pace
        self._take_turn = take_turn
        self._built_in = metadata.version("yt-dlp")

    async def run(self) -> None:
        """Do a round whenever it is due, until cancelled."""
        begun_at, wait_seconds = time.monotonic(), random.random() * self._pace.first_seconds  # noqa: S311
        is_first, chance = True, random.random()  # noqa: S311
        while True:
            await asyncio.sleep(self._pace.poll_seconds)
            if not is_first:
                wait_seconds = rollout.look_seconds(chance, is_broken=self._generations.is_broken())
            if time.monotonic() - begun_at < wait_seconds:
                continue
            begun_at, is_first, chance = time.monotonic(), False, random.random()  # noqa: S311
            try:
                await self.look()
            except (FetchError, DamagedError, ZygoteError, OSError) as error:
                logger.warning("extractor update failed", extra={"reason": shown(str(error))})
            except BusyError:
                logger.info("extractor update not tried", extra={"reason": "another instance or a command is at work"})
            except Exception:
                # The outermost frame of a loop: an error in one round must not end it.
                logger.exception("extractor update failed")

    async def look(self) -> None:
        """Do one round.

        Raises:
            FetchError, DamagedError, ZygoteError, OSError: the text says why it could not be done.
            BusyError: another instance, or a command, changes the releases.
        """
        if (await asyncio.to_thread(self._store.state)).share != WHOLE:
            return  # another update is being tried
        offers = await self._workshop.offers()
        async with self._take_turn() as is_ours, self._changing():
            if not is_ours:
                raise BusyError("another instance tries a release")
            state = await asyncio.to_thread(self._store.state)
            version = None if state.share != WHOLE else await self._candidate(state, offers)
            if version is not None:
                await self._try(version)

    async def _candidate(self, state: State, offers: tuple[Offer, ...]) -> str | None:
        now = time.time()
        seen = rollout.first_seen(offers, state.active or self._built_in, state.seen, now)
        await asyncio.to_thread(self._store.remember, seen)
        return rollout.candidate(
            offers,
            self._channel,
            seen=seen,
            quarantined=state.quarantined,
            now=now,
            is_broken=self._generations.is_broken(),
        )

    async def _try(self, version: str) -> None:
        """Fetch and try a release, and begin to use it, or quarantine it."""
        logger.info("extractor update found", extra={"release": version})
        if not await asyncio.to_thread(self._is_whole, version):
            await self._workshop.fetch(version)
        problems = await self._workshop.problems(version)
        if problems:
            # A busy machine may have exceeded a time limit.
            problems = await self._workshop.problems(version)
        trial = Trial(verdict=CanaryVerdict.REFUSED, reason="; ".join(problems)) if problems else None
        trial = trial or await self._at_youtube(version)
        facts = {"release": version, "reason": shown(trial.reason)}
        match trial.verdict:
            case CanaryVerdict.REFUSED:
                await asyncio.to_thread(self._store.quarantine, version, shown(trial.reason))
                await asyncio.to_thread(self._store.remove, version)
                logger.error("extractor update refused", extra=facts)
            case CanaryVerdict.UNDECIDED:
                logger.warning("extractor update postponed", extra=facts)
            case CanaryVerdict.PASSED:
                share = self._generations.steps.first(is_broken=self._generations.is_broken())
                await asyncio.to_thread(self._store.begin, version, share)
                await asyncio.to_thread(self._store.tidy)

    async def _at_youtube(self, version: str) -> Trial:
        if not self._canary.videos:
            return Trial(verdict=CanaryVerdict.PASSED)
        new = await asyncio.to_thread(self._generations.maker.held, version)
        try:
            await new.start()
            if new.program.refused:
                return Trial(verdict=CanaryVerdict.UNDECIDED, reason=new.program.refused)
            with self._generations.in_use() as established:
                return await self._canary.run(new, established)
        finally:
            await asyncio.shield(new.close())

    def _is_whole(self, version: str) -> bool:
        try:
            self._store.verify(version)
        except DamagedError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """Hold the lock of the store. Its files are used in threads."""
        held = contextlib.ExitStack()
        await asyncio.to_thread(held.enter_context, self._store.changing())
        try:
            yield
        finally:
            await asyncio.shield(asyncio.to_thread(held.close))
