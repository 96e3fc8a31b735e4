"""Which releases of yt-dlp are used, and the transitions of this state. Pure. `converter.releases.store` writes it.

    active = A                                 all conversions use A
    active = B, previous = A, share = 5        an update: 5 % of new conversions use B, the others A
    active = B, previous = A, share = 100      all new conversions use B; A repeats those that fail

Each change of `active` has a serial number. A larger share keeps it, because the release is the same.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.release import is_newer, newest_first, normalized
from ytmp3.core.rollout import WHOLE

BUILT_IN: Final = ""
"""In the state: the release that is installed with the service."""

MAX_QUARANTINED: Final = 50
"""Most releases that are remembered as quarantined: the newest ones. Older ones are no longer newer than the one in
use, so they are not tried again anyway."""
DOWNGRADED: Final = "an operator has chosen an older release"
"""The reason for the quarantine of a release that works: a command has chosen an older one instead of it."""


class State(Struct, frozen=True, kw_only=True):
    """The content of state.json."""

    active: str = BUILT_IN
    """Version of the release that new conversions use, or a part of them: see `share`."""
    previous: str = BUILT_IN
    """Version of the one that was used before, for `back`."""
    serial: int = 0
    """Number of changes, so that a running server notices that the same release was chosen again."""
    is_new: bool = False
    """Whether servers keep the previous release ready, for conversions that fail with this one. False if the active
    release was chosen to go back to it."""
    note: str = ""
    """Why a server has made the last change, for the operator; empty: a command has made it."""
    share: int = WHOLE
    """Per cent of new conversions that use the active release. The others use the previous one."""
    is_automatic: bool = False
    """Whether an update (YTDLP_UPDATE) has chosen the active release, or the one that was given up last."""
    seen: Mapping[str, float] = {}
    """When the package index offered a newer release for the first time, in seconds since 1970, by version."""
    quarantined: Mapping[str, str] = {}
    """Why a release is not tried by updates, by version."""

    @property
    def established(self) -> str:
        """The release of conversions that must not try a new one."""
        return self.active if self.share == WHOLE else self.previous


def chosen(old: State, version: str, *, is_new: bool = False, is_downgrade: bool = False) -> State:
    """Return the state after a command has chosen a release.

    `is_new`: see State. `is_downgrade`: the one in use is newer. It is quarantined, or updates would choose it again.
    """
    quarantined = {known: reason for known, reason in old.quarantined.items() if known != version}
    if is_downgrade and old.active not in {BUILT_IN, version}:
        quarantined = _bounded(quarantined | {old.active: DOWNGRADED})
    return State(
        active=version,
        previous=old.previous if version == old.active else old.established,
        serial=old.serial + 1,
        is_new=is_new,
        seen=old.seen,
        quarantined=quarantined,
    )


def begun(old: State, version: str, share: int) -> State:
    """Return the state after an update has chosen a release for this share of new conversions."""
    return replace(chosen(old, version, is_new=True), share=share, is_automatic=True)


def advanced(old: State, share: int) -> State:
    """Return the state with a larger share for the same release."""
    return replace(old, share=share)


def given_up(old: State, version: str, note: str) -> State:
    """Return the state after a server has returned to `version`. `back` will not choose the one that was left.

    If another server has given up `version` meanwhile, the release before that one is used.
    """
    if version in old.quarantined:
        version = old.previous
    state = replace(chosen(old, version), previous=version, note=note, is_automatic=old.is_automatic)
    return state if old.active in {BUILT_IN, version} else quarantine(state, old.active, note)


def given_up_late(newer: State, failed: str, version: str, note: str) -> State:
    """Return the state after a server has left `failed` for `version`, while another release was chosen.

    That choice stays, without `failed` as the release to return to; also if a command has chosen `failed` once more.
    If it was a server that has returned to `failed`, `version` is used.
    """
    if newer.active == failed:
        return given_up(newer, version, note) if newer.note else newer
    state = replace(newer, previous=version) if newer.previous == failed else newer
    return state if failed == BUILT_IN else quarantine(state, failed, note)


def is_superseded(state: State, built_in: str) -> bool:
    """Return whether the built-in release, of this version, is used from the start: it is newer than the update in use.

    A release that a command has chosen is never left so, nor one to which a server has returned: that may be the choice
    of a command, too.
    """
    is_update = state.is_automatic and not state.note and state.active != BUILT_IN
    return is_update and is_newer(built_in, state.active) and normalized(built_in) not in state.quarantined


def quarantine(old: State, version: str, reason: str) -> State:
    """Return the state in which updates do not try a release."""
    return replace(old, quarantined=_bounded({**old.quarantined, version: reason}))


def blocked(state: State, built_in: str) -> tuple[str, ...]:
    """Return the quarantined releases that are newer than the one in use, without those that were left by command.

    `built_in` is the version of the built-in release.
    """
    in_use = state.active or built_in
    return tuple(each for each, why in state.quarantined.items() if why != DOWNGRADED and is_newer(each, in_use))


def _bounded(quarantined: Mapping[str, str]) -> dict[str, str]:
    return {version: quarantined[version] for version in newest_first(quarantined)[:MAX_QUARANTINED]}
