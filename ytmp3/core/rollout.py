"""Updates of yt-dlp without an operator: which release is tried next, and for how many conversions it is used. Pure.

    offered ── old enough, newer than the one in use, not quarantined ──> candidate
    candidate ── fetched, tried without a network, tried at YouTube ────> 5 % of new conversions use it
    5 % ── enough good conversions, or enough time and few failures ──> 25 % ── the same ──> 100 %
    at any share: conversions fail with it and succeed with the previous release ──> given up (`core.probation`)

A release that was refused by a trial or given up is quarantined: it is not tried again, unless by command. While new
conversions are paused because of the release in use, waiting costs more than it protects: then a candidate need not be
old, and it is used for all new conversions as soon as it has passed the trials.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from ytmp3.core.release import NIGHTLY, STABLE, is_newer, is_stable, newest, newest_first

OFF: Final = "off"
"""The value of YTDLP_UPDATE that is neither STABLE nor NIGHTLY: releases are chosen by command only."""

_DAY_SECONDS: Final = 24 * 3600.0
COOLING_SECONDS: Final[Mapping[str, float]] = MappingProxyType({STABLE: 2 * _DAY_SECONDS, NIGHTLY: _DAY_SECONDS})
"""Age, in seconds, at which a release may be used. A release with malicious code has mostly been withdrawn by then."""

LOOK_SECONDS: Final = 6 * 3600.0
"""Mean interval, in seconds, at which the package index is asked. yt-dlp is released every few days."""
BROKEN_LOOK_SECONDS: Final = 300.0
"""The same while conversions fail because of the release in use: its successor is mostly released within hours."""
JITTER: Final = 0.2
"""Fraction of the interval by which it is shorter or longer at most, so that instances do not ask at the same time."""

WHOLE: Final = 100
"""Per cent of new conversions: all of them."""

MAX_SEEN: Final = 50
"""Maximum number of releases whose first-seen time is stored."""


class Steps(Struct, frozen=True, kw_only=True):
    """How a new release comes into use."""

    shares: tuple[int, ...] = (5, 25, WHOLE)
    """Per cent of new conversions that use it, step by step. The last one is WHOLE."""
    conversions: int = 20
    """Number of good conversions with it in one instance that end a step."""
    seconds: float = 1800.0
    """A step ends after this time, in seconds, too, unless the release fails: at a service with few conversions, an
    update would take weeks otherwise."""

    def first(self, *, is_broken: bool) -> int:
        """Return the share with which a new release begins."""
        return WHOLE if is_broken else self.shares[0]

    def following(self, share: int, *, good: int, seconds: float, may_end_by_time: bool, is_broken: bool) -> int:
        """Return the share to use now: `share`, or the following one if this step is over.

        `good` is the number of conversions that have succeeded with the release in this step, which has lasted
        `seconds`. `may_end_by_time`: see `probation.Probation`.
        """
        if is_broken:
            return WHOLE
        if good < self.conversions and not (may_end_by_time and seconds >= self.seconds):
            return share
        return next((each for each in self.shares if each > share), WHOLE)


class Offer(Struct, frozen=True, kw_only=True):
    """A release that the package index has, and has not withdrawn."""

    version: str
    """In the form of `release.normalized`."""
    uploaded_at: float | None = None
    """In seconds since 1970; None: the index does not say (it need not, PEP 700)."""


class CanaryOutcome(StrEnum):
    """Result of one trial video (YTDLP_CANARY_URLS)."""

    SERVED = "served"
    """The candidate has extracted it, and read it beyond its first minute."""
    WORSE = "worse"
    """The candidate has failed twice, and the release in use has succeeded in between."""
    UNDECIDED = "undecided"
    """Both have failed, or the candidate has failed for a reason that is not held against it, as a refused address."""


class CanaryVerdict(StrEnum):
    """Result of the trial with all videos."""

    PASSED = "passed"
    REFUSED = "refused"
    UNDECIDED = "undecided"
    """Nothing was learnt about the candidate. It is tried again later."""


def judge(outcomes: Sequence[CanaryOutcome]) -> CanaryVerdict:
    """Return the verdict. Without videos, the trial is skipped."""
    if CanaryOutcome.WORSE in outcomes:
        return CanaryVerdict.REFUSED
    if not outcomes or CanaryOutcome.SERVED in outcomes:
        return CanaryVerdict.PASSED
    return CanaryVerdict.UNDECIDED


def first_seen(offers: Iterable[Offer], in_use: str, seen: Mapping[str, float], now: float) -> dict[str, float]:
    """Return when each release that is newer than the one in use was offered for the first time.

    `seen` is what was remembered. Times in the future, of a clock that was wrong, become `now`.
    """
    newer = newest_first(offer.version for offer in offers if is_newer(offer.version, in_use))
    return {version: min(seen.get(version, now), now) for version in newer[:MAX_SEEN]}


def candidate(
    offers: Iterable[Offer],
    channel: str,
    *,
    seen: Mapping[str, float],
    quarantined: Container[str],
    now: float,
    is_broken: bool,
) -> str | None:
    """Return the release to try: the newest one that may be used; None if there is none.

    `seen` is the result of `first_seen`, so no other release is considered. `channel` is STABLE or NIGHTLY (which
    includes stable releases). While `is_broken`, a candidate may be of any age.
    """
    allowed = [
        offer.version
        for offer in offers
        if offer.version in seen
        and offer.version not in quarantined
        and (channel == NIGHTLY or is_stable(offer.version))
        and (is_broken or now - _known_since(offer, seen) >= COOLING_SECONDS[channel])
    ]
    return newest(allowed)


def _known_since(offer: Offer, seen: Mapping[str, float]) -> float:
    return seen[offer.version] if offer.uploaded_at is None else offer.uploaded_at


def takes_new(share: int, random: float) -> bool:
    """Return whether a new conversion uses the new release. `random` is in [0, 1), uniformly distributed."""
    return random * WHOLE < share


def look_seconds(random: float, *, is_broken: bool) -> float:
    """Return the time until the package index is asked again. `random` is in [0, 1), uniformly distributed."""
    mean = BROKEN_LOOK_SECONDS if is_broken else LOOK_SECONDS
    return mean * (1 + JITTER * (2 * random - 1))
