"""The operations on the store's file, as functions of its tables; they run on the writer's thread, in a transaction.

The rule of this room: judge first, write after. A refusal has written nothing. Every change of a conversion is one of
`job.py`'s pure functions; here is only where it is kept, and the tallies that go with it.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from typing import Final

from msgspec.structs import replace

from ytmp3.core import states
from ytmp3.core.errors import FailureCode, LeaseLost
from ytmp3.core.ids import ConversionId, InstanceId, JobId
from ytmp3.core.job import Conversion, Job, Lease, Metadata, State, Ticket, Track
from ytmp3.core.states import LIVE, Event
from ytmp3.jobstore import JOBS_AT_ONCE, Renewal, Submission, Submitted
from ytmp3.jobstore.records import (
    Unknown,
    decode_conversion,
    decode_job,
    encode_conversion,
    encode_job,
    outcome_of,
    serves,
    unknown_fields,
)
from ytmp3.jobstore.settings import Policy

PROBE_BYTES: Final = 64 * 1024
"""A submission writes up to ten pages of 4 KiB to the log."""
_COLUMNS: Final = "serial, serving, riders, jobs, record"
SELECT_TICKET: Final = """
    SELECT jobs.record, conversions.record FROM jobs JOIN conversions USING (serial) WHERE jobs.job_id = ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A conversion as it is kept."""

    serial: int
    serving: bool
    riders: int
    jobs: int
    conversion: Conversion
    unknown: Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The operations of one instance on one file."""

    connection: sqlite3.Connection
    policy: Policy
    instance: InstanceId
    clock: Callable[[], float]
    changed: set[str] = field(default_factory=set)
    """Ids of the jobs and conversions written since they were last taken, for the cache of readers."""

    def take_changed(self) -> frozenset[str]:
        """Return what was written, and begin anew."""
        changed = frozenset(self.changed)
        self.changed.clear()
        return changed

    def recover(self) -> None:
        """Make every conversion that the last process held due at once: it is dead, as its lock was free."""
        now = self.clock()
        for row in self._rows("due_at IS NOT NULL", ()):
            # Also after the wall clock fell back between the two processes, nothing waits longer than it would have.
            latest = now if row.conversion.holder is not None else now + states.RETRY_CAP_SECONDS
            if row.conversion.holder is not None or row.conversion.due_at > latest:
                self._save(row, replace(row.conversion, due_at=latest))

    def submit(self, submission: Submission, *, may_create: bool) -> Submitted | None:
        ticket = self.ticket(submission.job_id) or self._attach(submission) or self._create(submission, may_create)
        return None if ticket is None else Submitted(ticket=ticket, outcome=outcome_of(ticket))

    def ticket(self, job_id: JobId) -> Ticket | None:
        for job, conversion in self.connection.execute(SELECT_TICKET, (job_id,)).fetchall():
            return Ticket(job=decode_job(job), conversion=decode_conversion(conversion))
        return None

    def claim(self, lease: Lease) -> Conversion:
        row = self._row(lease)
        conversion = row.conversion
        if conversion.holder != self.instance:
            raise LeaseLost
        if conversion.state is State.RUNNING and conversion.token == lease.token + 1:
            # The reply to the first call was lost: nobody but this holder can have made this very token.
            return conversion
        if conversion.state is not State.QUEUED or conversion.token != lease.token:
            raise LeaseLost
        now = self.clock()
        return self._save(row, states.claimed(conversion, now=now, until=now + self.policy.lease_seconds))

    def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        until = self.clock() + self.policy.lease_seconds
        return frozenset(renewal.lease.conversion_id for renewal in renewals if not self._renew_one(renewal, until))

    def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        row = self._row(lease)
        conversion = row.conversion
        if conversion.state is State.DONE and conversion.token == lease.token and conversion.track == track:
            return conversion
        _demand(conversion, lease)
        now = self.clock()
        return self._save(row, states.finished(conversion, track, metadata, now=now, expires_at=self._expiry(now)))

    def fail(self, lease: Lease, code: FailureCode) -> None:
        row = self._row(lease)
        conversion = row.conversion
        if conversion.state is State.FAILED and conversion.token == lease.token and conversion.error is code:
            return
        _demand(conversion, lease)
        now = self.clock()
        self._save(row, states.failed(conversion, code, now=now, expires_at=self._expiry(now)))

    def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float) -> None:
        row = self._row(lease)
        if _was_retried(row.conversion, lease, code):
            return
        _demand(row.conversion, lease)
        self._save(row, states.retried(row.conversion, code, due_at=self.clock() + delay_seconds))

    def release(self, leases: Sequence[Lease]) -> None:
        now = self.clock()
        for lease in leases:
            row = self._find(lease.conversion_id)
            if row is not None and row.conversion.state in LIVE and row.conversion.token == lease.token:
                self._save(row, states.released(row.conversion, due_at=now))

    def cancel(self, job_id: JobId) -> Ticket | None:
        ticket = self.ticket(job_id)
        if ticket is None or ticket.job.cancelled_at is not None:
            return ticket
        row = self._row(ticket.conversion.lease)
        now = self.clock()
        job = replace(ticket.job, cancelled_at=now)
        self.connection.execute("UPDATE jobs SET record = ? WHERE job_id = ?", (encode_job(job), job_id))
        self.changed.add(job_id)
        self._tally(row.conversion.state, -1)
        self._tally(State.CANCELLED, 1)
        left = with_changes(row, riders=row.riders - 1)
        conversion = row.conversion
        if conversion.state in LIVE and left.riders == 0:
            conversion = states.cancelled(conversion, now=now, expires_at=self._expiry(now))
        return Ticket(job=job, conversion=self._save(left, conversion))

    def adopt(self, limit: int) -> list[Conversion]:
        now = self.clock()
        adopted = []
        for row in self._rows("due_at <= ? ORDER BY due_at, serial LIMIT ?", (now, limit)):
            conversion = row.conversion
            if conversion.holder is not None and self._is_poison(conversion):
                crashed = replace(conversion, crashes=conversion.crashes + 1)
                expires_at = self._expiry(now)
                poisoned = states.failed(
                    crashed, FailureCode.POISON, now=now, expires_at=expires_at, event=Event.POISONED
                )
                self._save(row, poisoned)
                continue
            if conversion.holder is not None:
                conversion = states.orphaned(conversion, due_at=now)
            until = now + self.policy.lease_seconds
            adopted.append((row.serial, self._save(row, states.held(conversion, self.instance, until))))
        return [conversion for _, conversion in sorted(adopted, key=lambda pair: pair[0])]

    def forget(self, conversion_id: ConversionId) -> None:
        row = self._find(conversion_id)
        if row is not None and row.conversion.state is State.DONE:
            self._save(with_changes(row, serving=False), row.conversion)

    def expire(self, limit: int) -> tuple[list[str | None], bool]:
        """Return what is gone, and whether jobs may be left of a conversion that is not."""
        file_names: list[str | None] = []
        room = JOBS_AT_ONCE
        for row in self._rows("expires_at <= ? ORDER BY expires_at LIMIT ?", (self.clock(), limit)):
            left = self._remove_jobs(row, room)
            room -= row.jobs - left.jobs
            if room == 0:
                self._save(left, row.conversion)
                return file_names, True
            self.connection.execute("DELETE FROM conversions WHERE serial = ?", (row.serial,))
            self.changed.add(row.conversion.conversion_id)
            track = row.conversion.track
            file_names.append(None if track is None else track.file_name)
        return file_names, False

    def _remove_jobs(self, row: _Row, limit: int) -> _Row:
        some = "SELECT job_id FROM jobs WHERE serial = ? LIMIT ?"
        query = f"DELETE FROM jobs WHERE job_id IN ({some}) RETURNING job_id, record"  # noqa: S608 - a constant
        records = self.connection.execute(query, (row.serial, limit)).fetchall()
        self.changed.update(job_id for job_id, _ in records)
        riders = sum(decode_job(record).cancelled_at is None for _, record in records)
        self._tally(row.conversion.state, -riders)
        self._tally(State.CANCELLED, riders - len(records))
        return with_changes(row, riders=row.riders - riders, jobs=row.jobs - len(records))

    def occupy(self) -> None:
        """Take more space than a submission does, under a name that is no job's."""
        self.connection.execute("INSERT OR REPLACE INTO jobs VALUES ('', 0, zeroblob(?))", (PROBE_BYTES,))

    def vacate(self) -> None:
        """Undo `occupy`."""
        self.connection.execute("DELETE FROM jobs WHERE job_id = ''")

    def _attach(self, submission: Submission) -> Ticket | None:
        now = self.clock()
        for row in self._rows("key = ? AND serving = 1", (submission.key,)):
            conversion = row.conversion
            if not serves(conversion, now=now, retention_seconds=self.policy.retention_seconds):
                break
            if conversion.state is State.DONE:
                conversion = replace(conversion, expires_at=self._expiry(now))
            else:
                conversion = replace(conversion, joined_at=now)
            more = with_changes(row, riders=row.riders + 1, jobs=row.jobs + 1)
            conversion = self._save(more, conversion)
            return self._add_job(submission, row.serial, conversion, deduplicated=True, now=now)
        return None

    def _create(self, submission: Submission, may_create: bool) -> Ticket | None:  # noqa: FBT001 - one caller
        if not may_create:
            return None
        now = self.clock()
        self.connection.execute("UPDATE conversions SET serving = 0 WHERE key = ? AND serving = 1", (submission.key,))
        blank = Conversion(
            conversion_id=submission.conversion_id,
            key=submission.key,
            video_id=submission.video_id,
            client=submission.client,
            created_at=now,
            due_at=now,
        )
        conversion = states.held(blank, self.instance, now + self.policy.lease_seconds)
        record = encode_conversion(conversion, {})
        ((serial,),) = self.connection.execute(
            "INSERT INTO conversions (conversion_id, key, serving, riders, jobs, due_at, record)"
            " VALUES (?, ?, 1, 1, 1, ?, ?) RETURNING serial",
            (conversion.conversion_id, conversion.key, conversion.due_at, record),
        ).fetchall()
        return self._add_job(submission, serial, conversion, deduplicated=False, now=now)

    def _add_job(
        self, submission: Submission, serial: int, conversion: Conversion, *, deduplicated: bool, now: float
    ) -> Ticket:
        job = Job(
            job_id=submission.job_id,
            conversion_id=conversion.conversion_id,
            client=submission.client,
            deduplicated=deduplicated,
            created_at=now,
        )
        self.connection.execute("INSERT INTO jobs VALUES (?, ?, ?)", (job.job_id, serial, encode_job(job)))
        self._tally(conversion.state, 1)
        return Ticket(job=job, conversion=conversion)

    def _renew_one(self, renewal: Renewal, until: float) -> bool:
        row = self._find(renewal.lease.conversion_id)
        if row is None or row.conversion.state not in LIVE or row.conversion.token != renewal.lease.token:
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

    def _is_poison(self, conversion: Conversion) -> bool:
        return conversion.state is State.RUNNING and conversion.crashes + 1 >= self.policy.crash_limit

    def _expiry(self, now: float) -> float:
        return now + self.policy.retention_seconds

    def _row(self, lease: Lease) -> _Row:
        row = self._find(lease.conversion_id)
        if row is None:
            raise LeaseLost
        return row

    def _find(self, conversion_id: ConversionId) -> _Row | None:
        rows = self._rows("conversion_id = ?", (conversion_id,))
        return rows[0] if rows else None

    def _rows(self, condition: str, values: tuple[str | float, ...]) -> list[_Row]:
        query = f"SELECT {_COLUMNS} FROM conversions WHERE {condition}"  # noqa: S608 - the condition is this module's
        return [
            _Row(
                serial=serial,
                serving=bool(serving),
                riders=riders,
                jobs=jobs,
                conversion=decode_conversion(record),
                unknown=unknown_fields(record),
            )
            for serial, serving, riders, jobs, record in self.connection.execute(query, values).fetchall()
        ]

    def _save(self, row: _Row, conversion: Conversion) -> Conversion:
        """Keep `conversion` in `row`'s place; with a change of state its riders are tallied anew."""
        self.changed.add(conversion.conversion_id)
        live = conversion.state in LIVE
        serving = row.serving and (live or conversion.state is State.DONE)
        self.connection.execute(
            "UPDATE conversions SET serving = ?, riders = ?, jobs = ?, due_at = ?, expires_at = ?, record = ?"
            " WHERE serial = ?",
            (
                serving,
                row.riders,
                row.jobs,
                conversion.due_at if live else None,
                None if live else conversion.expires_at,
                encode_conversion(conversion, row.unknown),
                row.serial,
            ),
        )
        if conversion.state is not row.conversion.state:
            self._tally(row.conversion.state, -row.riders)
            self._tally(conversion.state, row.riders)
        return conversion

    def _tally(self, state: State, change: int) -> None:
        if change:
            self.connection.execute("UPDATE tallies SET jobs = jobs + ? WHERE state = ?", (change, state.value))


def _demand(conversion: Conversion, lease: Lease) -> None:
    """Refuse all but the holder of a running conversion."""
    if conversion.state is not State.RUNNING or conversion.token != lease.token:
        raise LeaseLost


def _was_retried(conversion: Conversion, lease: Lease, code: FailureCode) -> bool:
    """Whether this is the trace of the same call: its reply was lost, and nobody has adopted the conversion since."""
    return (
        conversion.state is State.QUEUED
        and conversion.holder is None
        and conversion.token == lease.token + 1
        and conversion.error is code
    )
