"""The steps of `ytmp3 extractor list | try | use | back`. The command line prints what they return.

They work beside a running server, which follows the state of the store within some seconds. No release is used that was
not tried; and whatever fails, the state stays as it was.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata

from ytmp3.converter.releases.messages import shown
from ytmp3.converter.releases.store import LOCK_SECONDS, BusyError, DamagedError, ReleaseStore
from ytmp3.converter.releases.workshop import FetchError, Workshop
from ytmp3.converter.settings import ToolSettings
from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.release import BUILT_IN_NAME, NIGHTLY, STABLE, Ended, is_newer, normalized
from ytmp3.core.release_state import BUILT_IN, State
from ytmp3.core.rollout import WHOLE


class ExtractorError(Ytmp3Error):
    """A command has failed. The text says why."""

    def __init__(self, ended: Ended, text: str) -> None:
        super().__init__(text)
        self.ended = ended


class ExtractorCommands:
    """The commands. `say` is called with each line for the operator."""

    def __init__(self, store: ReleaseStore, workshop: Workshop, say: Callable[[str], object]) -> None:
        self._store = store
        self._workshop = workshop
        self._say = say

    def list(self) -> None:
        """Say which releases there are. Checks the files of each.

        Raises:
            ExtractorError: the state cannot be read; said after the list.
        """
        state, problem = State(), ""
        try:
            state = self._store.state()
        except DamagedError as error:
            problem = f"{error}. Servers that start now use the built-in release; running ones keep theirs"
        own = f"{metadata.version('yt-dlp')} ({BUILT_IN_NAME})"
        self._say(_line(own, f"yt-dlp-ejs {metadata.version('yt-dlp-ejs')}", mark=_mark(BUILT_IN, state)))
        versions = self._store.versions()
        for version in versions:
            try:
                detail = f"yt-dlp-ejs {self._store.verify(version).yt_dlp_ejs}"
            except DamagedError as error:
                detail = f"damaged: {error}"
            self._say(_line(version, detail, mark=_mark(version, state)))
        if state.active not in (BUILT_IN, *versions):
            problem = f"the state names {state.active}, but it is not in the folder. The built-in release is used"
        if state.note:
            self._say(state.note)
        for version, reason in state.quarantined.items():
            self._say(f"yt-dlp {version} is not tried by updates (YTDLP_UPDATE): {shown(reason)}")
        if problem:
            raise ExtractorError(Ended.REFUSED, problem)

    async def try_(self, wanted: str) -> str:
        """Fetch a release if it is not there, and try it. Returns its version.

        Raises:
            ExtractorError: it cannot be fetched or used.
        """
        version = _version(wanted)
        with _reporting(), self._store.changing(wait_seconds=LOCK_SECONDS):
            tried = await self._tried(version)
            self._store.tidy(tried)
        self._say(f"yt-dlp {tried} can be used: ytmp3 extractor use {tried}")
        return tried

    async def use(self, wanted: str) -> None:
        """Fetch and try a release, and choose it for new conversions.

        Raises:
            ExtractorError: it cannot be fetched or used, or the state cannot be written.
        """
        with _reporting(), self._store.changing(wait_seconds=LOCK_SECONDS):
            if wanted == BUILT_IN_NAME:
                chosen = BUILT_IN
            else:
                chosen = await self._tried(_version(wanted))
            self._store.choose(chosen, is_new=chosen != BUILT_IN, is_downgrade=self._leaves_newer(chosen))
            self._store.tidy()
        self._say_chosen(chosen)

    def back(self) -> None:
        """Choose the release that was used before.

        Raises:
            ExtractorError: there is none, or it is damaged.
        """
        with _reporting(), self._store.changing(wait_seconds=LOCK_SECONDS):
            state = self._store.state()
            if state.previous == state.active:
                raise ExtractorError(Ended.REFUSED, state.note or "no other release was used before")
            if state.previous != BUILT_IN:
                self._store.verify(state.previous)
            self._store.choose(state.previous, is_downgrade=self._leaves_newer(state.previous))
            self._store.tidy()
        self._say_chosen(state.previous)

    async def _tried(self, wanted: str) -> str:
        """Return the version of a release that can be used. One that cannot be used is removed."""
        version = wanted
        if not self._store.is_whole(wanted):
            self._say(f"Fetching yt-dlp {wanted} ...")
            manifest = await self._workshop.fetch(wanted)
            version = manifest.yt_dlp
            for name, digest in manifest.wheels.items():
                self._say(f"  {name}  sha256 {digest}")
        self._say(f"Trying yt-dlp {version} without a network ...")
        problems = await self._workshop.problems(version)
        if problems:
            if version != self._store.state().active:
                self._store.remove(version)
            raise ExtractorError(Ended.REFUSED, "\n".join([f"yt-dlp {version} cannot be used:", *problems]))
        return version

    def _leaves_newer(self, version: str) -> bool:
        """Return whether the release in use is newer than this one, so that updates would choose it again."""
        try:
            active = self._store.state().active
        except DamagedError:
            return False
        return is_newer(active, version or metadata.version("yt-dlp"))

    def _say_chosen(self, version: str) -> None:
        name = f"the built-in yt-dlp {metadata.version('yt-dlp')}" if version == BUILT_IN else f"yt-dlp {version}"
        self._say(f"New conversions use {name}. Running servers change within seconds, without a restart.")


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Turn the errors of the store and the workshop into an ExtractorError."""
    try:
        yield
    except FetchError as error:
        raise ExtractorError(Ended.NOT_FETCHED, str(error)) from None
    except (BusyError, DamagedError) as error:
        raise ExtractorError(Ended.REFUSED, str(error)) from None
    except OSError as error:
        text = f"the folder of releases: {error.strerror or error}"
        raise ExtractorError(Ended.REFUSED, text) from None


def _version(wanted: str) -> str:
    """Return the form of a version that an index uses, or STABLE or NIGHTLY. Raises ExtractorError."""
    if wanted in {STABLE, NIGHTLY}:
        return wanted
    version = normalized(wanted)
    if version is None:
        raise ExtractorError(
            Ended.WRONG,
            f"VERSION: expected a version of yt-dlp such as 2026.10.26, {STABLE}, {NIGHTLY} or {BUILT_IN_NAME}",
        )
    return version


def _mark(version: str, state: State) -> str:
    if state.share != WHOLE and version in {state.active, state.previous}:
        return f"{state.share if version == state.active else WHOLE - state.share} %"
    return "in use" if version == state.active else "before" if version == state.previous else ""


def _line(version: str, detail: str, *, mark: str) -> str:
    return f"{mark:<7} yt-dlp {version:<32} {detail}"


def commands_of(
    settings: ToolSettings, environment: Mapping[str, str], say: Callable[[str], object]
) -> ExtractorCommands:
    """Return the commands for the settings of the service. `environment` may name proxies and authorities."""
    assert settings.releases_folder is not None
    store = ReleaseStore(settings.releases_folder)
    return ExtractorCommands(store, Workshop(settings, store, environment), say)
