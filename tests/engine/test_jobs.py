"""What the reader of jobs adds to a record: the queue position of this instance, or else the recorded one."""

from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.core.values import conversion, ticket
from tests.fakes import Clock
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import State
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.events import Events
from ytmp3.engine.jobs import Jobs
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import SqliteJobStore


def jobs_with(queue: FairQueue, folder: Path) -> Jobs:
    clock = Clock()
    events = Events()
    return Jobs(
        store=SqliteJobStore(
            folder / "unused", Policy(lease_seconds=30, retention_seconds=3600, crash_limit=3), InstanceId("a")
        ),
        queue=queue,
        runs=Runs(events, clock=clock),
        estimates=Estimates(workers=2, clock=clock, random=lambda: 0.0),
        events=events,
        clock=clock,
    )


def queue_of(*numbers: int) -> FairQueue:
    queue = FairQueue(10, Counter)
    for number in numbers:
        queue.put_nowait(conversion(number))
    return queue


def test_the_position_in_this_instances_queue_wins_over_the_recorded_one(tmp_path: Path) -> None:
    recorded = replace(conversion(8), queue_position=7)
    assert jobs_with(queue_of(9, 8), tmp_path).live(ticket(recorded)).queue_position == 2


def test_the_recorded_position_is_used_for_a_conversion_that_waits_in_another_instance(tmp_path: Path) -> None:
    recorded = replace(conversion(8), queue_position=7)
    assert jobs_with(queue_of(9), tmp_path).live(ticket(recorded)).queue_position == 7


def test_the_estimate_grows_with_the_position(tmp_path: Path) -> None:
    jobs = jobs_with(queue_of(1, 2, 3), tmp_path)
    seconds = [jobs.live(ticket(conversion(number))).eta_seconds or 0 for number in (1, 2, 3)]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
def test_an_ended_conversion_has_no_live_progress(tmp_path: Path, state: State) -> None:
    live = jobs_with(queue_of(), tmp_path).live(ticket(conversion(state=state)))
    assert (live.report, live.queue_position, live.eta_seconds) == (None, None, None)
