"""One Hypothesis state machine for both adapters: any program of operations behaves as a simple model says (goal J04).

YTMP3_SOAK_PROGRAMS=10000 python -m pytest tests/contract/test_model.py     the long run: programs of 200 steps
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.contract.stands import METADATA, POLICY, Ids, RedisStand, SqliteStand, Stand, track_of
from tests.stand.valkey import Valkey
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import ConversionId, ConversionKey, JobId
from ytmp3.core.job import Lease, State, Status
from ytmp3.jobstore import JobStore, Outcome, Renewal, Submission
from ytmp3.jobstore.redis import RedisSettings

pytestmark = pytest.mark.fuzz

SOAK_PROGRAMS: Final = int(os.environ.get("YTMP3_SOAK_PROGRAMS", "0"))
PROGRAMS: Final = SOAK_PROGRAMS or 40
STEPS: Final = 200 if SOAK_PROGRAMS else 40
INSTANCES: Final = ("a", "b")
STATUSES: Final = {
    State.QUEUED: Status.PENDING,
    State.RUNNING: Status.PROCESSING,
    State.DONE: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
}
VIDEOS: Final = 4
CHOICES: Final = st.integers(0, 59)
LIVE: Final = (State.QUEUED, State.RUNNING)


@dataclass
class ModelConversion:
    """A conversion as the model knows it."""

    key: ConversionKey
    due_at: float
    created_at: float
    holder: str | None
    joined_at: float | None = None
    jobs: dict[JobId, bool] = field(default_factory=dict)
    """Job id: is it cancelled?"""
    state: State = State.QUEUED
    token: int = 1
    attempts: int = 0
    crashes: int = 0
    error: FailureCode | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    published: int | None = None
    """The token under which it was finished."""

    def end(self, state: State, now: float) -> None:
        self.state = state
        self.holder = None
        self.completed_at = now
        self.expires_at = now + POLICY.retention_seconds


class Model:
    """What the store must do, in the plainest words."""

    def __init__(self) -> None:
        self.conversions: dict[ConversionId, ModelConversion] = {}
        self.serving: dict[ConversionKey, ConversionId] = {}

    def conversion_of(self, job_id: JobId) -> ModelConversion | None:
        return next((each for each in self.conversions.values() if job_id in each.jobs), None)

    def submit(self, submission: Submission, instance: str, now: float, *, may_create: bool) -> Outcome | None:
        serving = self.serving.get(submission.key)
        served = None if serving is None else self.conversions.get(serving)
        if served is not None and served.state is State.DONE:
            assert served.completed_at is not None
            if served.completed_at + POLICY.retention_seconds > now:
                served.expires_at = now + POLICY.retention_seconds
                served.jobs[submission.job_id] = False
                return Outcome.CACHED
            served = None
        if served is not None:
            served.jobs[submission.job_id] = False
            served.joined_at = now
            return Outcome.JOINED
        if not may_create:
            return None
        self.conversions[submission.conversion_id] = ModelConversion(
            key=submission.key,
            due_at=now + POLICY.lease_seconds,
            created_at=now,
            holder=instance,
            jobs={submission.job_id: False},
        )
        self.serving[submission.key] = submission.conversion_id
        return Outcome.CREATED

    def held(self, lease: Lease, *states: State) -> ModelConversion | None:
        conversion = self.conversions.get(lease.conversion_id)
        if conversion is None or conversion.token != lease.token or conversion.state not in states:
            return None
        return conversion

    def stop_serving(self, conversion_id: ConversionId) -> None:
        key = self.conversions[conversion_id].key
        if self.serving.get(key) == conversion_id:
            del self.serving[key]

    def end(self, conversion_id: ConversionId, state: State, now: float) -> None:
        self.conversions[conversion_id].end(state, now)
        if state is not State.DONE:
            self.stop_serving(conversion_id)

    def requeue(self, conversion: ModelConversion, due_at: float) -> None:
        conversion.state = State.QUEUED
        conversion.holder = None
        conversion.token += 1
        conversion.due_at = due_at

    def adopt(self, instance: str, now: float) -> set[ConversionId]:
        adopted = set()
        for conversion_id, conversion in self.conversions.items():
            if conversion.state not in LIVE or conversion.due_at > now:
                continue
            if conversion.state is State.RUNNING:
                conversion.crashes += 1
                if conversion.crashes >= POLICY.crash_limit:
                    conversion.error = FailureCode.POISON
                    self.end(conversion_id, State.FAILED, now)
                    continue
            if conversion.holder is not None:
                self.requeue(conversion, now)
            conversion.token += 1
            conversion.holder = instance
            conversion.due_at = now + POLICY.lease_seconds
            adopted.add(conversion_id)
        return adopted

    def expire(self, now: float) -> set[str]:
        names = set()
        for conversion_id, conversion in list(self.conversions.items()):
            if conversion.expires_at is None or conversion.expires_at > now:
                continue
            if conversion.published is not None:
                names.add(track_of(Lease(conversion_id=conversion_id, token=conversion.published)).file_name)
            self.stop_serving(conversion_id)
            del self.conversions[conversion_id]
        return names

    def status(self, job_id: JobId) -> Status | None:
        conversion = self.conversion_of(job_id)
        if conversion is None:
            return None
        if conversion.jobs[job_id]:
            return Status.CANCELLED
        return STATUSES[conversion.state]


class StoreMachine(RuleBasedStateMachine):
    """Programs over one store: every answer is compared with the model's, and every record after every step."""

    jobs = Bundle("jobs")

    def __init__(self, make_stand: Callable[[], Stand]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stand = make_stand()
        self.ids = Ids()
        self.model = Model()
        self.seen: dict[ConversionId, tuple[int, State]] = {}
        self.old_leases = [Lease(conversion_id=ConversionId("0" * 34), token=1)]
        self.acknowledged: list[JobId] = []
        self.stores: dict[str, JobStore] = {}
        self.open_all()

    @property
    def now(self) -> float:
        return self.stand.clock.now

    def open_all(self) -> None:
        for instance in INSTANCES if self.stand.shared else INSTANCES[:1]:
            self.stores[instance] = self.runner.run(self.stand.open(instance))

    def store(self, instance: str) -> tuple[str, JobStore]:
        chosen = instance if instance in self.stores else INSTANCES[0]
        return chosen, self.stores[chosen]

    def teardown(self) -> None:
        self.runner.run(self.stand.close())
        self.runner.close()

    @rule(target=jobs, video=st.integers(1, VIDEOS), instance=st.sampled_from(INSTANCES), may_create=st.booleans())
    def submit(self, video: int, instance: str, *, may_create: bool) -> Submission:
        return self.submit_as(instance, video, may_create=may_create)

    def submit_as(self, instance: str, video: int, *, may_create: bool) -> Submission:
        name, store = self.store(instance)
        submission = self.ids.submission(video)
        expected = self.model.submit(submission, name, self.now, may_create=may_create)
        result = self.runner.run(store.submit(submission, may_create=may_create))
        assert (None if result is None else result.outcome) == expected
        if result is not None:
            self.acknowledged.append(submission.job_id)
            # The reply was lost: the same call again, anywhere, says the same.
            assert self.runner.run(store.submit(submission, may_create=False)) == result
        return submission

    def lease(self, choice: int, *states: State) -> Lease:
        """Choose a lease: mostly one that is good for the purpose, now and then one that was."""
        stale = [
            lease
            for lease in self.old_leases
            if (conversion := self.model.conversions.get(lease.conversion_id)) is not None
            and conversion.state in states
            and conversion.token != lease.token
        ]
        good = [
            Lease(conversion_id=conversion_id, token=conversion.token)
            for conversion_id, conversion in self.model.conversions.items()
            if conversion.state in states
        ]
        if choice % 4 == 0 and stale:
            return stale[choice % len(stale)]
        if choice % 11 == 0 or not good:
            return self.old_leases[choice % len(self.old_leases)]
        chosen = good[choice % len(good)]
        self.old_leases.append(chosen)
        return chosen

    @initialize(target=jobs, plan=st.lists(st.sampled_from(State), min_size=2, max_size=6))
    def begin(self, plan: list[State]) -> MultipleResults[Submission]:
        """Start with some conversions in all states: programs that begin with nothing seldom come to anything."""
        submissions = []
        for video, state in enumerate(plan):
            submission = self.submit_as(INSTANCES[video % 2], 1 + video % VIDEOS, may_create=True)
            submissions.append(submission)
            lease = Lease(conversion_id=submission.conversion_id, token=1)
            if state is State.CANCELLED:
                self.cancel(submission, "a", repeat=False)
            elif state is not State.QUEUED:
                self.claim_as(self.store(INSTANCES[video % 2])[0], lease, repeat=False)
            lease = Lease(conversion_id=submission.conversion_id, token=2)
            if state is State.DONE:
                self.finish_with(lease, "a", repeat=False)
            elif state is State.FAILED:
                self.fail_with(lease, "a", repeat=False)
        return multiple(*submissions)

    @rule(
        choice=CHOICES,
        act=st.sampled_from(["claim", "claim", "finish", "fail", "retry", "zombie"]),
        instance=st.sampled_from(INSTANCES),
        repeat=st.booleans(),
    )
    def work(self, choice: int, act: str, instance: str, *, repeat: bool) -> None:
        """One step of some conversion's life. One rule for all: Hypothesis leaves whole rules out of a program."""
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
                self.write_as_a_zombie(instance)

    def write_as_a_zombie(self, instance: str) -> None:
        """Everyone who ever held what now runs under another token tries to write."""
        _, store = self.store(instance)
        for lease in set(self.old_leases):
            conversion = self.model.conversions.get(lease.conversion_id)
            if conversion is None or conversion.state is not State.RUNNING or conversion.token == lease.token:
                continue
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
        next_lease = Lease(conversion_id=lease.conversion_id, token=lease.token + 1)
        self.old_leases += [lease, next_lease]
        repeated = self.model.held(next_lease, State.RUNNING)
        if repeated is not None and repeated.holder == name:
            assert self.runner.run(store.claim(lease)).lease == next_lease
            return
        if conversion is None or conversion.holder != name:
            with pytest.raises(LeaseLost):
                self.runner.run(store.claim(lease))
            return
        for _ in range(1 + repeat):
            claimed = self.runner.run(store.claim(lease))
            assert claimed.lease == next_lease
        conversion.state, conversion.token = State.RUNNING, lease.token + 1
        conversion.due_at = self.now + POLICY.lease_seconds

    @rule(instance=st.sampled_from(INSTANCES))
    def run_everything_and_die(self, instance: str) -> None:
        """An input that kills its instance: all that is queued is claimed, nothing is renewed, all is adopted."""
        self.adopt(instance)
        for conversion_id, conversion in list(self.model.conversions.items()):
            if conversion.state is State.QUEUED and conversion.holder is not None:
                lease = Lease(conversion_id=conversion_id, token=conversion.token)
                self.claim_as(conversion.holder, lease, repeat=False)
        self.stand.clock.advance(POLICY.lease_seconds)
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
        finished = self.model.held(lease, State.DONE)
        if self.model.held(lease, State.RUNNING) is not None:
            self.model.end(lease.conversion_id, State.DONE, self.now)
            finished = self.model.conversions[lease.conversion_id]
            finished.error, finished.published = None, lease.token
        for _ in range(1 + repeat):
            if finished is None:
                with pytest.raises(LeaseLost):
                    self.runner.run(store.finish(lease, track_of(lease), METADATA))
            else:
                assert self.runner.run(store.finish(lease, track_of(lease), METADATA)).state is State.DONE

    def fail_with(self, lease: Lease, instance: str, *, repeat: bool) -> None:
        _, store = self.store(instance)
        failed = self.model.held(lease, State.FAILED)
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
            waits = self.model.held(Lease(conversion_id=lease.conversion_id, token=lease.token + 1), State.QUEUED)
            if waits is not None and waits.holder is None and waits.error is FailureCode.UPSTREAM_ERROR:
                return
            with pytest.raises(LeaseLost):
                self.runner.run(store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=delay))
            return
        for _ in range(1 + repeat):
            self.runner.run(store.retry(lease, FailureCode.UPSTREAM_ERROR, delay_seconds=delay))
        self.model.requeue(conversion, self.now + delay)
        conversion.attempts += 1
        conversion.error = FailureCode.UPSTREAM_ERROR

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
        for _ in range(1 + repeat):
            ticket = self.runner.run(store.cancel(job.job_id))
            assert (None if ticket is None else ticket.status) == self.model.status(job.job_id)

    @rule(instance=st.sampled_from(INSTANCES))
    def adopt(self, instance: str) -> None:
        name, store = self.store(instance)
        adopted = self.runner.run(store.adopt(100))
        assert {conversion.conversion_id for conversion in adopted} == self.model.adopt(name, self.now)
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
                    self.model.stop_serving(conversion_id)

    @rule(instance=st.sampled_from(INSTANCES), long_after=st.integers(0, 2))
    def expire(self, instance: str, long_after: int) -> None:
        self.stand.clock.advance(POLICY.retention_seconds if long_after == 0 else 0.0)
        _, store = self.store(instance)
        names: list[str] = []
        while batch := self.runner.run(store.expire(1000)):
            names += filter(None, batch)
        assert len(set(names)) == len(names)
        assert set(names) == self.model.expire(self.now)
        self.acknowledged = [each for each in self.acknowledged if self.model.conversion_of(each) is not None]

    @rule(seconds=st.sampled_from([0.5, 9.0, 31.0, 61.0, 1800.0, 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.stand.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        """Every instance goes down and comes up again, remembering nothing."""
        for store in self.stores.values():
            self.runner.run(store.close())
        self.open_all()
        if self.stand.shared:
            return
        for conversion in self.model.conversions.values():
            if conversion.state in LIVE and conversion.holder is not None:
                # Its process is dead: the file was locked by it.
                conversion.due_at = self.now

    @invariant()
    def every_record_is_as_the_model_says(self) -> None:
        # Every instance sees the same: they take turns at looking.
        for place, job_id in enumerate(self.acknowledged):
            self.compare(self.store(INSTANCES[place % 2])[1], job_id)

    def compare(self, store: JobStore, job_id: JobId) -> None:
        ticket = self.runner.run(store.get(job_id))
        expected = self.model.conversion_of(job_id)
        assert expected is not None
        assert ticket is not None, "an acknowledged job is lost"
        conversion = ticket.conversion
        assert ticket.status == self.model.status(job_id)
        names = ("state", "token", "holder", "attempts", "crashes", "error", "joined_at", "completed_at", "expires_at")
        for name in names:
            assert getattr(conversion, name) == getattr(expected, name), name
        assert (conversion.track is not None) == (conversion.state is State.DONE)
        if conversion.state in LIVE:
            assert conversion.due_at == expected.due_at
        token, state = self.seen.get(conversion.conversion_id, (0, State.QUEUED))
        assert conversion.token >= token, "a token fell"
        assert state in LIVE or conversion.state is state, "an end was undone"
        self.seen[conversion.conversion_id] = conversion.token, conversion.state

    @invariant()
    def the_indexes_agree_with_the_records(self) -> None:
        indexes = self.stand.indexes()
        # A done one too old to serve keeps its place until a submission or its expiry takes it.
        assert indexes.serving == self.model.serving
        for conversion_id in indexes.serving.values():
            assert self.model.conversions[conversion_id].state in {*LIVE, State.DONE}
        live = {name: each.due_at for name, each in self.model.conversions.items() if each.state in LIVE}
        ended = {name: each.expires_at for name, each in self.model.conversions.items() if each.state not in LIVE}
        assert indexes.due_at == live
        assert indexes.expires_at == ended

    @invariant()
    def the_counts_are_right(self) -> None:
        statuses = [self.model.status(job) for each in self.model.conversions.values() for job in each.jobs]
        counts = self.runner.run(self.store("b")[1].counts())
        for status in Status:
            assert getattr(counts, status.value) == statuses.count(status), status


PROGRAM_SETTINGS: Final = settings(
    max_examples=PROGRAMS,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def run_programs(make_stand: Callable[[], Stand]) -> None:
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(make_stand)

    run_state_machine_as_test(Machine, settings=PROGRAM_SETTINGS)


@pytest.mark.timeout(0 if SOAK_PROGRAMS else 120)
def test_any_program_on_sqlite_behaves_as_the_model(tmp_path: Path) -> None:
    def make_stand() -> Stand:
        return SqliteStand(Path(tempfile.mkdtemp(dir=tmp_path)) / "jobs.db")

    run_programs(make_stand)


@pytest.mark.timeout(0 if SOAK_PROGRAMS else 120)
def test_any_program_on_redis_behaves_as_the_model(valkey: Valkey) -> None:
    def make_stand() -> Stand:
        client = valkey.client()
        client.flushall()
        client.script_flush()
        client.close()
        return RedisStand(RedisSettings(address=valkey.address))

    run_programs(make_stand)
