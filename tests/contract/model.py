"""The simple model that both adapters are compared with."""

from dataclasses import dataclass, field
from typing import Final

from tests.contract.harness import POLICIES, POLICY
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ConversionId, ConversionKey, InstanceId, JobId
from ytmp3.core.job import Lease, State, Status
from ytmp3.jobstore import Outcome, Submission

LIVE: Final = (State.QUEUED, State.RUNNING)
STATUSES: Final = {
    State.QUEUED: Status.PENDING,
    State.RUNNING: Status.PROCESSING,
    State.DONE: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
}


@dataclass
class ModelConversion:
    """A conversion as the model has it."""

    key: ConversionKey
    due_at: float
    created_at: float
    holder: str | None
    retention_seconds: float
    joined_at: float | None = None
    jobs: dict[JobId, bool] = field(default_factory=dict)
    """Whether each job is cancelled."""
    state: State = State.QUEUED
    token: int = 1
    attempts: int = 0
    crashes: int = 0
    crashed_at: str | None = None
    error: FailureCode | None = None
    failed_by: str | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    file_name: str | None = None
    """The name of its track; None until it is finished."""

    @property
    def crashed_here_only(self) -> bool:
        return self.crashes == 0 or self.crashed_at == self.holder

    def end(self, state: State, now: float) -> None:
        self.state = state
        self.holder = None
        self.completed_at = now
        self.expires_at = now + self.retention_seconds


class Model:
    """A job store in the simplest form, as the reference for the adapters: no index, no clock, no concurrency."""

    def __init__(self) -> None:
        self.conversions: dict[ConversionId, ModelConversion] = {}
        self.current: dict[ConversionKey, ConversionId] = {}
        """The conversion that new jobs of a key join. One that is too old to take jobs stays until it is replaced."""

        self.shelf: set[str] = set()
        """The names of the track files that holders have published and not deleted."""
        self.expired: set[str] = set()
        """Those that were deleted with their records. A backup may bring such a record back, but not the file."""

    def tracks(self) -> set[str]:
        """Return the names of all recorded tracks."""
        return {each.file_name for each in self.conversions.values() if each.file_name is not None}

    def conversion_of(self, job_id: JobId) -> ModelConversion | None:
        return next((each for each in self.conversions.values() if job_id in each.jobs), None)

    def submit(
        self, submission: Submission, instance: str, now: float, *, may_create: bool, may_join: bool
    ) -> Outcome | None:
        retention_seconds = POLICIES[instance].retention_seconds
        serving = self.current.get(submission.key)
        served = None if serving is None else self.conversions.get(serving)
        if served is not None and len(served.jobs) >= POLICIES[instance].jobs_of_conversion:
            served = None
        if served is not None and served.state is State.DONE:
            assert served.completed_at is not None
            assert served.expires_at is not None
            if served.completed_at + served.retention_seconds > now:
                served.retention_seconds = max(served.retention_seconds, retention_seconds)
                served.expires_at = max(served.expires_at, now + retention_seconds)
                served.jobs[submission.job_id] = False
                return Outcome.CACHED
            served = None
        if served is not None:
            if not may_join:
                return None
            served.jobs[submission.job_id] = False
            served.joined_at = now
            served.retention_seconds = max(served.retention_seconds, retention_seconds)
            return Outcome.JOINED
        if not may_create:
            return None
        self.conversions[submission.conversion_id] = ModelConversion(
            key=submission.key,
            due_at=now + POLICY.lease_seconds,
            created_at=now,
            holder=instance,
            retention_seconds=retention_seconds,
            jobs={submission.job_id: False},
        )
        self.current[submission.key] = submission.conversion_id
        return Outcome.CREATED

    def held(self, lease: Lease, *states: State) -> ModelConversion | None:
        """Return the conversion if the lease is good for a write to it in one of these states."""
        conversion = self.conversions.get(lease.conversion_id)
        if conversion is None or conversion.token != lease.token or conversion.state not in states:
            return None
        return conversion if conversion.holder == lease.holder else None

    def with_token(self, lease: Lease, state: State) -> ModelConversion | None:
        """Return the conversion in this state if a write with this token may have brought it there."""
        conversion = self.conversions.get(lease.conversion_id)
        if conversion is None or conversion.token != lease.token or conversion.state is not state:
            return None
        return conversion

    def lease(self, conversion_id: ConversionId) -> Lease:
        """Return the present lease of a conversion."""
        conversion = self.conversions[conversion_id]
        return Lease(conversion_id=conversion_id, token=conversion.token, holder=InstanceId(conversion.holder or ""))

    def retire(self, conversion_id: ConversionId) -> None:
        key = self.conversions[conversion_id].key
        if self.current.get(key) == conversion_id:
            del self.current[key]

    def end(self, conversion_id: ConversionId, state: State, now: float) -> None:
        self.conversions[conversion_id].end(state, now)
        if state is not State.DONE:
            self.retire(conversion_id)

    def give_up(self, conversion: ModelConversion, now: float) -> None:
        assert conversion.expires_at is not None
        conversion.expires_at = min(conversion.expires_at, now)
        self.retire(next(name for name, each in self.conversions.items() if each is conversion))

    def requeue(self, conversion: ModelConversion, due_at: float) -> None:
        conversion.state = State.QUEUED
        conversion.holder = None
        conversion.token += 1
        conversion.due_at = due_at

    def adopt(
        self, instance: str, now: float, *, head_start_seconds: float, elsewhere_seconds: float
    ) -> set[ConversionId]:
        """Adopt what is due.

        `head_start_seconds`: how long an instance leaves a retry to the others after it failed the conversion.
        `elsewhere_seconds`: the same for a conversion that has crashed there too often, and nowhere else.
        """
        adopted = set()
        for conversion_id, conversion in self.conversions.items():
            if conversion.state not in LIVE or conversion.due_at > now:
                continue
            is_own_failure = conversion.holder is None and conversion.failed_by == instance
            if is_own_failure and conversion.due_at + head_start_seconds > now:
                continue
            is_left = self.is_poison(conversion, instance) and conversion.crashed_here_only
            if is_left and conversion.due_at + elsewhere_seconds > now:
                continue
            if self.take(conversion_id, instance, now):
                adopted.add(conversion_id)
        return adopted

    def is_poison(self, conversion: ModelConversion, instance: str) -> bool:
        if conversion.state is not State.RUNNING or conversion.crashes + 1 < POLICY.crash_limit:
            return False
        return not conversion.crashed_here_only or conversion.holder == instance

    def take(self, conversion_id: ConversionId, instance: str, now: float) -> bool:
        """Adopt a conversion that is due. Returns False if it failed as poison instead."""
        conversion = self.conversions[conversion_id]
        if conversion.state is State.RUNNING:
            is_poison = self.is_poison(conversion, instance)
            if not is_poison:
                conversion.crashed_at = conversion.holder if conversion.crashed_here_only else ""
            conversion.crashes += 1
            if is_poison:
                conversion.error = FailureCode.POISON
                self.end(conversion_id, State.FAILED, now)
                return False
        if conversion.holder is not None:
            self.requeue(conversion, now)
        conversion.token += 1
        conversion.holder = instance
        conversion.due_at = now + POLICY.lease_seconds
        return True

    def expire(self, now: float) -> set[str]:
        ended = [(name, each.expires_at) for name, each in self.conversions.items()]
        names = {self.remove(name) for name, expires_at in ended if expires_at is not None and expires_at <= now}
        return {name for name in names if name is not None}

    def remove(self, conversion_id: ConversionId) -> str | None:
        """Remove an expired conversion and its file. Returns the file's name."""
        file_name = self.conversions[conversion_id].file_name
        if file_name is not None:
            self.shelf.discard(file_name)
            self.expired.add(file_name)
        self.retire(conversion_id)
        del self.conversions[conversion_id]
        return file_name

    def status(self, job_id: JobId) -> Status | None:
        conversion = self.conversion_of(job_id)
        if conversion is None:
            return None
        if conversion.jobs[job_id]:
            return Status.CANCELLED
        return STATUSES[conversion.state]
