"""The outcomes of `ytmp3 doctor`: its exit codes, and what they mean."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from ytmp3.core.errors import FAILURES, FailureCode, Fault


class Outcome(IntEnum):
    """The exit codes. 2 is that of settings or arguments which cannot be used."""

    WORKS = 0
    BROKEN = 1
    DEGRADED = 3
    ADDRESS_REFUSED = 4
    UNREACHABLE = 5
    VIDEO = 6


MEANINGS: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        Outcome.WORKS: "Conversions work, with the clients that are asked first.",
        Outcome.BROKEN: "No client serves audio, or a tool is broken. Update yt-dlp first.",
        Outcome.DEGRADED: "Conversions work, but only with clients that are asked later, or not by every egress route.",
        Outcome.ADDRESS_REFUSED: "YouTube refuses this address. Wait, convert less, or use another egress route.",
        Outcome.UNREACHABLE: "YouTube cannot be reached, or a setting of the network is wrong.",
        Outcome.VIDEO: "This video cannot be converted. Try another one.",
    }
)

_BY_FAULT: Final = (
    (Fault.ADDRESS, Outcome.ADDRESS_REFUSED),
    (Fault.NETWORK, Outcome.UNREACHABLE),
    (Fault.SETTINGS, Outcome.UNREACHABLE),
    (Fault.VIDEO, Outcome.VIDEO),
)
"""What the code of a failed extraction means, by its fault; BROKEN for all others. The first ones win: one client may
say that the address is refused where another one, which never serves sound, says nothing."""


def outcome_of_way(serving_groups: Iterable[int], codes: Iterable[str]) -> Outcome:
    """Judge one egress route.

    `serving_groups`: the numbers of the groups of YOUTUBE_CLIENTS in which a client has served sound; group 0 is asked
    first. `codes`: the failure codes of the other clients; unknown ones are ignored.
    """
    groups = set(serving_groups)
    if groups:
        return Outcome.WORKS if 0 in groups else Outcome.DEGRADED
    faults = {FAILURES[code].fault for code in FailureCode if code.value in set(codes)}
    return next((outcome for fault, outcome in _BY_FAULT if fault in faults), Outcome.BROKEN)


def outcome_of_all(ways: Iterable[Outcome]) -> Outcome:
    """Judge all egress routes together, the preferred one first."""
    outcomes = list(ways)
    if Outcome.WORKS in outcomes or Outcome.DEGRADED in outcomes:
        return Outcome.WORKS if set(outcomes) == {Outcome.WORKS} else Outcome.DEGRADED
    return outcomes[0] if outcomes else Outcome.BROKEN
