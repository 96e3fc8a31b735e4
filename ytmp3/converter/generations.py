"""The zygotes of a server: one for new conversions, and earlier ones until their last conversion has ended.

A zygote is started with one release of yt-dlp, so another release needs another zygote. A generation is a zygote with
everything that depends on its release (`generation`). The server reads the state of the releases every two seconds;
when another one was chosen, it starts a new generation beside the current one, and new conversions take it as soon as
it is ready. No conversion changes its generation. If the new zygote does not start, the current one stays.

The generation before the current one stays ready while the current one is on probation (`core.probation`). Conversions
that fail are repeated with it. If it converts what the new one cannot, it becomes the current one again. A probation
begins anew when the server is restarted; the zygote of the generation before is then started only when it is needed.

While an update is tried (`core.rollout`), both generations get new conversions, by the share in the state. A server in
which enough conversions have succeeded writes a larger share, which all servers follow.
"""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

from ytmp3.converter import ReleaseInUse
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.cleanup import to_its_end
from ytmp3.converter.generation import NO_SERIAL, Common, Generation, GenerationMaker
from ytmp3.converter.identities import IdentityBook, only_identity
from ytmp3.converter.long_track import LongEncoding
from ytmp3.converter.release_writes import ReleaseWrites
from ytmp3.converter.releases.program import ReleaseProgram
from ytmp3.converter.releases.store import DamagedError, ReleaseStore
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.tokens import TokenProvider
from ytmp3.converter.tools import FILE_THREADS, VERIFIERS
from ytmp3.core import release_state, rollout
from ytmp3.core.errors import FailureCode
from ytmp3.core.probation import Probation, is_suspicious
from ytmp3.core.release import BUILT_IN_NAME
from ytmp3.core.release_outcomes import ReleaseOutcome, ReleaseOutcomes
from ytmp3.core.release_state import BUILT_IN, State
from ytmp3.core.rollout import WHOLE, Steps
from ytmp3.threads import Threads

RETRY_SECONDS: Final = 60.0
"""Pause, in seconds, before a release whose zygote could not be started at all is tried again."""

logger = logging.getLogger(__name__)


class Generations:
    """The current generation, and the earlier ones that are still in use."""

    def __init__(
        self,
        settings: ToolSettings,
        work_folder: Path,
        *,
        spawner: Spawner | None = None,
        cores: Cores | None = None,
        steps: Steps | None = None,
        poll_seconds: float = 2.0,
    ) -> None:
        """`work_folder` is for files that the health check writes. Tests pass a spawner, which is used throughout."""
        self._poll_seconds = poll_seconds
        self.steps = steps or Steps()
        """How the release of an update comes into use."""
        self._tokens = TokenProvider(settings)
        self.identities = IdentityBook([only_identity(settings)])
        """The egress routes, which all generations share."""
        folder = settings.releases_folder
        self._store = None if folder is None or spawner is not None else ReleaseStore(folder)
        self._files = Threads("converter-files", FILE_THREADS)
        self.long_tracks: Counter[str] = Counter(dict.fromkeys(LongEncoding, 0))
        """How often long tracks were encoded in each way since the start."""
        common = Common(
            cores=cores or Cores(os.sched_getaffinity(0), max_encoders=settings.encode_concurrency),
            tokens=self._tokens,
            identities=self.identities,
            files=self._files,
            verifiers=Threads("verifier", VERIFIERS),
            long_tracks=self.long_tracks,
        )
        self.maker = GenerationMaker(settings, work_folder, common, self._store, self._description)
        """Makes further generations, such as that of a release that is tried."""
        self.is_broken: Callable[[], bool] = lambda: False
        """Whether conversions pause because of the release in use: then a new one is used for all at once.

        `Pipeline.start_updates` sets it. A pause because of YouTube says too little: time-outs cause it, too.
        """
        self._earlier: list[Generation] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._solved: Counter[str] = Counter()
        self._outcomes = ReleaseOutcomes()
        self._built_in = metadata.version("yt-dlp")
        self._problem = ""
        self._state = State()
        """The state that was read last."""
        self._share = WHOLE
        """Per cent of new conversions that use the current generation. The others use the one before."""
        self._before: Generation | None = None
        self._probation = Probation(0.0)
        self._given_up: set[int] = set()
        """Serial numbers of the states whose releases have failed their probations, here or in another server."""
        self._writes = ReleaseWrites(self._files)
        self._note = ""
        """Why a release was given up, by this server or another one."""
        self._failed_serial, self._retry_at = -1, 0.0
        self._following: asyncio.Task[None] | None = None
        self.current = self.maker.made(BUILT_IN, spawner=spawner)
        self._outcomes.use(self.current.name)

    async def open(self) -> None:
        """Start the zygote with the chosen release, and follow later choices. Logs if it does not start."""
        if self._store is not None:
            state = await self._read(self._store)
            if state is not None and release_state.is_superseded(state, self._built_in):
                state = self._state = await self._writes.use_built_in(self._store, state, self._built_in)
            if state is not None and state.active != BUILT_IN:
                self.current = await self._files.run(self.maker.held, state.active, state.serial)
                if state.is_new and state.previous != state.active:
                    self._before = await self._files.run(self.maker.held, state.previous)
                    self._outcomes.use(self._before.name)
                    self._begin_step(state.share)
                self._outcomes.use(self.current.name)
            elif state is not None:
                self.current.serial = state.serial
        for generation in {self.established, self.current}:
            try:
                await generation.start()
            except ZygoteError as error:
                logger.error("zygote did not start", extra={"reason": str(error)})
        if self._store is not None:
            self._following = asyncio.create_task(self._follow(self._store), name="follow-releases")

    @property
    def established(self) -> Generation:
        """The generation for all work that no other release could repeat: the one before, while a new one is tried."""
        return self.current if self._before is None or self._share == WHOLE else self._before

    def for_conversion(self) -> Generation:
        """Choose the generation of a new conversion, by the share of the current one."""
        return self.current if rollout.takes_new(self._share, random.random()) else self.established  # noqa: S311

    @contextmanager
    def in_use(self, generation: Generation | None = None) -> Iterator[Generation]:
        """Use a generation, by default the established one, until the block ends, whichever is current then."""
        generation = generation or self.established
        generation.users += 1
        try:
            yield generation
        finally:
            generation.users -= 1
            self._end_unused()

    def before(self, generation: Generation) -> Generation | None:
        """Return the generation to repeat a failed conversion with; None if there is none.

        A conversion that fails after its release was given up is repeated with the current release.
        """
        if generation is self.current:
            return self._before
        return self.established if generation.serial in self._given_up else None

    def may_repeat(self, generation: Generation, code: FailureCode) -> bool:
        """Return whether the release of a generation may have caused a failure, so that another one may convert it."""
        return self._probation.is_repeated(code) if generation is self.current else is_suspicious(code)

    def ended(self, generation: Generation, *, is_good: bool) -> None:
        """Count a conversion that has ended with this generation."""
        self._outcomes.add(generation.name, ReleaseOutcome.CONVERTED if is_good else ReleaseOutcome.FAILED)
        if generation is self.current and self._before is not None:
            self._probation.ended(is_good=is_good)
        elif generation is self._before and is_good:
            self._probation.succeeded()

    def repeated_in_vain(self, generation: Generation, code: FailureCode) -> None:
        """Count a conversion that failed with this generation, and then with the one before, with this code."""
        if generation is self.current:
            self._probation.refused(code)

    def blame(self, generation: Generation, code: FailureCode) -> None:
        """Count a conversion that failed with this generation, and then succeeded with the one before."""
        self._outcomes.add(generation.name, ReleaseOutcome.BLAMED)
        before = self._before
        if generation is not self.current or before is None:
            return
        self._probation.blame(code)
        if self._probation.is_failed:
            codes = ", ".join(sorted({code.value for code in self._probation.blames}))
            self._give_up(before, f"conversions that failed with it ({codes}) succeeded with {_in_text(before)}")

    @property
    def release(self) -> ReleaseInUse:
        """The releases of new conversions."""
        # An update that was given up is no choice of the operator, so nothing is missing.
        is_given_up = bool(self._note) and not self._state.is_automatic
        newer = release_state.blocked(self._state, self._built_in)
        return ReleaseInUse(
            serial=self.current.serial,
            is_refused=bool(self.current.program.refused or self._problem or is_given_up),
            established=self.established.name,
            newest=self.current.name,
            share=self._share,
            quarantined=newer,
        )

    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]:
        """The number of conversions since the start, by release and outcome."""
        return self._outcomes.counts()

    @property
    def solutions(self) -> Mapping[str, int]:
        """The counts of all solvers since the start."""
        total = Counter(self._solved)
        for generation in self._all:
            for how, count in generation.tools.solver.solutions.items():
                total[how] += count
        return total

    async def close(self) -> None:
        """End every process. Returns when none is left."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await asyncio.gather(*self._ending)
        await self._tokens.close()
        for generation in self._all:
            await generation.close()

    async def _follow(self, store: ReleaseStore) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._look(store)
            except Exception:
                # The outermost frame of a loop: an error in one turn must not end it.
                logger.exception("extractor state not followed")

    async def _look(self, store: ReleaseStore) -> None:
        """Read the state once, and follow it."""
        now = time.monotonic()
        if self._before is not None and self._share == WHOLE and self._probation.is_passed(now):
            self._retire(self._before)
            self._before = None
        state = await self._read(store)
        if state is None:
            return
        if await self._writes.write_given_up(store) or state.serial in self._given_up:
            return  # the state that was read is older than the decision of this server
        if state.serial == self.current.serial:
            await self._replace_before(state)
            await self._update(store, state)
        elif state.active == self.current.program.version and not self.current.program.refused:
            self.current.serial = state.serial
            self._begin_step(state.share)
        elif (state.serial != self._failed_serial or now >= self._retry_at) and not await self._switch(state):
            self._failed_serial, self._retry_at = state.serial, time.monotonic() + RETRY_SECONDS

    async def _replace_before(self, state: State) -> None:
        """Take another generation as the one before, if another server has given up its release meanwhile."""
        before = self._before
        if before is None or state.previous == before.program.version:
            return
        if before.program.version in state.quarantined:
            other = await self._files.run(self.maker.held, state.previous)
            if self._before is not before:
                await other.close()
                return
            self._before = other
            self._outcomes.use(other.name)
            self._retire(before)

    async def _update(self, store: ReleaseStore, state: State) -> None:
        """Follow the share of an update, or increase it."""
        if state.share != self._share:
            self._begin_step(state.share)
        if state.is_automatic and self._before is not None and self.current.program.refused:
            self._give_up(self._before, f"it cannot be used: {self.current.program.refused}")
        elif state.share != WHOLE:
            probation = self._probation
            share = self.steps.following(
                state.share,
                good=probation.good,
                seconds=probation.seconds(time.monotonic()),
                may_end_by_time=probation.may_end_by_time,
                is_broken=self.is_broken(),
            )
            if share != state.share:
                await self._writes.advance(store, state.serial, share)

    def _begin_step(self, share: int) -> None:
        self._share = share
        self._probation.begin_step(time.monotonic())
        if self._before is not None:
            facts = {"release": self.current.name, "share_percent": share, "before": self._before.name}
            logger.info("extractor release share", extra=facts)

    async def _switch(self, state: State) -> bool:
        """Make a new generation the current one. Returns False if its zygote does not start."""
        left = self.current.serial
        new = await self._files.run(self.maker.held, state.active, state.serial)
        try:
            await new.start()
        except (ZygoteError, OSError) as error:
            logger.error("extractor release not started", extra={"release": state.active, "reason": str(error)})
            await new.close()
            return False
        except asyncio.CancelledError:
            await to_its_end(new.close())
            raise
        if state.note and left != NO_SERIAL:
            self._given_up.add(left)  # by another server
        established = self.established
        retired = {self._before, self.current} - ({established} if state.is_new else set())
        self._before, self.current = established if state.is_new else None, new
        self._probation = Probation(time.monotonic())
        self._outcomes.use(new.name)
        for generation in retired:
            if generation is not None:
                self._retire(generation)
        logger.info("extractor release in use", extra={"release": new.name, "detail": new.program.description})
        self._begin_step(state.share)
        return True

    def _give_up(self, before: Generation, why: str) -> None:
        """Use the release before again, at once in this server. `_look` then writes that to the state, for all."""
        failed, self.current, self._before, self._share = self.current, before, None, WHOLE
        self._given_up.add(failed.serial)
        self._retire(failed)
        self._note = f"{_in_text(failed)} was given up: {why}"
        self._writes.give_up(failed.serial, failed.program.version, before.program.version, self._note)
        logger.error("extractor release given up", extra={"release": failed.name, "in_use": before.name, "reason": why})

    def _retire(self, generation: Generation) -> None:
        self._earlier.append(generation)
        self._end_unused()

    @property
    def _all(self) -> list[Generation]:
        return [*self._earlier, *([] if self._before is None else [self._before]), self.current]

    def _end_unused(self) -> None:
        """End each earlier generation whose last conversion has ended."""
        for generation in [each for each in self._earlier if each.users == 0]:
            self._earlier.remove(generation)
            self._solved.update(generation.tools.solver.solutions)
            task = asyncio.create_task(generation.close(), name="end-generation")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _read(self, store: ReleaseStore) -> State | None:
        """Return the state; None if it cannot be read. Then the release in use stays."""
        try:
            state = await self._files.run(store.state)
        except DamagedError as error:
            if not self._problem:
                logger.error("extractor state not read", extra={"error": str(error)})
            self._problem = str(error)
            return None
        self._problem, self._state = "", state
        if state.serial not in self._given_up:
            self._note = state.note
        return state

    def _description(self, program: ReleaseProgram) -> str:
        share = ""
        if self._share != WHOLE and self._before is not None:
            share = f"{self._share} % of new conversions use {self.current.name}"
        return "; ".join(each for each in (program.description, share, self._problem, self._note) if each)


def _in_text(generation: Generation) -> str:
    return f"the {BUILT_IN_NAME} release" if generation.program.version == BUILT_IN else generation.name
