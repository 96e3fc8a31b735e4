"""The operations on the store's file. They run on the writer's thread, in a transaction that the writer has begun.

The rule: an operation does all checks before its first write. So an operation that is refused (LeaseLost) has written
nothing, and the writer can commit the others of its group. The functions of `core/states` make every change of a
conversion's state; this module stores the result and updates the counts of jobs by state.

Every operation may be called again after a lost reply. `claim`, `finish`, `fail` and `retry` would be refused the
second time. So they first check whether the record has the result of the same call.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from typing import Final

from msgspec.structs import replace

from ytmp3.core import states
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import ConversionId, ConversionKey, InstanceId, JobId
from ytmp3.core.job import Conversion, Job, Lease, Metadata, State, Ticket, Track
from ytmp3.core.states import LIVE, Transition
from ytmp3.jobstore import Renewal, Submission, Submitted
from ytmp3.jobstore.records import (
    Unknown,
    decode_conversion,
    decode_job,
    encode_conversion,
    encode_job,
    submitted_of,
    unknown_fields,
)
from ytmp3.jobstore.settings import Policy
from ytmp3.jobstore.sqlite import queries
from ytmp3.jobstore.sqlite.fences import check_running, is_held_with, was_retried
from ytmp3.jobstore.sqlite.outbox import Deliveries

PROBE_BYTES: Final = 64 * 1024
"""Size of the write probe, in bytes. A submission writes up to ten pages of 4 KiB to the log, so if the disk has space
for the probe, it has space for a submission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of the table `conversions`."""

    serial: int
    """Number of the row; grows in order of creation."""
    is_current: bool
    """Whether new jobs of its key join this conversion."""
    active_jobs: int
    """Number of its jobs that are not cancelled. When this falls to zero, a live conversion is cancelled."""
    jobs: int
    """Number of all its jobs. `expire` removes the conversion together with the last of them."""
    conversion: Conversion
    unknown: Unknown
    """The fields of the record that a newer version wrote. Every change writes them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The operations of one instance on one file. The names are those of the JobStore Protocol."""

    connection: sqlite3.Connection
    policy: Policy
    instance: InstanceId
    clock: Callable[[], float]
    changed: set[JobId | ConversionId] = field(default_factory=set)
    """The ids that were written since the last call of `take_changed`. They are dropped from the cache."""

    @property
    def deliveries(self) -> Deliveries:
        """The outbox, in the same transaction."""
        return Deliveries(connection=self.connection, clock=self.clock)

    def take_changed(self) -> frozenset[JobId | ConversionId]:
        """Return the ids that were written since the last call."""
        changed = frozenset(self.changed)
        self.changed.clear()
        return changed

    def recover(self) -> None:
        """Make all conversions of the previous process due at once. Called once, when the file is opened.

        The lock on the file was free, so that process has ended, and its leases need not run out first.
        """
        self.deliveries.recover()
        now = self.clock()
        for row in self._rows(queries.SELECT_LIVE, ()):
            # A retry keeps its due time. But if the system clock was set back since, that time may be far in the
            # future. So it is limited to the longest delay of a retry.
            latest = now if row.conversion.holder is not None else now + states.LONGEST_DELAY_SECONDS
            if row.conversion.holder is not None or row.conversion.due_at > latest:
                self._save(row, replace(row.conversion, due_at=latest))

    def submit(self, submission: Submission, *, may_create: bool, may_join: bool = True) -> Submitted | None:
        """Return the ticket of an earlier call, or add the job to a conversion, or create a conversion for it.

        This instance holds a new conversion from the start. If it dies, the next process makes it due (`recover`).
        """
        ticket = self.ticket(submission.job_id)
        if ticket is None:
            row = self._current(submission.key)
            if row is not None and (may_join or row.conversion.state is State.DONE):
                ticket = self._attach(submission, row)
            elif row is None and may_create:
                ticket = self._create(submission)
        return None if ticket is None else submitted_of(ticket, self.instance)

    def ticket(self, job_id: JobId) -> Ticket | None:
        """Read a job with its conversion inside the transaction."""
        for job, conversion in self.connection.execute(queries.SELECT_TICKET, (job_id,)).fetchall():
            return Ticket(job=decode_job(job), conversion=decode_conversion(conversion))
        return None

    def claim(self, lease: Lease) -> Conversion:
        """queued -> running. The new token invalidates every earlier lease of the conversion."""
        row = self._row(lease)
        conversion = row.conversion
        if conversion.holder != self.instance or lease.holder != self.instance:
            raise LeaseLost
        if conversion.state is State.RUNNING and conversion.token == lease.token + 1:
            # The reply to the first call was lost: only this holder's claim of this lease can have made this token.
            return conversion
        if conversion.state is not State.QUEUED or conversion.token != lease.token:
            raise LeaseLost
        now = self.clock()
        return self._save(row, states.claimed(conversion, now=now, until=now + self.policy.lease_seconds))

    def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """Extend leases and record progress. Returns the ids of the conversions whose lease is lost.

        These include unknown and ended conversions, because the holder must stop its work then, too.
        """
        until = self.clock() + self.policy.lease_seconds
        return frozenset(renewal.lease.conversion_id for renewal in renewals if not self._is_renewed(renewal, until))

    def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """running -> done. This completes all its jobs, because a job's status follows from its conversion's state."""
        row = self._row(lease)
        conversion = row.conversion
        # A repeated call (same track, same token): the reply to the first one was lost.
        if conversion.state is State.DONE and conversion.token == lease.token and conversion.track == track:
            return conversion
        check_running(conversion, lease)
        now = self.clock()
        expires_at = self._expiry(conversion, now)
        return self._save(row, states.finished(conversion, track, metadata, now=now, expires_at=expires_at))

    def fail(self, lease: Lease, code: FailureCode) -> None:
        """running -> failed. The conversion is no longer current, so a new job of its key creates a new one."""
        row = self._row(lease)
        conversion = row.conversion
        # A repeated call (same error, same token): the reply to the first one was lost.
        if conversion.state is State.FAILED and conversion.token == lease.token and conversion.error is code:
            return
        check_running(conversion, lease)
        now = self.clock()
        self._save(row, states.failed(conversion, code, now=now, expires_at=self._expiry(conversion, now)))

    def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool) -> None:
        """running -> queued, after an error. The conversion has no holder, and is due after the delay."""
        row = self._row(lease)
        if was_retried(row.conversion, lease, code):
            return
        check_running(row.conversion, lease)
        due_at = self.clock() + delay_seconds
        self._save(row, states.retried(row.conversion, code, due_at=due_at, costs_attempt=costs_attempt))

    def release(self, leases: Sequence[Lease]) -> None:
        """queued or running -> queued, without counting an attempt. The conversion is due at once."""
        now = self.clock()
        for lease in leases:
            row = self._find(lease.conversion_id)
            if row is not None and is_held_with(row.conversion, lease):
                self._save(row, states.released(row.conversion, due_at=now))

    def cancel(self, job_id: JobId) -> Ticket | None:
        """Cancel the job, and its conversion if that has no other active job; a done one gives up its track.

        If a worker runs the conversion, its next renewal is refused, and it stops.
        """
        ticket = self.ticket(job_id)
        if ticket is None or ticket.job.cancelled_at is not None:
            return ticket
        row = self._row(ticket.conversion.lease)
        now = self.clock()
        job = replace(ticket.job, cancelled_at=now)
        self.connection.execute(queries.UPDATE_JOB, (encode_job(job), job_id))
        self.changed.add(job_id)
        # From now on the job counts as cancelled, and no longer under the state of its conversion.
        self._count_jobs(row.conversion.state, -1)
        self._count_jobs(State.CANCELLED, 1)
        left = with_changes(row, active_jobs=row.active_jobs - 1)
        conversion = row.conversion
        if conversion.state in LIVE and left.active_jobs == 0:
            conversion = states.cancelled(conversion, now=now, expires_at=self._expiry(conversion, now))
        elif conversion.state is State.DONE and left.active_jobs == 0:
            left = with_changes(left, is_current=False)
            conversion = states.given_up(conversion, now=now)
        return Ticket(job=job, conversion=self._save(left, conversion))

    def adopt(self, limit: int) -> list[Conversion]:
        """Adopt due conversions, the longest due first. Returns them in the order of their creation."""
        now = self.clock()
        adopted = []
        for row in self._rows(queries.SELECT_DUE, (now, limit)):
            conversion = row.conversion
            if conversion.holder is not None:
                # The lease ran out. A conversion without a holder was released or waits for a retry, so no crash is
                # counted.
                if states.is_poison(conversion, adopter=self.instance, crash_limit=self.policy.crash_limit):
                    self._save(row, self._poisoned(conversion, now))
                    continue
                conversion = states.orphaned(conversion, due_at=now)
            until = now + self.policy.lease_seconds
            adopted.append((row.serial, self._save(row, states.held(conversion, self.instance, until))))
        return [conversion for _, conversion in sorted(adopted, key=lambda pair: pair[0])]

    def forget(self, conversion_id: ConversionId) -> None:
        """Prevent further jobs from joining a done conversion."""
        if (row := self._find(conversion_id)) is not None and row.conversion.state is State.DONE:
            self._save(with_changes(row, is_current=False), row.conversion)

    def expire(self, limit: int) -> tuple[list[str | None], bool]:
        """Remove expired conversions, but at most `Policy.jobs_at_once` jobs.

        Returns:
            The file names of the removed conversions (None for one without a track), and whether the limit of jobs was
            reached. In that case there is more to remove.
        """
        file_names: list[str | None] = []
        jobs_left = self.policy.jobs_at_once
        for row in self._rows(queries.SELECT_EXPIRED, (self.clock(), limit)):
            remaining = self._remove_jobs(row, jobs_left)
            jobs_left -= row.jobs - remaining.jobs
            if jobs_left == 0:
                # The conversion may have no jobs left. In that case the next step removes it.
                self._save(remaining, row.conversion)
                return file_names, True
            self.connection.execute(queries.DELETE_CONVERSION, (row.serial,))
            self.changed.add(row.conversion.conversion_id)
            track = row.conversion.track
            file_names.append(None if track is None else track.file_name)
        return file_names, False

    def write_probe(self) -> None:
        """Write more than a submission does, to check whether the disk has space for one. `remove_probe` undoes it."""
        self.connection.execute(queries.WRITE_PROBE, (PROBE_BYTES,))

    def remove_probe(self) -> None:
        """Undo `write_probe`."""
        self.connection.execute(queries.REMOVE_PROBE)

    def _current(self, key: ConversionKey) -> _Row | None:
        """Return the conversion that takes a further job with this key, or None."""
        now, retention_seconds = self.clock(), self.policy.retention_seconds
        for row in self._rows(queries.SELECT_CURRENT, (key,)):
            takes_jobs = states.takes_jobs(row.conversion, now=now, retention_seconds=retention_seconds)
            if takes_jobs and row.jobs < self.policy.jobs_of_conversion:
                return row
        return None

    def _attach(self, submission: Submission, row: _Row) -> Ticket:
        now = self.clock()
        conversion = states.joined(row.conversion, now=now, retention_seconds=self.policy.retention_seconds)
        joined = with_changes(row, active_jobs=row.active_jobs + 1, jobs=row.jobs + 1)
        conversion = self._save(joined, conversion)
        return self._add_job(submission, row.serial, conversion, deduplicated=True, now=now)

    def _create(self, submission: Submission) -> Ticket:
        now = self.clock()
        # A conversion that takes no more jobs may still be current. A unique index allows only one for each key.
        self.connection.execute(queries.REPLACE_CURRENT, (submission.key,))
        conversion = states.created(
            conversion_id=submission.conversion_id,
            key=submission.key,
            video_id=submission.video_id,
            client=submission.client,
            holder=self.instance,
            now=now,
            until=now + self.policy.lease_seconds,
        )
        conversion = states.promised(conversion, self.policy.retention_seconds)
        record = encode_conversion(conversion, {})
        ((serial,),) = self.connection.execute(
            queries.INSERT_CONVERSION, (conversion.conversion_id, conversion.key, conversion.due_at, record)
        ).fetchall()
        return self._add_job(submission, serial, conversion, deduplicated=False, now=now)

    def _add_job(
        self, submission: Submission, serial: int, conversion: Conversion, *, deduplicated: bool, now: float
    ) -> Ticket:
        """Store a job. The caller has already counted it in the row of the conversion."""
        job = Job(
            job_id=submission.job_id,
            conversion_id=conversion.conversion_id,
            client=submission.client,
            deduplicated=deduplicated,
            created_at=now,
            webhooks=submission.webhooks,
            batch_id=submission.batch_id,
            edits=submission.edits,
        )
        listed = (job.client, now) if submission.is_listed else (None, None)
        self.connection.execute(queries.INSERT_JOB, (job.job_id, serial, encode_job(job), *listed))
        if job.webhooks:
            self.deliveries.hook(job.job_id, serial, conversion.state)
        self._count_jobs(conversion.state, 1)
        return Ticket(job=job, conversion=conversion)

    def _is_renewed(self, renewal: Renewal, until: float) -> bool:
        row = self._find(renewal.lease.conversion_id)
        if row is None or not is_held_with(row.conversion, renewal.lease):
            return False
        old = row.conversion
        renewed = replace(
            old,
            due_at=until,
            stage=old.stage if renewal.stage is None else renewal.stage,
            progress=old.progress if renewal.progress is None else renewal.progress,
            queue_position=old.queue_position if renewal.queue_position is None else renewal.queue_position,
            metadata=old.metadata if renewal.metadata is None else renewal.metadata,
        )
        self._save(row, renewed)
        return True

    def _remove_jobs(self, row: _Row, limit: int) -> _Row:
        """Delete up to `limit` jobs of a conversion. Returns the updated row, which the caller must store."""
        records = self.connection.execute(queries.DELETE_SOME_JOBS, (row.serial, limit)).fetchall()
        self.changed.update(job_id for job_id, _ in records)
        jobs = [decode_job(record) for _, record in records]
        self.deliveries.forget(job.job_id for job in jobs if job.webhooks)
        active = sum(job.cancelled_at is None for job in jobs)
        self._count_jobs(row.conversion.state, -active)
        self._count_jobs(State.CANCELLED, active - len(records))
        return with_changes(row, active_jobs=row.active_jobs - active, jobs=row.jobs - len(records))

    def _poisoned(self, conversion: Conversion, now: float) -> Conversion:
        crashed = replace(conversion, crashes=conversion.crashes + 1)
        expires_at = self._expiry(conversion, now)
        return states.failed(
            crashed, FailureCode.POISON, now=now, expires_at=expires_at, transition=Transition.POISONED
        )

    def _expiry(self, conversion: Conversion, now: float) -> float:
        return now + states.retention_of(conversion, self.policy.retention_seconds)

    def _row(self, lease: Lease) -> _Row:
        """Return the row of a conversion. Raises LeaseLost if the conversion has been removed."""
        row = self._find(lease.conversion_id)
        if row is None:
            raise LeaseLost
        return row

    def _find(self, conversion_id: ConversionId) -> _Row | None:
        rows = self._rows(queries.SELECT_CONVERSION, (conversion_id,))
        return rows[0] if rows else None

    def _rows(self, query: str, values: tuple[str | float, ...]) -> list[_Row]:
        return [
            _Row(
                serial=serial,
                is_current=bool(is_current),
                active_jobs=active_jobs,
                jobs=jobs,
                conversion=decode_conversion(record),
                unknown=unknown_fields(record),
            )
            for serial, is_current, active_jobs, jobs, record in self.connection.execute(query, values).fetchall()
        ]

    def _save(self, row: _Row, conversion: Conversion) -> Conversion:
        """Replace the conversion of `row`. If the state changed, update the counts of active jobs and the outbox."""
        self.changed.add(conversion.conversion_id)
        is_live = conversion.state in LIVE
        self.connection.execute(
            queries.UPDATE_CONVERSION,
            (
                row.is_current and (is_live or conversion.state is State.DONE),
                row.active_jobs,
                row.jobs,
                conversion.due_at if is_live else None,
                None if is_live else conversion.expires_at,
                encode_conversion(conversion, row.unknown),
                row.serial,
            ),
        )
        if conversion.state is not row.conversion.state:
            self._count_jobs(row.conversion.state, -row.active_jobs)
            self._count_jobs(conversion.state, row.active_jobs)
            self.deliveries.note_end(row.serial, conversion.state)
        return conversion

    def _count_jobs(self, state: State, change: int) -> None:
        if change:
            self.connection.execute(queries.ADD_TO_TALLY, (change, state.value))
