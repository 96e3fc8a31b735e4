"""The zygote's program for a chosen release: checked at each start, with the built-in release as the last resort."""

import contextlib
import logging
from pathlib import Path
from typing import Final

from msgspec import structs

from ytmp3.converter.releases.store import DamagedError, ReleaseStore
from ytmp3.converter.sandbox.program import ZygoteProgram
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.tools import youtube_program
from ytmp3.core.release_state import BUILT_IN

FAILED_STARTS: Final = 2
"""After this many failed starts in a row, the built-in release is started. Not after the first one: on a busy machine,
a start may take too long."""

logger = logging.getLogger(__name__)


class ReleaseProgram:
    """Called by `Spawner`, in a thread, before each start of a zygote."""

    def __init__(self, built_in: ZygoteProgram, store: ReleaseStore | None = None, version: str = BUILT_IN) -> None:
        self._built_in = built_in
        self._store = store
        self.version = version
        self.refused = ""
        """Why the built-in release was started last instead of this one; empty: it was not."""

    def __call__(self, failed_starts: int) -> ZygoteProgram:
        """Return the program to start."""
        if self._store is None or self.version == BUILT_IN:
            return self._built_in
        self.refused = self._refusal(self._store, failed_starts)
        if self.refused:
            logger.error("extractor release refused", extra={"release": self.version, "reason": self.refused})
            return self._built_in
        return with_packages(self._built_in, self._store.packages(self.version))

    @property
    def description(self) -> str:
        """Say which release was started last, for `/health`."""
        if self.refused:
            return f"the built-in release is used, because {self.version} is refused: {self.refused}"
        return "preloaded" if self.version == BUILT_IN else f"preloaded, from the data folder ({self.version})"

    def _refusal(self, store: ReleaseStore, failed_starts: int) -> str:
        if failed_starts >= FAILED_STARTS:
            return f"it did not start {failed_starts} times"
        try:
            store.verify(self.version)
        except DamagedError as error:
            return str(error)
        return ""


def program_in_use(settings: ToolSettings, *, deno: str | None) -> tuple[ReleaseProgram, Path | None]:
    """Return the program of the release that the service uses, and its folder of packages (None: the built-in one).

    Called by commands that do what a conversion does. Blocking.
    """
    built_in = youtube_program(settings, deno=deno)
    store = None if settings.releases_folder is None else ReleaseStore(settings.releases_folder)
    version = BUILT_IN
    if store is not None:
        with contextlib.suppress(DamagedError):  # then the service uses the built-in release, too
            version = store.state().established
    packages = None if store is None or version == BUILT_IN else store.packages(version)
    return ReleaseProgram(built_in, store, version), packages


def with_packages(program: ZygoteProgram, packages: Path) -> ZygoteProgram:
    """Return the program with the packages of a release in front of all others."""
    return structs.replace(
        program,
        path=(str(packages), *program.path),
        # A file that is not in the manifest would make the release damaged.
        environment={**program.environment, "PYTHONDONTWRITEBYTECODE": "1"},
    )
