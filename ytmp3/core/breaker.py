"""A circuit breaker that stops new conversions while all of them would fail for the same cause. Pure.

    closed ─── one of the rules below ──> open: no conversion starts for a pause
    open ───── the pause is over ───────> half open: one conversion, the trial, may start
    half open ── the trial succeeds ──> closed
    half open ── the trial fails ─────> open again, for twice as long

The rules, by cause (`core.errors.Fault`):

    address               5 refusals of this server's address in a minute, and at least half of the outcomes that show
                          whether YouTube accepts the address
    network, settings     3 conversions in a row that did not reach YouTube
    release, YouTube,     more than 60 % of the last 30 conversions failed for these causes, and at least 10 conversions
    address               have ended

The last rule counts each video once, by its newest outcome, so one video that is retried many times cannot open the
breaker. Each start of a conversion has a number. By it, the breaker tells the outcome of the trial from the outcomes of
conversions that had started before the breaker opened; it ignores those, because they are out of date.

When the breaker opens, some conversions have lost an attempt already, because one failure alone could have been that of
its video. The breaker gives these attempts back: `takes_refund`.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from ytmp3.core.errors import Fault

WINDOW_SECONDS: Final = 60.0
"""Window, in seconds, of the refusals that count; also the time after which a second trial may start while the first
still runs."""
REFUSALS_TO_OPEN: Final = 5
"""Fewest refusals in the window that open the breaker. Fewer may concern single videos."""
SHARE_TO_OPEN: Final = 0.5
"""Smallest share of refusals among the outcomes in the window that opens the breaker. Below it, YouTube still serves
most conversions of this address."""
REMEMBERED_OUTCOMES: Final = 1000
"""Most outcomes that are kept. This bounds the memory, and is more than arrive within the window."""

UNREACHED_TO_OPEN: Final = 3
"""Number of conversions in a row that did not reach YouTube, at which the breaker opens. One or two may fail because of
a lost packet."""

REMEMBERED_ENDS: Final = 30
"""Number of the latest conversions that the rule for YouTube, the release and the address evaluates."""
ENDS_TO_OPEN: Final = 10
"""Fewest conversions for this rule. Fewer may be similar links of a single client."""
BLAMED_TO_OPEN: Final = 0.6
"""Share of these conversions above which the breaker opens, if they failed because of YouTube, the release or the
address."""
ENDS_SECONDS: Final = 3600.0
"""Age, in seconds, of the oldest end that counts. On a quiet instance, the last 30 ends may span several days."""


class Pauses(Struct, frozen=True, kw_only=True):
    """How long the breaker stays open, in seconds: each failed trial doubles the pause."""

    first: float
    longest: float


PAUSES: Final[Mapping[Fault, Pauses]] = MappingProxyType(
    {
        # According to the yt-dlp wiki, YouTube blocks a session for up to an hour, and requests prolong the block.
        Fault.ADDRESS: Pauses(first=60.0, longest=3600.0),
        # A router restarts within seconds, and a failed connection costs little.
        Fault.NETWORK: Pauses(first=2.0, longest=30.0),
        # The operator must correct the setting, and should not have to wait long for a trial afterwards.
        Fault.SETTINGS: Pauses(first=15.0, longest=300.0),
        # YouTube's incidents last from minutes to hours, and a newer yt-dlp may be installed at any time.
        Fault.RELEASE: Pauses(first=30.0, longest=600.0),
        Fault.YOUTUBE: Pauses(first=30.0, longest=600.0),
    }
)
"""The causes that open the breaker, with their pauses. Other faults do not affect other conversions."""
_SHARED: Final = frozenset({Fault.RELEASE, Fault.YOUTUBE, Fault.ADDRESS})
_UNREACHED: Final = frozenset({Fault.NETWORK, Fault.SETTINGS})
_COUNTED: Final = frozenset({Fault.YOUTUBE, Fault.ADDRESS})
"""Faults that cost a conversion an attempt while the breaker is closed (`states.costs_an_attempt`)."""


class BreakerState(StrEnum):
    """The state of the breaker."""

    CLOSED = "closed"
    """All conversions may start."""
    OPEN = "open"
    """No conversion may start."""
    HALF_OPEN = "half_open"
    """Only the trial may start, or it is running."""


class _End(Struct, frozen=True, kw_only=True):
    """The newest end of a conversion of one video."""

    at: float
    fault: Fault | None
    """None: no shared fault."""
    counted: int
    """How many of its latest ends, without a success in between, have cost the conversion an attempt."""


class Breaker:
    """Records the outcomes of conversions, and decides whether the next one may start."""

    def __init__(self) -> None:
        self._refusals: deque[tuple[float, bool]] = deque(maxlen=REMEMBERED_OUTCOMES)
        """While closed: the time of each outcome that shows whether YouTube accepts the address, and whether it was a
        refusal."""
        self._unreached = 0
        """While closed: the number of latest conversions in a row that did not reach YouTube."""
        self._ends: OrderedDict[str, _End] = OrderedDict()
        """While closed: the newest end of each of the latest videos."""
        self._refunds: dict[str, int] = {}
        """How many attempts each video lost before the breaker opened last, and has not got back."""
        self._cause: Fault | None = None
        """Why the breaker is open or half open; None while it is closed."""
        self._open_until = 0.0
        """The end of the pause, after which the next start is the trial. Has no meaning while closed."""
        self._pause_seconds = 0.0
        self._opened_at = 0.0
        self._last_start = 0
        self._trial: tuple[int, float] | None = None
        """The start number and the start time of the running trial."""

    @property
    def cause(self) -> Fault | None:
        """Why the breaker is open or half open (by the last failed trial, or by the rule); None while it is closed."""
        return self._cause

    def state(self, now: float) -> BreakerState:
        """Return the state of the breaker."""
        if self._cause is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def is_open(self, now: float) -> bool:
        """Return whether the breaker prevents all starts now."""
        return self._cause is not None and (now < self._open_until or self._trial_is_running(now))

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until a trial may start; 0 while the breaker is closed."""
        return 0.0 if self._cause is None else max(0.0, self._open_until - now)

    def open_seconds(self, now: float) -> float:
        """Return for how many seconds the breaker has been open or half open; 0 while closed."""
        return 0.0 if self._cause is None else now - self._opened_at

    def started(self, now: float) -> int:
        """Record the start of a conversion, and return its number. The first start after the pause is the trial."""
        self._last_start += 1
        if self._cause is not None and now >= self._open_until:
            self._trial = (self._last_start, now)
        return self._last_start

    def reached(self, start: int) -> None:
        """Record that the extraction of a running conversion succeeded, so the network and its settings work."""
        self._unreached = 0
        if self._is_trial(start) and self._cause in _UNREACHED:
            self._close()

    def passed(self, start: int, subject: str, now: float) -> None:
        """Record that YouTube served a conversion, even if it failed for another reason. `subject`: its video id."""
        self._refunds.pop(subject, None)
        if self._cause is None:
            self._unreached = 0
            self._refusals.append((now, False))
            self._remember(subject, now, None)
        elif self._is_trial(start):
            self._close()

    def failed(self, start: int, subject: str, fault: Fault, now: float) -> None:
        """Record that an attempt failed by a fault that may affect other conversions too (one of PAUSES)."""
        if self._cause is None:
            self._unreached = self._unreached + 1 if fault in _UNREACHED else 0
            if fault is Fault.ADDRESS:
                self._refusals.append((now, True))
            if fault in _SHARED:
                self._remember(subject, now, fault)
            cause = self._cause_to_open(fault, now)
            if cause is not None:
                self._refunds = {video: end.counted for video, end in self._ends.items() if end.counted}
                if fault in _COUNTED:
                    self._refunds[subject] -= 1  # this failure is not counted any more
                self._opened_at = now
                self._open(cause, PAUSES[cause].first, now)
        elif self._is_trial(start):
            pauses = PAUSES[fault]
            self._open(fault, min(pauses.longest, max(pauses.first, 2 * self._pause_seconds)), now)

    def takes_refund(self, subject: str) -> bool:
        """Return whether this failure of a video is free, because an earlier one was counted wrongly."""
        due = self._refunds.get(subject, 0)
        if due:
            self._refunds[subject] = due - 1
        return due > 0

    def ended(self, start: int) -> None:
        """Record the end of a conversion. If it was a trial without an outcome (cancelled), another trial may start."""
        if self._is_trial(start):
            self._trial = None

    def _cause_to_open(self, fault: Fault, now: float) -> Fault | None:
        if self._unreached >= UNREACHED_TO_OPEN:
            return fault
        recent = [refused for at, refused in self._refusals if now - at <= WINDOW_SECONDS]
        refusals = sum(recent)
        if refusals >= REFUSALS_TO_OPEN and refusals >= SHARE_TO_OPEN * len(recent):
            return Fault.ADDRESS
        ends = [end.fault for end in self._ends.values() if now - end.at <= ENDS_SECONDS]
        blames = Counter(blamed for blamed in ends if blamed is not None)
        if len(ends) >= ENDS_TO_OPEN and blames.total() > BLAMED_TO_OPEN * len(ends):
            return max(blames, key=blames.__getitem__)
        return None

    def _remember(self, subject: str, now: float, fault: Fault | None) -> None:
        counted = self._ends[subject].counted if subject in self._ends and fault is not None else 0
        self._ends[subject] = _End(at=now, fault=fault, counted=counted + (fault in _COUNTED))
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
        # A long trial (a video of several hours) must not block all other conversions, so another trial may start.
        return self._trial is not None and now - self._trial[1] < WINDOW_SECONDS
