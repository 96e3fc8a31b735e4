"""The right of one conversion to ask YouTube through one identity, and the reports of what became of it.

`Identities.take` makes a grant when it takes a token. The attempt then reports through it, so that neither the attempt
nor the converter needs to know budgets, states or the job store.

A grant is settled by `served` or `failed`, and otherwise by `ended`. Every attempt calls `ended` in a `finally`; after
one of the other two it changes nothing.

    begin, then served   YouTube has answered: the identity is healthy
    begin, then failed   YouTube has refused, or was not reached: the identity may be closed
    begin, then ended    the attempt was stopped before either; the token stays used
    ended alone          nothing was asked, such as after a lost claim: the token is put back

A grant that was made while identities are not managed has no `taken_at`. Nothing is then reported about the identity,
and all faults go to the circuit breaker (`upstream`).
"""

from collections.abc import Callable
from typing import Protocol

from ytmp3.core import identities as rules
from ytmp3.core.errors import Fault
from ytmp3.core.identities import OF_IDENTITY, Budget, Standing
from ytmp3.core.ids import VideoId


class Reports(Protocol):
    """The receiver of the reports: `Identities`."""

    def forget(self, video_id: VideoId) -> None:
        """Forget the failures of a video."""

    def later(self, budget: Budget, change: Callable[[Standing, float], Standing]) -> None:
        """Change the state of an identity in the background."""

    async def take_again(self, budget: Budget) -> None:
        """Wait for a token for a repeated extraction."""

    async def failed(self, budget: Budget, taken_at: float, video_id: VideoId, fault: Fault) -> bool:
        """Record a failure by a fault of the identity. Returns whether it costs the conversion an attempt."""


class Grant:
    """The right of one conversion to ask YouTube through one identity: for its page, player, media and cover."""

    def __init__(self, identities: Reports, budget: Budget, taken_at: float | None) -> None:
        self._identities = identities
        self._budget = budget
        self._taken_at = taken_at
        """When the token was taken, by the store's clock; None: the identities are not managed. Reports contain it,
        so that the rules can tell the trial of a closed identity from conversions that began before the pause."""
        self._is_used = False
        """Whether YouTube may have been asked, so that the token must not be put back."""
        self._is_settled = False
        """Whether `ended` has nothing left to report."""
        self._is_slowed = False
        """Whether `slowed` was called: it halves the pace of the identity, once for each conversion."""

    @property
    def name(self) -> str:
        """The name of the identity."""
        return self._budget.name

    def begin(self) -> None:
        """Record that the attempt begins: from now on, the token is used.

        Called after the claim. A claim that is refused has asked YouTube nothing, and must not cost the budget a video.
        """
        self._is_used = True

    def reached(self) -> None:
        """Record that the extraction succeeded."""
        if (taken_at := self._taken_at) is not None:
            self._identities.later(self._budget, lambda standing, _: rules.reached(standing, taken_at=taken_at))

    def served(self, video_id: VideoId) -> None:
        """Record that YouTube served the conversion, even if it failed later or because of its video."""
        self._is_settled = True
        self._identities.forget(video_id)
        if (taken_at := self._taken_at) is not None:
            self._identities.later(self._budget, lambda standing, now: rules.served(standing, now, taken_at=taken_at))

    def slowed(self) -> None:
        """Record a warning of YouTube, status 429, in an extraction that succeeded. Later ones do not count."""
        if self._taken_at is not None and not self._is_slowed:
            self._is_slowed = True
            self._identities.later(self._budget, rules.slowed)

    async def extract_again(self) -> None:
        """Wait until the budget allows another extraction of this conversion."""
        if self._taken_at is not None and self._budget.videos_per_hour:
            await self._identities.take_again(self._budget)

    def is_at_fault(self, fault: Fault) -> bool:
        """Whether a failure is that of the identity, and not of all conversions."""
        return self._taken_at is not None and fault in OF_IDENTITY

    async def failed(self, video_id: VideoId, fault: Fault) -> bool:
        """Record a failure for which `is_at_fault` is true. Returns whether it costs the conversion an attempt.

        This report alone is awaited: what the caller writes for the conversion depends on the answer.
        """
        assert self._taken_at is not None
        self._is_settled = True
        return await self._identities.failed(self._budget, self._taken_at, video_id, fault)

    def ended(self) -> None:
        """Record the end of the conversion. If it was not begun, the token is put back."""
        if (taken_at := self._taken_at) is None or self._is_settled:
            return
        self._is_settled = True
        budget = self._budget
        if self._is_used:
            self._identities.later(budget, lambda standing, _: rules.ended(standing, taken_at=taken_at))
        else:
            self._identities.later(
                budget, lambda standing, now: rules.put_back(standing, budget, now, taken_at=taken_at)
            )
