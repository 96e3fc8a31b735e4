"""One zygote with everything that depends on its release of yt-dlp, and how such a generation is made."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.check import Checker, Programs
from ytmp3.converter.identities import IdentityBook
from ytmp3.converter.profiles import profiles_of
from ytmp3.converter.releases.program import FAILED_STARTS, ReleaseProgram
from ytmp3.converter.releases.store import ReleaseStore
from ytmp3.converter.sandbox.spawner import Spawner, ZygoteError
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.solver.service import Solver
from ytmp3.converter.tokens import TokenProvider
from ytmp3.converter.tools import Tools, deno_path, ffmpeg_path, ladders_of, youtube_program
from ytmp3.core.release import BUILT_IN_NAME
from ytmp3.core.release_state import BUILT_IN
from ytmp3.threads import Threads

NO_SERIAL: Final = 0
"""Serial number of a generation that no state has chosen."""


class Generation:
    """One zygote, and everything that depends on its release. `Generations.in_use` keeps it from being ended."""

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

    @property
    def name(self) -> str:
        """The release, for the operator: its version, or BUILT_IN_NAME."""
        return self.program.version or BUILT_IN_NAME

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


class Common(Struct, frozen=True, kw_only=True):
    """What all generations share."""

    cores: Cores
    tokens: TokenProvider
    identities: IdentityBook
    files: Threads
    verifiers: Threads
    long_tracks: Counter[str]


class GenerationMaker:
    """Makes generations. They are not started."""

    def __init__(
        self,
        settings: ToolSettings,
        work_folder: Path,
        common: Common,
        store: ReleaseStore | None,
        describe: Callable[[ReleaseProgram], str],
    ) -> None:
        """`work_folder` is for files of the health check. `describe` returns what `/health` says of a release."""
        self._settings = settings
        self._work_folder = work_folder
        self._common = common
        self._store = store
        self._describe = describe
        self._deno, self._ffmpeg = deno_path(), ffmpeg_path(settings)
        self._built_in = youtube_program(settings, deno=self._deno)

    def held(self, version: str, serial: int = NO_SERIAL) -> Generation:
        """Make a generation, and keep its release from being removed. Blocking."""
        hold = None
        if self._store is not None and version != BUILT_IN:
            with contextlib.suppress(OSError):  # the release is not there, which the start of the zygote finds
                hold = self._store.hold(version)
        return self.made(version, serial, hold=hold)

    def made(
        self, version: str, serial: int = NO_SERIAL, *, spawner: Spawner | None = None, hold: int | None = None
    ) -> Generation:
        """Make a generation. `hold` is a descriptor that it closes."""
        program = ReleaseProgram(self._built_in, self._store, version)
        packages = None
        if self._store is not None and version != BUILT_IN:
            packages = self._store.packages(version)
        spawner = spawner or Spawner(program)
        common = self._common
        solver = Solver(spawner, deno=self._deno, folder=self._work_folder)
        tools = Tools(
            spawner=spawner,
            solver=solver,
            tokens=common.tokens,
            ffmpeg=self._ffmpeg,
            cores=common.cores,
            identities=common.identities,
            profiles=profiles_of(self._settings, ffmpeg=self._ffmpeg, deno=self._deno, packages=packages),
            # A new release may have repaired a client, so what the old ladder has learnt is forgotten.
            ladders=ladders_of(self._settings),
            files=common.files,
            verifiers=common.verifiers,
            long_tracks=common.long_tracks,
        )
        checker = Checker(
            spawner,
            solver,
            common.tokens,
            Programs(ffmpeg=self._ffmpeg, deno=self._deno),
            folder=self._work_folder,
            describe_release=lambda: self._describe(program),
        )
        return Generation(tools, checker, program, serial=serial, hold=hold)
