"""A Hypothesis state machine that runs a program of operations on a store and on the model, and compares them."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)
from msgspec.structs import replace

from tests.contract.harness import METADATA, POLICIES, POLICY, UNKNOWN_LEASE, Harness, Ids, track_of
from tests.contract.model import LIVE, Model
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Lease, State, Status
from ytmp3.jobstore import JobStore, Renewal, Submission

INSTANCES: Final = ("a", "b")
VIDEOS: Final = 4
CHOICES: Final = st.integers(0, 59)


class StoreMachine(RuleBasedStateMachine):
    """Random programs on one store. Each result is compared with the model's, and after each step every record."""

    jobs = Bundle("jobs")

    def __init__(self, make_harness: Callable[[], Harness]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.harness = make_harness()
        self.ids = Ids()
        self.model = Model()
        self.seen: dict[ConversionId, tuple[int, State]] = {}
        self.old_leases = [UNKNOWN_LEASE]
        self.acknowledged: list[JobId] = []
        self.stores: dict[str, JobStore] = {}
        self.open_all()

    @property
    def now(self) -> float:
        return self.harness.clock.now

    def open_all(self) -> None:
        for instance in INSTANCES if self.harness.shared else INSTANCES[:1]:
            self.stores[instance] = self.runner.run(self.harness.open(instance, POLICIES[instance]))

    def store(self, instance: str) -> tuple[str, JobStore]:
        chosen = instance if instance in self.stores else INSTANCES[0]
        return chosen, self.stores[chosen]

    def teardown(self) -> None:
        self.runner.run(self.harness.close())
        self.runner.close()

    @rule(
        target=jobs,
        video=st.integers(1, VIDEOS),
        instance=st.sampled_from(INSTANCES),
        may=st.sampled_from([(True, True), (True, True), (False, True), (False, False)]),
    )
    def submit(self, video: int, instance: str, may: tuple[bool, bool]) -> Submission:
        return self.submit_as(instance, video, *may)

    def submit_as(self, instance: str, video: int, may_create: bool = True, may_join: bool = True) -> Submission:
        name, store = self.store(instance)
        submission = self.ids.submission(video)
        expected = self.model.submit(submission, name, self.now, may_create=may_create, may_join=may_join)
        result = self.runner.run(store.submit(submission, may_create=may_create, may_join=may_join))
        assert (None if result is None else result.outcome) == expected
        if result is not None:
            self.acknowledged.append(submission.job_id)
            # The same call again, as after a lost reply, has the same result.
            assert self.runner.run(store.submit(submission, may_create=False)) == result
        return submission

    def lease(self, choice: int, *states: State) -> Lease:
        """Choose a lease: mostly a valid one of a conversion in one of these states, sometimes one that was valid."""
        stale = [
            lease
            for lease in self.old_leases
            if (conversion := self.model.conversions.get(lease.conversion_id)) is not None
            and conversion.state in states
            and self.model.lease(lease.conversion_id) != lease
        ]
        valid = [
            self.model.lease(conversion_id)
            for conversion_id, conversion in self.model.conversions.items()
            if conversion.state in states
        ]
        if choice % 4 == 0 and stale:
            return stale[choice % len(stale)]
        if choice % 11 == 0 or not valid:
            return self.old_leases[choice % len(self.old_leases)]
        chosen = valid[choice % len(valid)]
        self.old_leases.append(chosen)
        return chosen

    @initialize(target=jobs, plan=st.lists(st.sampled_from(State), min_size=2, max_size=6))
    def begin(self, plan: list[State]) -> MultipleResults[Submission]:
        """Start with conversions in several states: programs that start with none seldom reach the later ones."""
        submissions = []
        for video, state in enumerate(plan):
            submission = self.submit_as(INSTANCES[video % 2], 1 + video % VIDEOS)
            submissions.append(submission)
            if submission.conversion_id not in self.model.conversions:
                continue
            lease = self.model.lease(submission.conversion_id)
            if state is State.CANCELLED:
                self.cancel(submission, "a", repeat=False)
            elif state is not State.QUEUED:
                self.claim_as(self.store(INSTANCES[video % 2])[0], lease, repeat=False)
            lease = self.model.lease(submission.conversion_id)
            if state is State.DONE:
                self.finish_with(lease, "a", repeat=False)
            elif state is State.FAILED:
                self.fail_with(lease, "a", repeat=False)
        return multiple(*submissions)

    @rule(
        choice=CHOICES,
        act=st.sampled_from(["claim", "claim", "finish", "fail", "retry", "stale"]),
        instance=st.sampled_from(INSTANCES),
        repeat=st.booleans(),
    )
    def work(self, choice: int, act: str, instance: str, *, repeat: bool) -> None:
        """Make one move of some conversion. A single rule, because Hypothesis leaves whole rules out of programs."""
        match act:
            case "claim":
                self.claim(choice, instance, repeat=repeat)
            case "finish":
                self.finish_with(self.lease(choice, State.RUNNING), instance, repeat=repeat)
            case "fail":
                self.fail_with(self.lease(choice, State.RUNNING), instance, repeat=repeat)
            case "retry":
                delay = (0.0, 5.0, 60.0)[choice % 3]
                self.retry_with(self.lease(choice, State.RUNNING), delay, repeat=repeat)
            case _:
                self.write_with_stale_leases(instance)

    def write_with_stale_leases(self, instance: str) -> None:
        """Write with every old lease of conversions that now run under another token: each write is refused."""
        _, store = self.store(instance)
        for lease in set(self.old_leases):
            conversion = self.model.conversions.get(lease.conversion_id)
            if conversion is None or conversion.state is not State.RUNNING:
                continue
            if lease == self.model.lease(lease.conversion_id):
                # The same token in the hands of another instance, as after the store went back in time.
                lease = replace(lease, holder=InstanceId("c"))  # noqa: PLW2901
            assert self.runner.run(store.renew([Renewal(lease=lease, progress=0.9)])) == {lease.conversion_id}
            self.runner.run(store.release([lease]))
            with pytest.raises(LeaseLost):
                self.runner.run(store.finish(lease, track_of(lease), METADATA))
            with pytest.raises(LeaseLost):
                self.runner.run(store.fail(lease, FailureCode.PRIVATE))
            with pytest.raises(LeaseLost):
                self.runner.run(store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=0.0))

    def claim(self, choice: int, instance: str, *, repeat: bool) -> None:
        lease = self.lease(choice, State.QUEUED)
        held = self.model.held(lease, State.QUEUED)
        if choice % 3 and held is not None and held.holder is not None:
            instance = held.holder
        self.claim_as(instance, lease, repeat=repeat)

    def claim_as(self, instance: str, lease: Lease, *, repeat: bool) -> None:
        name, store = self.store(instance)
        conversion = self.model.held(lease, State.QUEUED)
        next_lease = replace(lease, token=lease.token + 1)
        self.old_leases += [lease, next_lease]
        repeated = self.model.held(next_lease, State.RUNNING)
        if repeated is not None and lease.holder == name:
            assert self.runner.run(store.claim(lease)).lease == next_lease
            return
        if conversion is None or lease.holder != name:
            with pytest.raises(LeaseLost):
                self.runner.run(store.claim(lease))
            return
        for _ in range(1 + repeat):
            claimed = self.runner.run(store.claim(lease))
            assert claimed.lease == next_lease
        conversion.state, conversion.token = State.RUNNING, lease.token + 1
        conversion.due_at = self.now + POLICY.lease_seconds

    @rule(instance=st.sampled_from(INSTANCES))
    def run_everything_and_crash(self, instance: str) -> None:
        """Do what a conversion does that kills its instance: all that is queued is claimed, nothing is renewed."""
        self.adopt(instance)
        for conversion_id, conversion in list(self.model.conversions.items()):
            if conversion.state is State.QUEUED and conversion.holder is not None:
                self.claim_as(conversion.holder, self.model.lease(conversion_id), repeat=False)
        self.harness.clock.advance(POLICY.lease_seconds)
        self.adopt(instance)

    @rule(instance=st.sampled_from(INSTANCES), choices=st.lists(CHOICES, max_size=4))
    def renew(self, instance: str, choices: list[int]) -> None:
        batch = [self.lease(choice, *LIVE) for choice in choices]
        unique = {lease.conversion_id: lease for lease in batch}.values()
        _, store = self.store(instance)
        lost = self.runner.run(store.renew([Renewal(lease=lease, progress=0.5) for lease in unique]))
        expected = set()
        for lease in unique:
            conversion = self.model.held(lease, *LIVE)
            if conversion is None:
                expected.add(lease.conversion_id)
            else:
                conversion.due_at = self.now + POLICY.lease_seconds
        assert lost == expected

    def finish_with(self, lease: Lease, instance: str, *, repeat: bool) -> None:
        _, store = self.store(instance)
        track = track_of(lease)
        finished = self.model.with_token(lease, State.DONE)
        if finished is not None and finished.file_name != track.file_name:
            finished = None
        self.model.shelf.add(track.file_name)
        if self.model.held(lease, State.RUNNING) is not None:
            self.model.end(lease.conversion_id, State.DONE, self.now)
            finished = self.model.conversions[lease.conversion_id]
            finished.error, finished.file_name = None, track.file_name
        for _ in range(1 + repeat):
            if finished is None:
                with pytest.raises(LeaseLost):
                    self.runner.run(store.finish(lease, track, METADATA))
                # As the engine does: nobody but the loser of the lease has published under this name.
                self.model.shelf.discard(track.file_name)
            else:
                assert self.runner.run(store.finish(lease, track, METADATA)).state is State.DONE

    def fail_with(self, lease: Lease, instance: str, *, repeat: bool) -> None:
        _, store = self.store(instance)
        failed = self.model.with_token(lease, State.FAILED)
        if failed is not None and failed.error is not FailureCode.PRIVATE:
            failed = None
        if self.model.held(lease, State.RUNNING) is not None:
            self.model.end(lease.conversion_id, State.FAILED, self.now)
            failed = self.model.conversions[lease.conversion_id]
            failed.error = FailureCode.PRIVATE
            failed.attempts += 1
        for _ in range(1 + repeat):
            if failed is None:
                with pytest.raises(LeaseLost):
                    self.runner.run(store.fail(lease, FailureCode.PRIVATE))
            else:
                self.runner.run(store.fail(lease, FailureCode.PRIVATE))

    def retry_with(self, lease: Lease, delay: float, *, repeat: bool) -> None:
        _, store = self.store("a")
        conversion = self.model.held(lease, State.RUNNING)
        if conversion is None:
            waits = self.model.with_token(replace(lease, token=lease.token + 1), State.QUEUED)
            if waits is not None and waits.holder is None and waits.error is FailureCode.UPSTREAM_ERROR:
                return
            with pytest.raises(LeaseLost):
                self.runner.run(store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=delay))
            return
        for _ in range(1 + repeat):
            self.runner.run(store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=delay))
        self.model.requeue(conversion, self.now + delay)
        conversion.attempts += 1
        conversion.error, conversion.failed_by = FailureCode.UPSTREAM_ERROR, lease.holder

    @rule(instance=st.sampled_from(INSTANCES), choices=st.lists(CHOICES, max_size=3))
    def release(self, instance: str, choices: list[int]) -> None:
        batch = [self.lease(choice, *LIVE) for choice in choices]
        _, store = self.store(instance)
        self.runner.run(store.release(batch))
        for lease in batch:
            conversion = self.model.held(lease, *LIVE)
            if conversion is not None:
                self.model.requeue(conversion, self.now)

    @rule(job=jobs, instance=st.sampled_from(INSTANCES), repeat=st.booleans())
    def cancel(self, job: Submission, instance: str, *, repeat: bool) -> None:
        _, store = self.store(instance)
        conversion = self.model.conversion_of(job.job_id)
        if conversion is not None and not conversion.jobs[job.job_id]:
            conversion.jobs[job.job_id] = True
            if conversion.state in LIVE and all(conversion.jobs.values()):
                conversion.token += 1
                conversion_id = next(name for name, each in self.model.conversions.items() if each is conversion)
                self.model.end(conversion_id, State.CANCELLED, self.now)
            elif conversion.state is State.DONE and all(conversion.jobs.values()):
                self.model.give_up(conversion, self.now)
        for _ in range(1 + repeat):
            ticket = self.runner.run(store.cancel(job.job_id))
            assert (None if ticket is None else ticket.status) == self.model.status(job.job_id)

    @rule(instance=st.sampled_from(INSTANCES))
    def adopt(self, instance: str) -> None:
        name, store = self.store(instance)
        adopted = self.runner.run(store.adopt(100))
        assert {conversion.conversion_id for conversion in adopted} == self.model.adopt(
            name,
            self.now,
            head_start_seconds=self.harness.head_start_seconds,
            elsewhere_seconds=self.harness.elsewhere_seconds,
        )
        assert [each.created_at for each in adopted] == sorted(each.created_at for each in adopted)
        for conversion in adopted:
            assert (conversion.state, conversion.holder) == (State.QUEUED, name)

    @rule(job=jobs)
    def forget(self, job: Submission) -> None:
        _, store = self.store("a")
        for conversion_id, conversion in self.model.conversions.items():
            if job.job_id in conversion.jobs:
                self.runner.run(store.forget(conversion_id))
                if conversion.state is State.DONE:
                    self.model.retire(conversion_id)

    @rule(instance=st.sampled_from(INSTANCES), long_after=st.integers(0, 2))
    def expire(self, instance: str, long_after: int) -> None:
        self.harness.clock.advance(POLICY.retention_seconds if long_after == 0 else 0.0)
        _, store = self.store(instance)
        names: list[str] = []
        while batch := self.runner.run(store.expire(1000)):
            names += filter(None, batch)
        assert len(set(names)) == len(names)
        assert set(names) == self.model.expire(self.now)
        self.acknowledged = [each for each in self.acknowledged if self.model.conversion_of(each) is not None]

    @rule(seconds=st.sampled_from([0.5, 9.0, 31.0, 61.0, 1800.0, 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.harness.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        """Close every instance and open it again."""
        for store in self.stores.values():
            self.runner.run(store.close())
        self.open_all()
        if self.harness.shared:
            return
        for conversion in self.model.conversions.values():
            if conversion.state in LIVE and conversion.holder is not None:
                # Whoever opens the file knows that its holder is dead, because the lock was free.
                conversion.due_at = self.now

    @invariant()
    def every_record_agrees_with_the_model(self) -> None:
        # Every instance must see the same, so the instances take turns.
        for place, job_id in enumerate(self.acknowledged):
            self.compare(self.store(INSTANCES[place % 2])[1], job_id)

    def compare(self, store: JobStore, job_id: JobId) -> None:
        ticket = self.runner.run(store.get(job_id))
        expected = self.model.conversion_of(job_id)
        assert expected is not None
        assert ticket is not None, "an acknowledged job is unknown"
        conversion = ticket.conversion
        assert ticket.status == self.model.status(job_id)
        names = ("state", "token", "holder", "attempts", "crashes", "crashed_at", "error", "failed_by")
        for name in (*names, "joined_at", "completed_at", "expires_at"):
            assert getattr(conversion, name) == getattr(expected, name), name
        assert (conversion.track is not None) == (conversion.state is State.DONE)
        if conversion.state in LIVE:
            assert conversion.due_at == expected.due_at
        token, state = self.seen.get(conversion.conversion_id, (0, State.QUEUED))
        assert conversion.token >= token, "the token fell"
        assert state in LIVE or conversion.state is state, "a final state changed"
        self.seen[conversion.conversion_id] = conversion.token, conversion.state

    @invariant()
    def the_indexes_agree_with_the_model(self) -> None:
        indexes = self.harness.indexes()
        # A done conversion that is too old to take jobs stays current until it is replaced or removed.
        assert indexes.current == self.model.current
        for conversion_id in indexes.current.values():
            assert self.model.conversions[conversion_id].state in {*LIVE, State.DONE}
        live = {name: each.due_at for name, each in self.model.conversions.items() if each.state in LIVE}
        ended = {name: each.expires_at for name, each in self.model.conversions.items() if each.state not in LIVE}
        assert indexes.due_at == live
        assert indexes.expires_at == ended

    @invariant()
    def every_recorded_track_is_on_the_shelf(self) -> None:
        assert self.model.tracks() <= self.model.shelf | self.model.expired

    @invariant()
    def the_counts_agree_with_the_model(self) -> None:
        statuses = [self.model.status(job) for each in self.model.conversions.values() for job in each.jobs]
        counts = self.runner.run(self.store("b")[1].counts())
        for status in Status:
            assert getattr(counts, status.value) == statuses.count(status), status
