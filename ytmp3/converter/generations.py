"""The zygotes of a server: one for new conversions, and earlier ones until their last conversion has ended.

A zygote is started with one release of yt-dlp, so another release needs another zygote. A generation is a zygote with
everything that depends on its release. The server reads the state of the releases every POLL_SECONDS; when another one
was chosen (`ytmp3 extractor use`), it starts a new generation beside the current one, and new conversions take it as
soon as it is ready. No conversion changes its generation. If the new zygote does not start, the current one stays.

The generation before the current one stays ready while the current one is on probation (`core.probation`). Conversions
that fail are repeated with it. If it converts what the new one cannot, it becomes the current one again. A probation
begins anew when the server is restarted; the zygote of the generation before is then started only when it is needed.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import structs

from ytmp3.converter import ReleaseInUse
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.check import Checker, Programs
from ytmp3.converter.identities import IdentityBook, only_identity
from ytmp3.converter.profiles import profiles_of
from ytmp3.converter.releases.program import FAILED_STARTS, ReleaseProgram
from ytmp3.converter.releases.store import BusyError, DamagedError, ReleaseStore
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.solver.service import Solver
from ytmp3.converter.tokens import TokenProvider
from ytmp3.converter.tools import FILE_THREADS, VERIFIERS, Tools, deno_path, ffmpeg_path, ladders_of, youtube_program
from ytmp3.core.errors import FailureCode
from ytmp3.core.probation import Probation
from ytmp3.core.release_state import BUILT_IN, State
from ytmp3.threads import Threads

POLL_SECONDS: Final = 2.0
"""Interval, in seconds, at which the state of the releases is read. It is one small file."""
RETRY_SECONDS: Final = 60.0
"""Pause, in seconds, before a release whose zygote could not be started at all is tried again, and before a state that
could not be written is written again."""

logger = logging.getLogger(__name__)


class Generation:
    """One zygote, and everything that depends on its release. `in_use` keeps it from being ended."""

    def __init__(
        self, tools: Tools, checker: Checker, program: ReleaseProgram, *, serial: int, hold: int | None
    ) -> None:
        self.tools = tools
        self.checker = checker
        self.program = program
        self.serial = serial
        """Number of the state that has chosen the release."""
        self.users = 0
        """Conversions, lists of playlists and health checks that run with it. It is not ended while there are any."""
        self._hold = hold

    async def start(self) -> None:
        """Start the zygote: with the release, or else with the built-in one.

        Raises:
            ZygoteError: it does not start, not even with the built-in release.
        """
        for _ in range(FAILED_STARTS):
            with contextlib.suppress(ZygoteError):
                await self.tools.spawner.ready()
                return
        await self.tools.spawner.ready()

    async def close(self) -> None:
        """End its processes. Its release may then be removed."""
        await self.tools.solver.close()
        await self.tools.spawner.close()
        hold, self._hold = self._hold, None
        if hold is not None:
            os.close(hold)


class Generations:
    """The current generation, and the earlier ones that are still in use."""

    def __init__(
        self,
        settings: ToolSettings,
        work_folder: Path,
        *,
        spawner: Spawner | None = None,
        cores: Cores | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """`work_folder` is for files that the health check writes. Tests pass a spawner, which is used throughout."""
        self._settings = settings
        self._work_folder = work_folder
        self._poll_seconds = poll_seconds
        self._deno, self._ffmpeg = deno_path(), ffmpeg_path(settings)
        self._built_in = youtube_program(settings, deno=self._deno)
        self._tokens = TokenProvider(settings)
        self.identities = IdentityBook([only_identity(settings)])
        """The ways out, which all generations share."""
        self._cores = cores or Cores(os.sched_getaffinity(0), max_encoders=settings.encode_concurrency)
        folder = settings.releases_folder
        self._store = None if folder is None or spawner is not None else ReleaseStore(folder)
        self._earlier: list[Generation] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._solved: Counter[str] = Counter()
        self._problem = ""
        self._note = ""
        self._before: Generation | None = None
        self._probation = Probation(0.0)
        self._given_up: int | None = None
        """Serial number of the state whose release has failed its probation."""
        self._following: asyncio.Task[None] | None = None
        self._files, self._verifiers = Threads("converter-files", FILE_THREADS), Threads("verifier", VERIFIERS)
        self.current = self._made(State(), spawner=spawner)

    async def open(self) -> None:
        """Start the zygote with the chosen release, and follow later choices. Logs if it does not start."""
        if self._store is not None:
            state = await self._state(self._store)
            if state is not None and state.active != BUILT_IN:
                self.current = await self._files.run(self._held, self._store, state)
                if state.is_new and state.previous != state.active:
                    before = structs.replace(state, active=state.previous, serial=0)
                    self._before = await self._files.run(self._held, self._store, before)
                    self._probation = Probation(time.monotonic())
            elif state is not None:
                self.current.serial = state.serial
        try:
            await self.current.start()
        except ZygoteError as error:
            logger.error("zygote did not start", extra={"reason": str(error)})
        if self._store is not None:
            self._following = asyncio.create_task(self._follow(self._store), name="follow-releases")

    @contextlib.contextmanager
    def in_use(self, generation: Generation | None = None) -> Iterator[Generation]:
        """Use a generation, by default the current one, until the block ends, whichever is current then."""
        generation = generation or self.current
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
        return self.current if generation.serial == self._given_up else None

    def ended(self, generation: Generation) -> None:
        """Count a conversion that has ended with this generation, also one that has failed."""
        if generation is self.current and self._before is not None:
            self._probation.ended()

    def blame(self, generation: Generation, code: FailureCode) -> None:
        """Count a conversion that failed with this generation, and then succeeded with the one before."""
        before = self._before
        if generation is not self.current or before is None:
            return
        self._probation.blame(code)
        if self._probation.is_failed:
            self._give_up(before)

    @property
    def release(self) -> ReleaseInUse:
        """The release of the current generation."""
        is_refused = bool(self.current.program.refused or self._problem or self._note)
        return ReleaseInUse(serial=self.current.serial, is_refused=is_refused)

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
        retry_at, failed_serial, write_at = 0.0, -1, 0.0
        while True:
            await asyncio.sleep(self._poll_seconds)
            if self._before is not None and self._probation.is_passed(time.monotonic()):
                self._retire(self._before)
                self._before = None
            state = await self._state(store)
            if state is not None and state.serial == self._given_up and time.monotonic() >= write_at:
                write_at = time.monotonic() + RETRY_SECONDS
                await self._write_back(store, state.serial)
            if state is None or state.serial in {self.current.serial, self._given_up}:
                continue
            if state.active == self.current.program.version and not self.current.program.refused:
                self.current.serial = state.serial
                continue
            if state.serial == failed_serial and time.monotonic() < retry_at:
                continue
            if not await self._switch(store, state):
                failed_serial, retry_at = state.serial, time.monotonic() + RETRY_SECONDS

    async def _switch(self, store: ReleaseStore, state: State) -> bool:
        """Make a new generation the current one. Returns False if its zygote does not start."""
        new = await self._files.run(self._held, store, state)
        try:
            await new.start()
        except (ZygoteError, OSError) as error:
            logger.error("extractor release not started", extra={"release": state.active, "reason": str(error)})
            await new.close()
            return False
        except asyncio.CancelledError:
            await new.close()
            raise
        retired = [self._before, None if state.is_new else self.current]
        self._before, self.current = self.current if state.is_new else None, new
        self._probation = Probation(time.monotonic())
        for generation in retired:
            if generation is not None:
                self._retire(generation)
        facts = {"release": state.active or "built-in", "detail": new.program.description}
        logger.info("extractor release in use", extra=facts)
        return True

    def _give_up(self, before: Generation) -> None:
        """Use the release before again, at once in this server. `_follow` then writes that to the state, for all."""
        failed, self.current, self._before = self.current, before, None
        self._given_up = failed.serial
        self._retire(failed)
        old, new = (each.program.version or "the built-in release" for each in (before, failed))
        codes = ", ".join(sorted({code.value for code in self._probation.blames}))
        self._note = f"{new} was given up: conversions that failed with it ({codes}) succeeded with {old}"
        logger.error("extractor release given up", extra={"release": new, "in_use": old, "codes": codes})

    async def _write_back(self, store: ReleaseStore, serial: int) -> None:
        """Write that the release with this serial number was given up. Tried again every RETRY_SECONDS if it fails."""
        try:
            await self._files.run(store.give_up, serial, self.current.program.version, self._note)
        except (BusyError, DamagedError, OSError) as error:
            # This server keeps to its decision; others decide by themselves.
            logger.error("extractor state not written", extra={"error": str(error)})

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

    async def _state(self, store: ReleaseStore) -> State | None:
        """Return the state; None if it cannot be read. Then the release in use stays."""
        try:
            state = await self._files.run(store.state)
        except DamagedError as error:
            if not self._problem:
                logger.error("extractor state not read", extra={"error": str(error)})
            self._problem = str(error)
            return None
        self._problem = ""
        if state.serial != self._given_up:
            self._note = state.note
        return state

    def _held(self, store: ReleaseStore, state: State) -> Generation:
        """Make a generation, and keep its release from being removed. Blocking."""
        hold = None
        with contextlib.suppress(OSError):  # the release is not there, which the start of the zygote finds
            hold = store.hold(state.active) if state.active != BUILT_IN else None
        return self._made(state, hold=hold)

    def _made(self, state: State, *, spawner: Spawner | None = None, hold: int | None = None) -> Generation:
        program = ReleaseProgram(self._built_in, self._store, state.active)
        packages = None
        if self._store is not None and state.active != BUILT_IN:
            packages = self._store.packages(state.active)
        spawner = spawner or Spawner(program)
        solver = Solver(spawner, deno=self._deno, folder=self._work_folder)
        tools = Tools(
            spawner=spawner,
            solver=solver,
            tokens=self._tokens,
            ffmpeg=self._ffmpeg,
            cores=self._cores,
            identities=self.identities,
            profiles=profiles_of(self._settings, ffmpeg=self._ffmpeg, deno=self._deno, packages=packages),
            # A new release may have repaired a client, so what the old ladder has learnt is forgotten.
            ladders=ladders_of(self._settings),
            files=self._files,
            verifiers=self._verifiers,
        )
        checker = Checker(
            spawner,
            solver,
            self._tokens,
            Programs(ffmpeg=self._ffmpeg, deno=self._deno),
            folder=self._work_folder,
            describe_release=lambda: self._description(program),
        )
        return Generation(tools, checker, program, serial=state.serial, hold=hold)

    def _description(self, program: ReleaseProgram) -> str:
        return "; ".join(each for each in (program.description, self._problem, self._note) if each)
