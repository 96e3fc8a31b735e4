"""How identities are used: the egress routes to YouTube, each with a budget and a state. Pure: time is an argument.

    ok ───── refused, or not reached, several times in a row ─────> cooling: no conversion starts for a pause
    cooling ── the pause is over ──> one conversion may start: the trial
               the trial succeeds ─> ok. After a refusal, its pace begins at a tenth, and doubles every ten minutes
                                     until it is the whole pace again
               the trial fails ────> cooling, for twice as long
    broken                           like cooling, because a setting is wrong, such as the proxy's password

The budget is a token bucket: an identity with N videos an hour starts at most N conversions in any hour. Extractions
that a conversion repeats take a token each, too.

The states of all identities are one value of the job store, so all instances with the same identities use one budget
and one pause. The value has the names of the identities, but neither their addresses nor their passwords.

A refusal may concern the video alone, because YouTube asks for a login for some videos only. It counts as a failed
attempt of the conversion only in two cases: the identity has served other conversions since an earlier refusal of this
video, or no other video is refused.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ytmp3.core.breaker import PAUSES
from ytmp3.core.errors import Fault

HOUR_SECONDS: Final = 3600.0
LARGEST_BURST: Final = 20
"""Most conversions that an identity starts at once: the default number of workers."""
BURST_SHARE: Final = 12
"""The burst is the budget of five minutes, if that is less."""
VIDEOS_TO_COOL: Final = 3
"""An identity is closed after refusals of this many different videos in a row. A refusal of one or two may concern
these videos alone."""
REFUSALS_TO_COOL: Final = 5
"""An identity is also closed after this many refusals in a row, if they are of at least two videos."""
UNREACHED_TO_COOL: Final = 3
"""Number of conversions in a row that did not reach YouTube, at which an identity is closed."""
TRIAL_SECONDS: Final = 60.0
"""Time, in seconds, after which another trial may start while the first still runs: it may be a video of hours."""
SLOWEST_PACE: Final = 0.1
"""The part of its budget that an identity uses after a refusal. According to the yt-dlp wiki, YouTube blocks a session
for up to an hour, and requests prolong that."""
DOUBLING_SECONDS: Final = 600.0
"""Time, in seconds, without a refusal after which the pace doubles. From a tenth to the whole takes 40 minutes."""
SLOWING_SECONDS: Final = 60.0
"""The pace is halved at most once in this time, in seconds: conversions that run together get the same warning."""
ROUNDING: Final = 1e-6
"""The part of a token that may be missing: additions of many small parts are not exact."""
FORGET_SECONDS: Final = 86400.0
"""Age, in seconds, at which the state of an identity that is not used any more is dropped."""

OF_IDENTITY: Final = frozenset({Fault.ADDRESS, Fault.NETWORK, Fault.SETTINGS})
"""Faults that concern one identity: its address, its network or its settings. Another identity may work."""


class IdentityState(StrEnum):
    """The state of an identity, for the operator."""

    OK = "ok"
    COOLING = "cooling"
    """It is not used for a pause, or a trial is due or running."""
    BROKEN = "broken"
    """The same, but a setting is wrong."""


class Budget(Struct, frozen=True, kw_only=True):
    """What the engine knows of an identity."""

    name: str
    videos_per_hour: int
    """Most extractions in any hour; 0: no limit."""

    @property
    def burst(self) -> int:
        """The size of the bucket."""
        return max(1, min(LARGEST_BURST, self.videos_per_hour // BURST_SHARE))

    def tokens_per_second(self, pace: float) -> float:
        """Return the rate at which the bucket is filled. With the burst, an hour gives at most `videos_per_hour`."""
        return pace * max(self.videos_per_hour - self.burst, self.videos_per_hour / 2) / HOUR_SECONDS


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one identity, as it is stored."""

    tokens: float
    """The tokens at `at`; negative after extractions that did not wait for a token."""
    at: float
    """When it was used last."""
    pace: float = 1.0
    """The part of the budget that it used at `paced_at`."""
    paced_at: float = 0.0
    cause: Fault | None = None
    """Why it is cooling; None: it is ok."""
    until: float = 0.0
    """The end of the pause."""
    pause: float = 0.0
    """The length of the last pause."""
    trial_at: float | None = None
    """When the running trial started."""
    refused: tuple[str, ...] = ()
    """The videos that were refused since it served one."""
    refusals: int = 0
    """The number of these refusals."""
    unreached: int = 0
    """The number of latest conversions in a row that did not reach YouTube."""
    served_at: float = 0.0
    """When it served a conversion last."""


Standings = Mapping[str, Standing]
"""The states of the identities, by name. One that is missing was never used."""


class Choice(Struct, frozen=True, kw_only=True):
    """The identity for a conversion, or the time until there is one."""

    name: str | None
    wait_seconds: float
    """0 if there is one."""
    is_trial: bool = False


def unused(budget: Budget, now: float) -> Standing:
    """Return the state of an identity that was never used."""
    return Standing(tokens=float(budget.burst), at=now)


def pace_at(standing: Standing, now: float) -> float:
    """Return the part of its budget that an identity uses now."""
    if standing.pace >= 1.0:
        return 1.0
    doublings = max(0, math.floor((now - standing.paced_at) / DOUBLING_SECONDS))
    return min(1.0, standing.pace * 2.0 ** min(doublings, 10))


def state_of(standing: Standing) -> IdentityState:
    """Return the state for the operator."""
    if standing.cause is None:
        return IdentityState.OK
    return IdentityState.BROKEN if standing.cause is Fault.SETTINGS else IdentityState.COOLING


def tokens_at(standing: Standing, budget: Budget, now: float) -> float:
    """Return the tokens, with those of the time since the last use. A clock that was set back adds none."""
    # The pace only rises during that time. Calculating with its first value never adds too many tokens.
    gained = max(0.0, now - standing.at) * budget.tokens_per_second(pace_at(standing, standing.at))
    return min(float(budget.burst), standing.tokens + gained)


def refilled(standing: Standing, budget: Budget, now: float) -> Standing:
    """Add the tokens of the time since the last use."""
    return replace(standing, tokens=tokens_at(standing, budget, now), at=now)


def wait_seconds(standing: Standing, budget: Budget, now: float) -> float:
    """Return the time until a conversion may start through the identity; 0: now."""
    closed = 0.0
    if standing.cause is not None:
        closed = standing.until - now
        if standing.trial_at is not None:
            closed = max(closed, standing.trial_at + TRIAL_SECONDS - now)
    return max(0.0, closed, token_seconds(standing, budget, now))


def token_seconds(standing: Standing, budget: Budget, now: float) -> float:
    """Return the time until there is a token, whatever the state of the identity."""
    if not budget.videos_per_hour or standing.tokens >= 1.0:
        return 0.0
    missing = 1.0 - tokens_at(standing, budget, now)
    # Rounding must not make a wait of a millionth of a second, after which there is still no token.
    return 0.0 if missing < ROUNDING else missing / budget.tokens_per_second(pace_at(standing, now))


def standing_of(standings: Standings, budget: Budget, now: float) -> Standing:
    """Return the state of an identity, whether it was used before or not."""
    return standings.get(budget.name) or unused(budget, now)


def choose(budgets: Sequence[Budget], standings: Standings, now: float, *, avoid: frozenset[str]) -> Choice:
    """Choose the identity for a conversion.

    The conversion was refused through the identities in `avoid`. They are used only if no other identity is ok.

    An identity whose trial is due goes first: otherwise it would stay closed as long as the others suffice. Then comes
    the identity with the largest part of its budget left; among equals, the one that was not used for longest.
    """
    known = [(budget, standing_of(standings, budget, now)) for budget in budgets]
    others = [each for each in known if each[0].name not in avoid]
    usable = others if any(standing.cause is None for _, standing in others) else known
    waits = [wait_seconds(standing, budget, now) for budget, standing in usable]
    free = [each for each, wait in zip(usable, waits, strict=True) if wait <= 0.0]
    if not free:
        return Choice(name=None, wait_seconds=min(waits))

    def rank(each: tuple[Budget, Standing]) -> tuple[bool, float, float]:
        budget, standing = each
        left = tokens_at(standing, budget, now) / budget.burst if budget.videos_per_hour else 1.0
        return standing.cause is None, -left, standing.at

    best, standing = min(free, key=rank)
    return Choice(name=best.name, wait_seconds=0.0, is_trial=standing.cause is not None)


def closed_seconds(budgets: Sequence[Budget], standings: Standings, now: float) -> float:
    """Return the time until the first identity may be tried again; 0 if one of them is ok."""
    known = [standing_of(standings, budget, now) for budget in budgets]
    if any(standing.cause is None for standing in known):
        return 0.0
    return min(wait_seconds(standing, budget, now) for standing, budget in zip(known, budgets, strict=True))


def taken(standing: Standing, budget: Budget, now: float) -> Standing:
    """Take a token for an extraction. The caller has checked `wait_seconds`."""
    current = refilled(standing, budget, now)
    trial_at = now if standing.cause is not None else None
    return replace(current, tokens=max(0.0, current.tokens - 1.0), trial_at=trial_at)


def charged(standing: Standing, budget: Budget, now: float) -> Standing:
    """Take a token for an extraction that does not wait for one (`ytmp3 doctor`).

    If there is none, the number becomes negative, and later conversions wait longer: the hour has no more extractions
    than the budget, as soon as it is possible.
    """
    current = refilled(standing, budget, now)
    return replace(current, tokens=current.tokens - 1.0)


def put_back(standing: Standing, budget: Budget, now: float, *, taken_at: float) -> Standing:
    """Put back the token of a conversion that did not start. If it was the trial, another trial may start."""
    current = refilled(standing, budget, now)
    current = replace(current, tokens=min(float(budget.burst), current.tokens + 1.0))
    return replace(current, trial_at=None) if _is_trial(standing, taken_at) else current


def ended(standing: Standing, *, taken_at: float) -> Standing:
    """Record the end of a conversion whose outcome shows nothing about the identity. Another trial may then start."""
    return replace(standing, trial_at=None) if _is_trial(standing, taken_at) else standing


def served(standing: Standing, now: float, *, taken_at: float) -> Standing:
    """Record that YouTube served a conversion through the identity.

    While it is cooling, only the trial counts: other conversions had started before.
    """
    if standing.cause is not None and not _is_trial(standing, taken_at):
        return standing
    return replace(_opened(standing), refused=(), refusals=0, unreached=0, pause=0.0, served_at=now)


def reached(standing: Standing, *, taken_at: float) -> Standing:
    """Record that an extraction through the identity succeeded, so that its network and its settings work."""
    if standing.cause in {Fault.NETWORK, Fault.SETTINGS} and _is_trial(standing, taken_at):
        standing = replace(_opened(standing), pause=0.0)
    return replace(standing, unreached=0) if standing.unreached else standing


def failed(standing: Standing, video_id: str, fault: Fault, now: float, *, taken_at: float) -> Standing:
    """Record a failure by a fault of the identity (OF_IDENTITY)."""
    if standing.cause is not None:
        return _closed(standing, fault, now) if _is_trial(standing, taken_at) else standing
    if fault is Fault.ADDRESS:
        refused = standing.refused if video_id in standing.refused else (*standing.refused, video_id)
        standing = replace(standing, refused=refused, refusals=standing.refusals + 1, unreached=0)
        is_closed = len(refused) >= VIDEOS_TO_COOL or (standing.refusals >= REFUSALS_TO_COOL and len(refused) > 1)
    else:
        standing = replace(standing, unreached=standing.unreached + 1)
        is_closed = standing.unreached >= UNREACHED_TO_COOL
    return _closed(standing, fault, now) if is_closed else standing


def costs_an_attempt(standing: Standing, video_id: str, *, refused_before_at: float | None) -> bool:
    """Return whether a refusal counts against the video. `standing` includes it.

    `refused_before_at`: when the video was refused the last time before, through any identity; None: never.
    """
    if standing.cause is not None or refused_before_at is None:
        return False
    return standing.served_at > refused_before_at or set(standing.refused) <= {video_id}


def slowed(standing: Standing, now: float) -> Standing:
    """Halve the pace: YouTube has answered 429 to the page, although the extraction succeeded."""
    pace = pace_at(standing, now)
    if standing.cause is not None or (pace < 1.0 and now - standing.paced_at < SLOWING_SECONDS):
        return standing
    return replace(standing, pace=max(SLOWEST_PACE, pace / 2.0), paced_at=now)


def without_old(standings: Standings, now: float) -> Standings:
    """Drop the states of identities that are not used any more."""
    return MappingProxyType({name: each for name, each in standings.items() if now - each.at < FORGET_SECONDS})


def without_future(standings: Standings, now: float) -> Standings:
    """Bound times that are in the future because the store's clock was set back: no pause gets longer than it was."""
    return MappingProxyType({name: _bounded(each, now) for name, each in standings.items()})


def _bounded(standing: Standing, now: float) -> Standing:
    if max(standing.at, standing.paced_at, standing.until, standing.trial_at or now, standing.served_at) <= now:
        return standing
    pause_end = now + standing.pause
    trial_at = standing.trial_at
    return replace(
        standing,
        at=min(standing.at, now),
        paced_at=min(standing.paced_at, pause_end),
        until=min(standing.until, pause_end),
        # A little later than now, it may have been written before a failover to a server with another clock.
        trial_at=None if trial_at is None or trial_at > now + TRIAL_SECONDS else trial_at,
        served_at=min(standing.served_at, now),
    )


def _is_trial(standing: Standing, taken_at: float) -> bool:
    return standing.cause is not None and standing.trial_at == taken_at


def _opened(standing: Standing) -> Standing:
    return replace(standing, cause=None, trial_at=None)


def _closed(standing: Standing, fault: Fault, now: float) -> Standing:
    pauses = PAUSES[fault]
    pause = min(pauses.longest, max(pauses.first, 2.0 * standing.pause))
    closed = replace(standing, cause=fault, until=now + pause, pause=pause, trial_at=None)
    if fault is not Fault.ADDRESS:
        return closed
    return replace(closed, tokens=min(1.0, standing.tokens), pace=SLOWEST_PACE, paced_at=now + pause)
