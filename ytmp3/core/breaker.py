"""A circuit breaker for everything that would make all conversions fail. Pure: the time is an argument.

    closed ── a rule below says so ──> open: nothing may start until a time
    open ───── the time has come ─────> half open: one conversion may start, the trial; its outcome decides
    half open ── the trial succeeds ──> closed;  ── it fails ──> open again, for twice as long

The rules, each for another kind of cause:

    address               5 refusals in a minute, and at least half of the outcomes that tell of the address
    network, settings     3 conversions one after the other that did not reach YouTube
    release, YouTube,     more than 60 % of the last 30 conversions, and at least 10 of them: no video would fare better
    address

The last rule counts each conversion once, by its newest outcome, so one video that is tried again and again cannot
open the breaker. Each start has a number, which distinguishes the outcome of the trial from outcomes of conversions
that were under way when the breaker opened. Those say nothing about the present, and are ignored.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import Fault

WINDOW_SECONDS: Final = 60.0
"""Age, in seconds, of the oldest refusal that counts; also how long a trial keeps the next one from starting."""
REFUSALS_TO_OPEN: Final = 5
"""Fewer refusals in the window may be the matter of single videos."""
SHARE_TO_OPEN: Final = 0.5
"""Share of refusals among the outcomes in the window: below it YouTube serves this address, by and large."""
REMEMBERED_OUTCOMES: Final = 1000
"""Upper bound of the memory: more outcomes than can come in within the window."""

UNREACHED_TO_OPEN: Final = 3
"""So many conversions in a row that did not reach YouTube. A lost packet may explain one or two."""

REMEMBERED_ENDS: Final = 30
"""How many conversions the rule for YouTube and the release looks at."""
ENDS_TO_OPEN: Final = 10
"""Fewer conversions may be the links of one client, all of the same kind."""
BLAMED_TO_OPEN: Final = 0.6
"""Share of the remembered conversions above which they blame YouTube, the release or the address."""
ENDS_SECONDS: Final = 3600.0
"""Age, in seconds, of the oldest end that counts: on a quiet instance the last 30 may reach back for days."""


class Pauses(Struct, frozen=True, kw_only=True):
    """How long the breaker stays open, in seconds: each failed trial doubles the pause."""

    first: float
    longest: float


PAUSES: Final[Mapping[Fault, Pauses]] = MappingProxyType(
    {
        # YouTube's block of a session lasts up to an hour, says the yt-dlp wiki; asking prolongs it.
        Fault.ADDRESS: Pauses(first=60.0, longest=3600.0),
        # A router that restarts is back within seconds, and asking disturbs nobody.
        Fault.NETWORK: Pauses(first=2.0, longest=30.0),
        # Nothing changes until a person acts; they should not have to wait for the service afterwards.
        Fault.SETTINGS: Pauses(first=15.0, longest=300.0),
        # YouTube's incidents last from minutes to hours, and a newer yt-dlp may come at any time.
        Fault.RELEASE: Pauses(first=30.0, longest=600.0),
        Fault.YOUTUBE: Pauses(first=30.0, longest=600.0),
    }
)
"""The causes that open the breaker. Other faults say nothing about other conversions."""
_SHARED: Final = frozenset({Fault.RELEASE, Fault.YOUTUBE, Fault.ADDRESS})
_UNREACHED: Final = frozenset({Fault.NETWORK, Fault.SETTINGS})


class BreakerState(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing."""
    HALF_OPEN = "half_open"
    """One conversion, the trial; it is running, or the next to start."""


class Breaker:
    """Counts how conversions fared at YouTube, and says whether the next one may start."""

    def __init__(self) -> None:
        self._refusals: deque[tuple[float, bool]] = deque(maxlen=REMEMBERED_OUTCOMES)
        """While closed: the time of each outcome that tells of the address, and whether it was a refusal."""
        self._unreached = 0
        """While closed: the last so many conversions did not reach YouTube."""
        self._ends: OrderedDict[str, tuple[float, Fault | None]] = OrderedDict()
        """While closed: the newest end of each of the last conversions; None for one that blames nobody."""
        self._cause: Fault | None = None
        """Why it is open; None while closed."""
        self._open_until = 0.0
        """From this time on, the next start is the trial. Without meaning while closed."""
        self._pause_seconds = 0.0
        self._opened_at = 0.0
        self._last_start = 0
        self._trial: tuple[int, float] | None = None
        """The number of the trial under way, and the time of its start."""

    @property
    def cause(self) -> Fault | None:
        """Why it is open or half open: what the last failed trial said, or else the rule. None while closed."""
        return self._cause

    def state(self, now: float) -> BreakerState:
        """Return what may start."""
        if self._cause is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def is_open(self, now: float) -> bool:
        """Return whether no conversion may start now."""
        return self._cause is not None and (now < self._open_until or self._trial_is_running(now))

    def wait_seconds(self, now: float) -> float:
        """Return how long it takes until a trial may start; 0 while closed."""
        return 0.0 if self._cause is None else max(0.0, self._open_until - now)

    def open_seconds(self, now: float) -> float:
        """Return for how long it has been open or half open; 0 while closed."""
        return 0.0 if self._cause is None else now - self._opened_at

    def started(self, now: float) -> int:
        """Record the start of a conversion, and return its number. The first start after the pause is the trial."""
        self._last_start += 1
        if self._cause is not None and now >= self._open_until:
            self._trial = (self._last_start, now)
        return self._last_start

    def reached(self, start: int) -> None:
        """Record that YouTube described the video of a conversion that is still running. That proves the network."""
        self._unreached = 0
        if self._is_trial(start) and self._cause in _UNREACHED:
            self._close()

    def passed(self, start: int, subject: str, now: float) -> None:
        """Record that YouTube served a conversion; it may have failed for another reason. `subject`: its video."""
        if self._cause is None:
            self._unreached = 0
            self._refusals.append((now, False))
            self._remember(subject, now, None)
        elif self._is_trial(start):
            self._close()

    def failed(self, start: int, subject: str, fault: Fault, now: float) -> None:
        """Record that an attempt failed by a fault that other conversions may meet as well (one of PAUSES)."""
        if self._cause is None:
            self._unreached = self._unreached + 1 if fault in _UNREACHED else 0
            if fault is Fault.ADDRESS:
                self._refusals.append((now, True))
            if fault in _SHARED:
                self._remember(subject, now, fault)
            cause = self._cause_to_open(fault, now)
            if cause is not None:
                self._opened_at = now
                self._open(cause, PAUSES[cause].first, now)
        elif self._is_trial(start):
            pauses = PAUSES[fault]
            self._open(fault, min(pauses.longest, max(pauses.first, 2 * self._pause_seconds)), now)

    def ended(self, start: int) -> None:
        """Record that a conversion is over. A trial without an outcome (it was cancelled) makes room for the next."""
        if self._is_trial(start):
            self._trial = None

    def _cause_to_open(self, fault: Fault, now: float) -> Fault | None:
        if self._unreached >= UNREACHED_TO_OPEN:
            return fault
        recent = [refused for at, refused in self._refusals if now - at <= WINDOW_SECONDS]
        refusals = sum(recent)
        if refusals >= REFUSALS_TO_OPEN and refusals >= SHARE_TO_OPEN * len(recent):
            return Fault.ADDRESS
        ends = [blamed for at, blamed in self._ends.values() if now - at <= ENDS_SECONDS]
        blames = Counter(blamed for blamed in ends if blamed is not None)
        if len(ends) >= ENDS_TO_OPEN and blames.total() > BLAMED_TO_OPEN * len(ends):
            return max(blames, key=blames.__getitem__)
        return None

    def _remember(self, subject: str, now: float, fault: Fault | None) -> None:
        self._ends[subject] = (now, fault)
        self._ends.move_to_end(subject)
        if len(self._ends) > REMEMBERED_ENDS:
            self._ends.popitem(last=False)

    def _open(self, cause: Fault, pause_seconds: float, now: float) -> None:
        self._cause = cause
        self._pause_seconds = pause_seconds
        self._open_until = now + pause_seconds
        self._trial = None

    def _close(self) -> None:
        self._cause = None
        self._trial = None
        self._unreached = 0
        self._refusals.clear()
        self._ends.clear()

    def _is_trial(self, start: int) -> bool:
        return self._trial is not None and self._trial[0] == start

    def _trial_is_running(self, now: float) -> bool:
        # A trial that takes long (a recording of hours) must not keep everything else waiting: another one may follow.
        return self._trial is not None and now - self._trial[1] < WINDOW_SECONDS
