"""Gives each conversion the identity through which it asks YouTube. Keeps budgets and states in the job store.

The rules are in `core/identities`. This module applies them: it reads the shared value, computes the next one, and
replaces it. If another instance has changed the value meanwhile, this is repeated.

A single identity without a budget needs no decision: the store is not used, and all faults are reported to the circuit
breaker (`upstream`), as if there were no identities.

Why all states are one value: a choice compares all identities, so it must read them together, and it takes a token in
the same write. Two instances that choose at the same moment cannot both take the last token: the second write is
refused, and its instance chooses again. An operation of the store for each rule would need every rule a second time in
Lua.

What happens if the store does not reply follows from what would be lost otherwise:

* A conversion that has not begun gets no identity and waits. Nothing is lost, and no budget is exceeded.
* A running conversion may extract again without a token. Its download would be lost otherwise.
* A report about a success or an end is dropped. The states are then a little worse or better than they should be, and
  the next report corrects them. A report about a failure that cannot be stored costs its conversion no attempt.

Between two calls, this instance answers from the states that it has seen last (`_standings`), with the time that has
passed since. They may be out of date, so they only serve to show states, to estimate, and to wait; `take` always reads
anew.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from ytmp3.core import identities as rules
from ytmp3.core.errors import Fault, StoreDown, StoreError
from ytmp3.core.identities import Budget, IdentityState, Standing, Standings
from ytmp3.core.ids import VideoId
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.grants import Grant
from ytmp3.jobstore import SharedValues

log = logging.getLogger(__name__)
T = TypeVar("T")

VALUE_NAME: Final = "identities"
"""The name of the shared value with the states of all identities."""
DEFAULT_BUDGETS: Final[tuple[Budget, ...]] = (Budget(name="default", videos_per_hour=0),)
"""The identities until `use` is called."""
MAX_CONFLICTS: Final = 50
"""Most times that a change is computed because another instance has changed the value meanwhile. In each conflict, the
change of another instance succeeds, so more than a few conflicts in a row indicate a fault."""
STORE_PAUSE_SECONDS: Final = 1.0
"""Time, in seconds, until the store is asked again after it did not reply."""
REMEMBERED_VIDEOS: Final = 1000
"""Most videos whose refusals are remembered: more than are retried at the same time."""
LONGEST_SLEEP_SECONDS: Final = 15.0
"""Longest time, in seconds, until a waiting conversion reads the states again, which another instance may change."""

decode: Final = msgspec.json.Decoder(dict[str, Standing]).decode
encode: Final = msgspec.json.Encoder(order="deterministic").encode


class _Refusals(Struct):
    """The failures of one video in this instance."""

    names: set[str]
    """The identities through which it failed by a fault of the identity."""
    refused_at: float | None = None
    """When YouTube refused it last, by the store's clock."""


class IdentityView(Struct, frozen=True, kw_only=True):
    """The state of one identity, for `/stats` and metrics."""

    name: str
    state: IdentityState
    cause: Fault | None
    """Why it is not ok."""
    next_trial_seconds: float
    """Time until a trial may start through it; 0 while it is ok."""
    videos_per_hour: int
    """Its budget; 0: no limit."""
    pace: float
    """The part of the budget that it uses now."""
    tokens: float
    """Conversions that may start through it at once; 0 without a budget."""


class Identities:
    """The identities of this instance. `clock` is monotonic; times in the shared value are of the store's clock."""

    def __init__(self, *, values: SharedValues, events: Events, clock: Callable[[], float]) -> None:
        self._budgets = DEFAULT_BUDGETS
        self._values = values
        self._events = events
        self._clock = clock
        self._lock = asyncio.Lock()
        """Held during a change: the workers of one instance do not compete with each other."""
        self._standings: Standings = {}
        """The states as they were read or written last."""
        self._read_at = (0.0, 0.0)
        """When that was, by the store's clock and by ours."""
        self._wait_until = 0.0
        """Until then, no identity allows a start."""
        self._closed_at: float | None = None
        """When all identities were found closed; None: one of them is ok."""
        self._refusals: OrderedDict[VideoId, _Refusals] = OrderedDict()
        self._reports: set[asyncio.Task[None]] = set()

    @property
    def is_managed(self) -> bool:
        """Whether there is anything to decide."""
        return len(self._budgets) > 1 or self._budgets[0].videos_per_hour > 0

    @property
    def videos_per_hour(self) -> int:
        """The budget of all identities together; 0: no limit."""
        budgets = [budget.videos_per_hour for budget in self._budgets]
        return sum(budgets) if all(budgets) else 0

    @property
    def may_start(self) -> bool:
        """Whether an identity may allow a start now."""
        return not self.is_managed or self.wait_seconds <= 0.0

    @property
    def wait_seconds(self) -> float:
        """The time until an identity may allow a start, as far as is known."""
        return max(0.0, self._wait_until - self._clock())

    @property
    def cause(self) -> Fault | None:
        """Why all identities are closed: the cause of the one that is tried next. None if one of them is ok."""
        # An identity that was never used has no state, and is ok.
        known = [self._standings.get(budget.name) for budget in self._budgets]
        if not self.is_managed or any(standing is None or standing.cause is None for standing in known):
            return None
        return min(self.views(), key=lambda view: view.next_trial_seconds).cause

    def use(self, budgets: Sequence[Budget]) -> None:
        """Set the identities, at the start and for each SIGHUP. An identity that keeps its name keeps its state."""
        self._budgets = tuple(budgets)
        self._wait_until = 0.0
        self._note_closed()

    def closed_seconds(self) -> float:
        """Return the time until the first identity may be tried again; 0 if one of them is ok."""
        return rules.closed_seconds(self._budgets, self._standings, self._now()) if self.is_managed else 0.0

    def closed_for_seconds(self) -> float:
        """Return for how long all identities have been closed; 0 if one of them is ok."""
        return 0.0 if self._closed_at is None else self._clock() - self._closed_at

    def start_seconds(self, position: int) -> float:
        """Estimate the time until the conversion at this position of the queue may start, by the budgets alone."""
        now = self._now()
        tokens = rate = 0.0
        for budget in self._budgets if self.is_managed else ():
            if not budget.videos_per_hour:
                return 0.0
            standing = rules.standing_of(self._standings, budget, now)
            if standing.cause is None:
                tokens += rules.tokens_at(standing, budget, now)
                rate += budget.tokens_per_second(rules.pace_at(standing, now))
        return self.closed_seconds() if not rate else max(0.0, position - tokens) / rate

    def views(self) -> list[IdentityView]:
        """Return the states, in the order of the settings."""
        now = self._now()
        return [self._view(budget, rules.standing_of(self._standings, budget, now), now) for budget in self._budgets]

    async def take(self, video_id: VideoId) -> Grant | None:
        """Take a token of the best identity for a conversion of this video; None if there is none now.

        Identities through which the video has failed before are avoided, unless no other one is ok. If the others are
        ok, but have no token, this conversion waits. Conversions of other videos need not, so the common wait is not
        set then.
        """
        if not self.is_managed:
            return Grant(self, self._budgets[0], None)
        refusals = self._refusals.get(video_id)
        avoid = frozenset(refusals.names) if refusals is not None else frozenset[str]()
        try:
            return await self._change(lambda standings, now: self._take(standings, now, avoid))
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="identities", error=error))
            self._wait_until = self._clock() + STORE_PAUSE_SECONDS
            return None

    async def failed(self, budget: Budget, taken_at: float, video_id: VideoId, fault: Fault) -> bool:
        """Record a failure by a fault of the identity. Returns whether it costs the conversion an attempt.

        The failure is remembered here before the call to the store, so that the retry avoids this identity even if the
        store does not reply. The memory is bounded and local: another instance may try the same identity once more.
        """
        known = self._refusals.setdefault(video_id, _Refusals(names=set()))
        self._refusals.move_to_end(video_id)
        if len(self._refusals) > REMEMBERED_VIDEOS:
            self._refusals.popitem(last=False)
        known.names.add(budget.name)
        before_at = known.refused_at

        def record(standings: Standings, now: float) -> tuple[Standings, tuple[float, bool]]:
            standing = rules.standing_of(standings, budget, now)
            standing = rules.failed(standing, video_id, fault, now, taken_at=taken_at)
            costs = rules.costs_an_attempt(standing, video_id, refused_before_at=before_at)
            return {**standings, budget.name: standing}, (now, costs and fault is Fault.ADDRESS)

        try:
            now, costs = await self._change(record)
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="identities", error=error))
            return False
        if fault is Fault.ADDRESS:
            known.refused_at = now
        return costs

    @property
    def has_others(self) -> bool:
        """Whether a retry may take another identity."""
        return len(self._budgets) > 1

    def forget(self, video_id: VideoId) -> None:
        """Forget the failures of a video, which was served or has ended."""
        self._refusals.pop(video_id, None)

    def later(self, budget: Budget, change: Callable[[Standing, float], Standing]) -> None:
        """Change the state of an identity in the background. If the store does not reply, the change is lost.

        The attempt does not wait for it, because nothing that it does next depends on the result. The task is kept in
        `_reports`: the event loop keeps only a weak reference, and an unreferenced task may be dropped before its end.
        """
        task = asyncio.create_task(self._report(budget, change), name="identity-report")
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def take_again(self, budget: Budget) -> None:
        """Wait for a token of this identity, for an extraction that a running conversion repeats.

        If the store does not reply, the extraction is allowed: the conversion would be lost otherwise.
        """
        while True:
            try:
                wait_seconds = await self._change(lambda standings, now: _take_of(standings, budget, now))
            except StoreError as error:
                self._events.emit(events.StoreFailed(operation="identities", error=error))
                return
            if wait_seconds <= 0.0:
                return
            await asyncio.sleep(min(LONGEST_SLEEP_SECONDS, wait_seconds))

    async def charge(self, name: str) -> None:
        """Count an extraction that waits for no token (`ytmp3 doctor`). Raises StoreError."""
        budget = next(budget for budget in self._budgets if budget.name == name)
        if budget.videos_per_hour:
            await self._set(budget, lambda standing, now: rules.charged(standing, budget, now))

    async def close(self) -> None:
        """Wait for the reports under way."""
        await asyncio.gather(*self._reports, return_exceptions=True)

    def _take(self, standings: Standings, now: float, avoid: frozenset[str]) -> tuple[Standings, Grant | None]:
        choice = rules.choose(self._budgets, standings, now, avoid=avoid)
        budget = next((budget for budget in self._budgets if budget.name == choice.name), None)
        if budget is None:
            if not avoid:
                # Not longer, because another instance may open an identity meanwhile.
                self._wait_until = self._clock() + min(LONGEST_SLEEP_SECONDS, choice.wait_seconds)
            return standings, None
        standing = rules.taken(rules.standing_of(standings, budget, now), budget, now)
        return {**standings, budget.name: standing}, Grant(self, budget, now)

    async def _set(self, budget: Budget, change: Callable[[Standing, float], Standing]) -> None:
        def record(standings: Standings, now: float) -> tuple[Standings, None]:
            return {**standings, budget.name: change(rules.standing_of(standings, budget, now), now)}, None

        await self._change(record)

    async def _report(self, budget: Budget, change: Callable[[Standing, float], Standing]) -> None:
        try:
            await self._set(budget, change)
        except StoreError as error:
            self._events.emit(events.StoreFailed(operation="identities", error=error))

    async def _change(self, change: Callable[[Standings, float], tuple[Standings, T]]) -> T:
        """Compute the next value from the present one, and write it. Returns the second result of `change`.

        `change` may be called several times, once for each conflict, so it must have no effect but its results. If it
        changes nothing, nothing is written.

        Raises:
            StoreError
        """
        async with self._lock:
            for _ in range(MAX_CONFLICTS):
                value = await self._values.read(VALUE_NAME)
                before = _decoded(value.data)
                after, result = change(rules.without_future(before, value.now), value.now)
                kept = dict(rules.without_old(after, value.now))
                if kept == before or await self._values.replace(VALUE_NAME, value.data, encode(kept)):
                    self._remember(kept, value.now)
                    return result
        raise StoreDown("the states of the identities change too often")

    def _remember(self, standings: Standings, now: float) -> None:
        """Keep the states, and emit what has changed, here or at another instance.

        So every instance logs a pause when it first sees it, also one that another instance has caused. If an identity
        is open again, the common wait ends at once, because it was computed while the identity was closed.
        """
        before, self._standings = self._standings, standings
        self._read_at = (now, self._clock())
        for budget in self._budgets:
            old = before.get(budget.name) or rules.unused(budget, now)
            new = standings.get(budget.name) or old
            if new.cause is None and old.cause is not None:
                self._wait_until = 0.0
                self._events.emit(events.IdentityResumed(name=budget.name, cause=old.cause))
            elif new.cause is not None and new.until > old.until:
                pause_seconds = max(0.0, new.until - now)
                self._events.emit(events.IdentityPaused(name=budget.name, cause=new.cause, pause_seconds=pause_seconds))
        self._note_closed()

    def _note_closed(self) -> None:
        """Record since when all identities are closed."""
        if self.cause is None:
            self._closed_at = None
        elif self._closed_at is None:
            self._closed_at = self._clock()

    def _now(self) -> float:
        """Return the time of the store's clock, without asking it."""
        by_store, by_clock = self._read_at
        return by_store + self._clock() - by_clock

    def _view(self, budget: Budget, standing: Standing, now: float) -> IdentityView:
        is_ok = standing.cause is None
        return IdentityView(
            name=budget.name,
            state=rules.state_of(standing),
            cause=standing.cause,
            next_trial_seconds=0.0 if is_ok else round(rules.wait_seconds(standing, budget, now), 3),
            videos_per_hour=budget.videos_per_hour,
            pace=rules.pace_at(standing, now),
            tokens=max(0.0, round(rules.tokens_at(standing, budget, now), 3)) if budget.videos_per_hour else 0.0,
        )


def _take_of(standings: Standings, budget: Budget, now: float) -> tuple[Standings, float]:
    """Take a token of this identity, whatever its state. Returns the time until there is one; 0 if it was taken."""
    standing = rules.standing_of(standings, budget, now)
    seconds = rules.token_seconds(standing, budget, now)
    if seconds > 0.0:
        return standings, seconds
    current = rules.refilled(standing, budget, now)
    return {**standings, budget.name: msgspec.structs.replace(current, tokens=current.tokens - 1.0)}, 0.0


def _decoded(data: bytes | None) -> dict[str, Standing]:
    """Return the states. A value that cannot be read, of another version, counts as none."""
    try:
        return {} if data is None else decode(data)
    except msgspec.DecodeError as error:
        log.warning("the states of the identities cannot be read: beginning anew", extra={"error": str(error)})
        return {}
