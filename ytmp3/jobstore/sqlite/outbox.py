"""The outbox in the store's file: the ended jobs whose deliveries must be created, and the deliveries.

The tables, which `queries` creates:

* `hooked` has the jobs with webhooks, until their deliveries are created.
* `announced` has the ended conversions with rows in `hooked`. The step that ends a conversion adds one row here, so it
  takes the same time for one job and for a hundred thousand.
* `deliveries` has the messages. `due_at` is NULL once a delivery is delivered or has failed.

Why deliveries are not created at the end of a conversion: a conversion may have thousands of jobs, and the transaction
that ends it would keep every other operation waiting. So that step leaves a note, and `take` creates a limited number
of deliveries at a time. The note is in the same transaction as the end, so no message is lost by a crash between them.

The functions of `Deliveries` run on the writer's thread, in a transaction that the writer has begun; `ledger` calls
those that belong to its own steps. `SqliteOutbox` is what the rest of the service uses.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ytmp3.core import webhook
from ytmp3.core.errors import StoreUnusable
from ytmp3.core.ids import JobId
from ytmp3.core.job import EVENT_OF_STATE, State
from ytmp3.core.webhook import (
    Delivery,
    DeliveryId,
    DeliveryState,
    Settlement,
    WebhookEvent,
    WebhookTarget,
    deliveries_of,
)
from ytmp3.jobstore.outbox import JOBS_AT_ONCE
from ytmp3.jobstore.records import decode_conversion, decode_job
from ytmp3.jobstore.sqlite import queries

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Delivery)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """The operations on the tables."""

    connection: sqlite3.Connection
    clock: Callable[[], float]

    def hook(self, job_id: JobId, serial: int, state: State) -> None:
        """Record that a new job has webhooks. The job may have ended already, if its track exists.

        Then there is no later step that ends its conversion, so its message is noted here.
        """
        self.connection.execute(queries.HOOK_JOB, (job_id, serial))
        self.note_end(serial, state)

    def note_end(self, serial: int, state: State) -> None:
        """Record that the conversion with this row has ended in `state`, if webhooks report that and a job has any."""
        if state in EVENT_OF_STATE:
            self.connection.execute(queries.ANNOUNCE_CONVERSION, (serial,))

    def announce(self, subject_id: str, event: WebhookEvent, targets: tuple[WebhookTarget, ...]) -> None:
        """Create the deliveries of an event. For a step that does not end a conversion but, for instance, a batch."""
        for delivery in deliveries_of(subject_id, event, targets, now=self.clock()):
            values = (delivery.delivery_id, subject_id, delivery.due_at, _encode(delivery))
            self.connection.execute(queries.INSERT_DELIVERY, values)

    def forget(self, subject_ids: Iterable[str]) -> None:
        """Remove everything about these subjects, in the transaction that removes their records.

        An instance that is just sending one of these messages finds no delivery when it settles it, and ignores that.
        """
        for subject_id in subject_ids:
            self.connection.execute(queries.UNHOOK_JOB, (subject_id,))
            self.connection.execute(queries.DELETE_DELIVERIES, (subject_id,))

    def recover(self) -> None:
        """Limit the due times of deliveries to the longest delay, in case the system clock was set back meanwhile."""
        latest = self.clock() + webhook.LONGEST_DELAY_SECONDS
        self.connection.execute(queries.LIMIT_DUE_DELIVERIES, (latest, latest))

    def take(self, limit: int, *, lease_seconds: float) -> list[Delivery]:
        """Make the deliveries of ended conversions, and lease those that are due.

        In this order, so that the message about a job that has just ended is taken by the same call. A note is deleted
        only when all jobs of its conversion have their deliveries; a large conversion takes several calls.
        """
        for (job_id,) in self._rows(queries.SELECT_ANNOUNCED_JOBS, (JOBS_AT_ONCE,)):
            self._expand(job_id)
        self.connection.execute(queries.DELETE_ANNOUNCED, (JOBS_AT_ONCE,))
        now = self.clock()
        due = [_decode(record) for (record,) in self._rows(queries.SELECT_DUE_DELIVERIES, (now, limit))]
        return [self._save(webhook.taken(delivery, until=now + lease_seconds)) for delivery in due]

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Store the results whose tokens are current.

        The others are late: the lease ran out, and the message was taken again. To store them would end or postpone a
        message that is being sent.
        """
        now = self.clock()
        for settlement in settlements:
            delivery = self._find(settlement.delivery_id)
            if delivery is not None and webhook.accepts(delivery, settlement):
                self._save(webhook.settled(delivery, settlement, now=now))

    def of(self, subject_id: str) -> list[Delivery]:
        """Return the deliveries of a subject. If it is a job that has ended, make them first."""
        self._expand(subject_id)
        records = self._rows(queries.SELECT_DELIVERIES, (subject_id,))
        return sorted((_decode(record) for (record,) in records), key=_number)

    def redeliver(self, delivery_id: DeliveryId) -> Delivery | None:
        """Make a delivery due at once."""
        delivery = self._find(delivery_id)
        return None if delivery is None else self._save(webhook.redelivered(delivery, now=self.clock()))

    def _expand(self, job_id: str) -> None:
        """Make the deliveries of a hooked job if its conversion has ended, and unhook it.

        A cancelled job gets none, because its owner has cancelled it. It is unhooked nevertheless: otherwise the note
        of its conversion would never be deleted.
        """
        for job_record, conversion_record in self._rows(queries.SELECT_HOOKED_JOB, (job_id,)):
            job, event = decode_job(job_record), EVENT_OF_STATE.get(decode_conversion(conversion_record).state)
            if event is None:
                return
            if job.cancelled_at is None:
                self.announce(job_id, event, job.webhooks)
            self.connection.execute(queries.UNHOOK_JOB, (job_id,))

    def _find(self, delivery_id: DeliveryId) -> Delivery | None:
        for (record,) in self._rows(queries.SELECT_DELIVERY, (delivery_id,)):
            return _decode(record)
        return None

    def _save(self, delivery: Delivery) -> Delivery:
        """Replace the record of a delivery. Only a pending one has a due time, by which the sender finds it."""
        due_at = delivery.due_at if delivery.state is DeliveryState.PENDING else None
        self.connection.execute(queries.UPDATE_DELIVERY, (due_at, _encode(delivery), delivery.delivery_id))
        return delivery

    def _rows(self, query: str, values: tuple[str | float, ...]) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()


def _number(delivery: Delivery) -> int:
    return int(delivery.delivery_id.rpartition("-")[2])


def _decode(record: bytes) -> Delivery:
    """Decode a record. Raises StoreUnusable, which names the cause to the operator: the file is damaged."""
    try:
        return _decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StoreUnusable(f"a record of a delivery cannot be read: {error}") from None


class Run(Protocol):
    """Runs an operation on the writer's thread, and returns its result when it is durable."""

    def __call__(self, operation: Callable[[Deliveries], T_co]) -> Awaitable[T_co]:
        """Run it."""
        ...


class SqliteOutbox:
    """The `Outbox` of the embedded store."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def take(self, limit: int, *, lease_seconds: float) -> list[Delivery]:
        return await self._run(lambda deliveries: deliveries.take(limit, lease_seconds=lease_seconds))

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        if settlements:
            await self._run(lambda deliveries: deliveries.settle(settlements))

    async def of(self, subject_id: str) -> list[Delivery]:
        return await self._run(lambda deliveries: deliveries.of(subject_id))

    async def redeliver(self, delivery_id: DeliveryId) -> Delivery | None:
        return await self._run(lambda deliveries: deliveries.redeliver(delivery_id))
