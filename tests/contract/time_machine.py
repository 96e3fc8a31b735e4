"""The state machine of `machine`, with what goes wrong with time: a store that goes back to an earlier state."""

from collections.abc import Callable
from copy import deepcopy

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.contract.harness import Harness
from tests.contract.machine import StoreMachine
from tests.contract.model import Model
from ytmp3.core.ids import JobId


class TimeMachine(StoreMachine):
    """Random programs in which the store may lose its last writes."""

    def __init__(self, make_harness: Callable[[], Harness]) -> None:
        super().__init__(make_harness)
        self.past: tuple[Callable[[], None], Model, list[JobId]] | None = None
        """A function that restores the records of an earlier step, and the model's state at that step."""

    @rule(goes_back=st.booleans())
    def go_back_in_time(self, *, goes_back: bool) -> None:
        """Promote a replica that lacks the last writes, or restore a backup. Holders keep the leases that they had."""
        if self.past is None or not goes_back:
            self.past = self.harness.snapshot(), deepcopy(self.model), list(self.acknowledged)
            return
        put_back, model, acknowledged = self.past
        if not self.harness.shared:
            self.runner.run(self.harness.close())
        put_back()
        shelf, expired = self.model.shelf, self.model.expired
        self.model, self.acknowledged = deepcopy(model), list(acknowledged)
        self.model.shelf, self.model.expired = shelf, expired
        self.seen.clear()
        if not self.harness.shared:
            self.restart()
