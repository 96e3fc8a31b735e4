"""The folder of releases: DATA_DIR/extractor. Blocking.

    state.json          which release is used, and which one was used before; replaced atomically
    lock                locked by the command that changes something
    VERSION/manifest.json   the versions, and the SHA-256 of every file of the release
    VERSION/packages/       the two unpacked packages: yt-dlp, and the yt-dlp-ejs that it names
    incoming-*, removed-*, .state-*   unfinished changes of a killed command; the next command deletes them

A release appears and disappears by a rename, and `state.json` changes by a rename, so a crash between any two steps
leaves either the old or the new state. The built-in release is not in this folder and cannot be removed, so a server
that finds any error here can use the built-in release.

The manifest protects against damage: a disk error, a copy that was interrupted, a file that was changed by hand. It
does not protect against somebody who may write to this folder, who could change the manifest as well.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ytmp3.converter.releases.json_files import read_json, replace_json
from ytmp3.converter.releases.locks import locked, locked_within
from ytmp3.core import release_state
from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.release import newest_first, normalized
from ytmp3.core.release_state import BUILT_IN, State
from ytmp3.core.rollout import WHOLE
from ytmp3.file_sync import sync_folder

MAX_KEPT: Final = 2
"""Most releases in the folder: the one in use, and the one before or the one that is tried. Each takes 15 MB. While two
releases are in use, each for a share of conversions, the one that is tried is the third."""

MANIFEST: Final = "manifest.json"
PACKAGES: Final = "packages"
_INCOMING: Final = "incoming-"
_REMOVED: Final = "removed-"
_NEW_STATE: Final = ".state-"

LOCK_SECONDS: Final = 5.0
"""How long a command waits for the lock, in seconds. A server that returns to a release holds it for an fsync."""


class DamagedError(Ytmp3Error):
    """A release, or the state, cannot be used. The text says why."""


class UnreadableError(DamagedError):
    """Files of a release cannot be read, as after an error of the disk. Its content may be right."""


class BusyError(Ytmp3Error):
    """Another command, or a server, is changing the releases."""


class Manifest(Struct, frozen=True, kw_only=True):
    """The content of manifest.json."""

    yt_dlp: str
    """As in the name of the folder: 2026.8.19."""
    yt_dlp_ejs: str
    wheels: Mapping[str, str]
    """SHA-256 of both wheels, by file name."""
    files: Mapping[str, str]
    """SHA-256 of every file in the folder of packages, by its path there."""


class ReleaseStore:
    """The folder of releases. It is changed by commands, updates and servers, one at a time (`changing`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def packages(self, version: str) -> Path:
        """Return the folder to put in front of the import path."""
        return self._folder / version / PACKAGES

    def state(self) -> State:
        """Return the state; without the file, the built-in release is used.

        Raises:
            DamagedError: it cannot be read.
        """
        path = self._folder / "state.json"
        try:
            state = read_json(path, State)
        except FileNotFoundError:
            return State()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedError(f"{path} cannot be read: {_reason(error)}") from None
        for version in (state.active, state.previous):
            if version != BUILT_IN and normalized(version) != version:
                raise DamagedError(f"{path} cannot be read: it names no version")
        if not 0 < state.share <= WHOLE:
            raise DamagedError(f"{path} cannot be read: the share is wrong")
        return state

    def versions(self) -> list[str]:
        """Return the versions of the releases in the folder, whether damaged or not; the oldest release first."""
        with contextlib.suppress(OSError):
            return newest_first(entry.name for entry in self._folder.iterdir() if _is_version(entry.name))[::-1]
        return []

    def manifest(self, version: str) -> Manifest:
        """Return the manifest of a release, without a check of its files.

        Raises:
            DamagedError: there is none, or it is not that of this version.
        """
        try:
            manifest = read_json(self._folder / version / MANIFEST, Manifest)
        except FileNotFoundError:
            raise DamagedError("it is not there") from None
        except OSError as error:
            raise UnreadableError(f"its manifest cannot be read: {_reason(error)}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedError(f"its manifest cannot be read: {_reason(error)}") from None
        if manifest.yt_dlp != version:
            raise DamagedError("its manifest is that of another release")
        return manifest

    def verify(self, version: str) -> Manifest:
        """Check every file of a release, and return its manifest. Takes 0.1 s.

        Raises:
            DamagedError: a file is missing, is not that of the manifest, or should not be there.
        """
        manifest = self.manifest(version)
        try:
            found = hashes(self.packages(version))
        except OSError as error:
            raise UnreadableError(f"its files cannot be read: {_reason(error)}") from None
        for name in sorted(manifest.files.keys() | found.keys()):
            if name not in found:
                raise DamagedError(f"the file {name} is missing")
            if name not in manifest.files:
                raise DamagedError(f"the file {name} is not in the manifest")
            if found[name] != manifest.files[name]:
                raise DamagedError(f"the file {name} has changed")
        return manifest

    def is_whole(self, version: str) -> bool:
        """Return whether a release is there and undamaged."""
        try:
            self.verify(version)
        except DamagedError:
            return False
        return True

    def hold(self, version: str) -> int:
        """Keep a release from being removed while it is in use. Returns a descriptor; closing it ends the hold.

        Raises:
            OSError: there is no such release.
        """
        return locked(self._folder / version / MANIFEST, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def changing(self, *, wait_seconds: float = 0.0) -> Iterator[None]:
        """Hold the lock that a command needs for its changes; and delete what an interrupted command has left.

        Raises:
            BusyError: another command, or a server, has held the lock for `wait_seconds`.
            OSError: the folder cannot be made or written.
        """
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        (self._folder / "lock").touch(mode=0o644)
        try:
            descriptor = locked_within(wait_seconds, self._folder / "lock")
        except BlockingIOError:
            raise BusyError("another `ytmp3 extractor` command, or an update (YTDLP_UPDATE), is running") from None
        try:
            for entry in self._folder.iterdir():
                if entry.name.startswith((_INCOMING, _REMOVED)):
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name.startswith(_NEW_STATE):
                    entry.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def incoming(self) -> Path:
        """Make an empty folder for a release that is about to be made. Deleted by the next command unless `add`ed."""
        return Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self._folder))

    def add(self, incoming: Path, *, yt_dlp: str, yt_dlp_ejs: str, wheels: Mapping[str, str]) -> Manifest:
        """Turn an incoming folder, in which `packages` is complete, into a release.

        If the same release is there already, it stays. A damaged one of this version is replaced even while servers use
        it: they expect these very files.

        Raises:
            OSError: it cannot be written.
            DamagedError: it contains something that is neither a file nor a folder.
            BusyError: a server uses an undamaged release of this version that has other files.
        """
        files = hashes(incoming / PACKAGES)
        manifest = Manifest(yt_dlp=yt_dlp, yt_dlp_ejs=yt_dlp_ejs, wheels=wheels, files=files)
        try:
            present = self.verify(yt_dlp)
        except DamagedError:
            present = None
        if present == manifest:
            shutil.rmtree(incoming, ignore_errors=True)
            return manifest
        (incoming / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        # Files for everybody: the command may run as another user than the service. There is no secret in them.
        for path in (incoming, *incoming.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        # A thousand files: one call for all of them is faster than an fsync for each.
        os.sync()
        if (self._folder / yt_dlp).exists():
            try:
                self._move_away(yt_dlp, is_damaged=present is None)
            except BlockingIOError:
                raise BusyError(f"yt-dlp {yt_dlp} is in use, and the fetched one has other files") from None
        incoming.rename(self._folder / yt_dlp)
        sync_folder(self._folder)
        return manifest

    def choose(self, version: str, *, is_new: bool = False, is_downgrade: bool = False) -> State:
        """Make a release (or BUILT_IN) the one that new conversions use, by command, and return the new state.

        The keywords are those of `release_state.chosen`.

        Raises:
            OSError: the state cannot be written; the old one stays.
        """
        return self._change(lambda old: release_state.chosen(old, version, is_new=is_new, is_downgrade=is_downgrade))

    def begin(self, version: str, share: int) -> State:
        """Make a release the one that this share of new conversions use, and return the new state. See `choose`."""
        return self._change(lambda old: release_state.begun(old, version, share))

    def advance(self, serial: int, share: int) -> None:
        """Give the release of the state with this serial number a larger share; nothing if another one was chosen.

        Called by a server. Several servers may do it at once. For the errors, see `give_up`.
        """
        with self.changing(wait_seconds=LOCK_SECONDS):
            state = self.state()
            if state.serial == serial and state.share < share:
                self._write_state(release_state.advanced(state, share))

    def give_up(self, serial: int, failed: str, version: str, note: str) -> None:
        """Leave `failed`, the release of the state with this serial number, for `version`, and quarantine it.

        If another one was chosen since, see `release_state.given_up_late`. Called by a server. Several servers may do
        it at once; the first one changes the state.

        Raises:
            BusyError, DamagedError, OSError: the state was not changed.
        """
        with self.changing(wait_seconds=LOCK_SECONDS):
            old = self.state()
            if old.serial == serial:
                new = release_state.given_up(old, version, note)
            else:
                present = version if version in self.versions() else BUILT_IN
                new = release_state.given_up_late(old, failed, present, note)
            if new != old:
                self._write_state(new)

    def use_built_in(self, serial: int) -> State:
        """Choose the built-in release, unless another one was chosen since the state with this serial number.

        Called by a server that starts. Returns the state. For the errors, see `give_up`.
        """
        with self.changing(wait_seconds=LOCK_SECONDS):
            state = self.state()
            return self.choose(BUILT_IN) if state.serial == serial else state

    def quarantine(self, version: str, reason: str) -> None:
        """Keep updates from trying a release again. Raises DamagedError, OSError."""
        self._write_state(release_state.quarantine(self.state(), version, reason))

    def remember(self, seen: Mapping[str, float]) -> None:
        """Remember when newer releases were seen first. Raises DamagedError, OSError."""
        state = self.state()
        if state.seen != seen:
            self._write_state(msgspec.structs.replace(state, seen=seen))

    def tidy(self, tried: str = BUILT_IN) -> None:
        """Remove releases until MAX_KEPT are left. Kept first: the one in use, `tried`, the one before, the newest.

        While only a share of conversions uses the one in use, the others need the one before: `tried` is kept besides.
        A release that a server still uses stays; a later command removes it.

        Raises:
            DamagedError: the state cannot be read.
        """
        state = self.state()
        in_order = (state.active, tried, state.previous, *reversed(self.versions()))
        kept = _releases(in_order)[:MAX_KEPT]
        if state.share != WHOLE:
            kept = _releases((state.active, state.previous, tried))
        if state.previous not in (*kept, BUILT_IN):
            # Written before the release goes, so that the state never names one that is not there.
            self._write_state(msgspec.structs.replace(state, previous=BUILT_IN))
        self._keep_only(kept)

    def make_room(self, wanted: str) -> None:
        """Remove releases that were fetched and not used, before `wanted` is fetched. The state stays as it is.

        The one in use and the one before are kept, and so is `wanted`, if it is there.

        Raises:
            DamagedError: the state cannot be read.
        """
        state = self.state()
        self._keep_only((state.active, state.previous, wanted))

    def _keep_only(self, kept: Iterable[str]) -> None:
        for version in set(self.versions()).difference(kept):
            self.remove(version)

    def remove(self, version: str) -> None:
        """Remove a release, as after a failed trial. One that a server uses stays."""
        with contextlib.suppress(OSError):
            self._move_away(version)

    def _move_away(self, version: str, *, is_damaged: bool = False) -> None:
        """Remove a release. Raises BlockingIOError if a server uses it, unless it is damaged."""
        folder = self._folder / version
        descriptor = None
        if not is_damaged:
            with contextlib.suppress(FileNotFoundError):
                descriptor = locked(folder / MANIFEST, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            away = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=self._folder))
            folder.rename(away / version)
            shutil.rmtree(away, ignore_errors=True)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _change(self, transition: Callable[[State], State]) -> State:
        try:
            old = self.state()
        except DamagedError:
            # A number that no server has seen, so that all of them notice the change.
            old = State(serial=int(time.time()))
        state = transition(old)
        self._write_state(state)
        return state

    def _write_state(self, state: State) -> None:
        replace_json(self._folder / "state.json", state, prefix=_NEW_STATE)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path there.

    Raises:
        DamagedError: something is neither a file nor a folder, such as a link.
        OSError: a file cannot be read.
    """
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not stat.S_ISDIR(mode):
            raise DamagedError(f"{path.relative_to(folder)} is neither a file nor a folder")
    return found


def _releases(versions: Iterable[str]) -> list[str]:
    """Return the versions that may be in the folder, in this order, each of them once."""
    return list(dict.fromkeys(version for version in versions if version != BUILT_IN))


def _is_version(name: str) -> bool:
    return normalized(name) == name


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
