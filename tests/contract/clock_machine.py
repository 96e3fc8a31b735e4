"""The state machine of `machine` on a server whose clock is set forward and back between the operations.

When a store adopts and expires, depends then on what it has seen of the clock. So the model follows the store here, and
each of its choices is checked against the time that has really passed: no lease is taken and no track removed before
its time. In the end, every conversion is adopted within the bound.
"""

from collections.abc import Callable
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contract.harness import POLICIES, POLICY, RedisHarness, ticket_of
from tests.contract.machine import INSTANCES, StoreMachine
from tests.contract.model import LIVE
from ytmp3.core.ids import ConversionId
from ytmp3.core.job import State

STEPS: Final = st.sampled_from([10.0, -10.0, 600.0, -600.0, 3600.0, -3600.0])
"""Seconds. All steps of a program together stay below the retention, beyond which Redis itself removes records."""
LONGEST_AHEAD_SECONDS: Final = POLICY.retention_seconds
POLL_SECONDS: Final = 5.0
ROUNDING_SECONDS: Final = 0.01


class ClockMachine(StoreMachine):
    """Random programs in which the server's clock is set. Every instance looks soon after, as the janitor does."""

    harness: RedisHarness

    def __init__(self, make_harness: Callable[[], RedisHarness]) -> None:
        self.moment = 0
        """The number of operations so far."""
        self.steps: list[int] = []
        """The moments at which the clock was set."""
        self.watches_since: dict[str, int] = {}
        """When each instance looked at the clock for the first time: it knows of no earlier step."""
        self.leases: dict[ConversionId, tuple[float, float, int]] = {}
        """The `due_at` of each held conversion, the same by the monotonic clock, and the moment."""
        self.promises: dict[ConversionId, tuple[float, float, int]] = {}
        """The same for the `expires_at` of each ended conversion."""
        super().__init__(make_harness)

    def open_all(self) -> None:
        self.watches_since.clear()
        for instance in INSTANCES:
            self.stores[instance] = self.runner.run(self.harness.open(instance, POLICIES[instance]))

    @rule(seconds=STEPS)
    def set_clock(self, seconds: float) -> None:
        ahead = self.now - self.harness.monotonic()
        if not -LONGEST_AHEAD_SECONDS <= ahead + seconds <= LONGEST_AHEAD_SECONDS:
            return
        for instance in INSTANCES:
            self.adopt(instance)
        self.harness.set_clock(seconds)
        self.moment += 1
        self.steps.append(self.moment)
        for instance in INSTANCES:
            self.adopt(instance)

    @rule(instance=st.sampled_from(INSTANCES))
    def adopt(self, instance: str) -> None:
        self.note()
        before = {name: (each.state, each.holder) for name, each in self.model.conversions.items()}
        adopted = {each.conversion_id for each in self.runner.run(self.stores[instance].adopt(100))}
        for conversion_id, (state, holder) in before.items():
            is_taken = conversion_id in adopted or (state is State.RUNNING and self.has_failed(conversion_id))
            if not is_taken:
                continue
            if holder is not None:
                self.check_time(instance, *self.leases[conversion_id])
            assert self.model.take(conversion_id, instance, self.now) == (conversion_id in adopted)
        self.watches_since.setdefault(instance, self.moment)

    def has_failed(self, conversion_id: ConversionId) -> bool:
        job_id = next(iter(self.model.conversions[conversion_id].jobs))
        ticket = self.runner.run(ticket_of(self.stores["a"], job_id))
        return ticket.conversion.state is State.FAILED

    @rule(instance=st.sampled_from(INSTANCES), long_after=st.integers(0, 2))
    def expire(self, instance: str, long_after: int) -> None:
        self.note()
        self.harness.clock.advance(POLICY.retention_seconds if long_after == 0 else 0.0)
        store = self.stores[instance]
        names: list[str] = []
        while batch := self.runner.run(store.expire(1000)):
            names += filter(None, batch)
        for conversion_id, conversion in list(self.model.conversions.items()):
            if self.runner.run(store.get(next(iter(conversion.jobs)))) is None:
                self.check_time(instance, *self.promises[conversion_id])
                name = self.model.remove(conversion_id)
                assert name is None or names.count(name) == 1
        self.acknowledged = [each for each in self.acknowledged if self.model.conversion_of(each) is not None]
        self.watches_since.setdefault(instance, self.moment)

    def check_time(self, instance: str, _: float, until: float, since: int) -> None:
        """Check that the time has come by the monotonic clock, unless the instance cannot know of a step."""
        first_look = self.watches_since.get(instance, self.moment)
        if not any(since < step <= first_look for step in self.steps):
            assert self.harness.monotonic() >= until - ROUNDING_SECONDS

    @invariant()
    def note(self) -> None:
        """Convert new times of records to the monotonic clock. The clock was not set since they were written."""
        self.moment += 1
        ahead = self.now - self.harness.monotonic()
        for conversion_id, each in self.model.conversions.items():
            times, time = (self.leases, each.due_at) if each.state in LIVE else (self.promises, each.expires_at or 0.0)
            if conversion_id not in times or times[conversion_id][0] != time:
                times[conversion_id] = time, time - ahead, self.moment

    def teardown(self) -> None:
        try:
            self.check_that_all_are_adopted()
        finally:
            super().teardown()

    def check_that_all_are_adopted(self) -> None:
        """Let nobody renew any more, and the clock alone: each conversion is adopted within the bound."""
        waiting = {name: each.token for name, each in self.model.conversions.items() if each.state in LIVE}
        # The longest delay of a retry here, a lease that was renewed just now, another one until the clock is trusted
        # again or `due_at` has not changed for long enough, and the interval between two searches for the latter.
        for _ in range(int((60.0 + 2 * POLICY.lease_seconds + POLICY.lease_seconds / 3) / POLL_SECONDS) + 3):
            self.harness.clock.advance(POLL_SECONDS)
            for instance in INSTANCES:
                self.adopt(instance)
        live = {name: each.token for name, each in self.model.conversions.items() if each.state in LIVE}
        assert {name for name, token in live.items() if waiting[name] == token} == set()
