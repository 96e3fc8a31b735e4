"""Follows jobs for clients that receive changes as events, so that they need not poll.

`Subscriptions` exists once in an instance. It has the newest record of each conversion that a client follows here. A
`Subscription` belongs to one client: it has the jobs that the client follows, and knows which of them have changed
since they were last taken. No changes are queued: a slow client takes the newest state and misses earlier ones.

Where changes come from:

* Conversions that run in this instance: the engine's events. Progress comes from memory, without a call to the store.
* Conversions of other instances: the store's hints (`jobstore.Hints`). A hint only says that a record may have changed,
  and it may be lost. So the record is read after each hint, and every POLL_SECONDS in any case.

As everywhere in the engine, the stored record is authoritative.

What a client is promised: the state of each job when it begins to follow it, and after each change the newest state, at
the latest when the records are polled. It is not promised every state in between.

Two orders make this true. A conversion is watched before its record is read, so a change between the two leads to a
hint. And a reply of the store is dropped if an event has arrived since the question (`_Topic.version`): it may be older
than the event, and would make a job go backwards, from `completed` to `processing`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ytmp3.core.ids import ConversionId, JobId
from ytmp3.core.job import Conversion, Job, Stage, State, Status, Ticket
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.engine.jobs import Jobs, Live
from ytmp3.engine.loops import Loops
from ytmp3.engine.runs import Runs
from ytmp3.jobstore import JobStore

POLL_SECONDS: Final = 5.0
"""Interval, in seconds, at which all followed records are read again, in case a hint was lost. Also how soon a client
sees that its position in the queue has changed."""
INTERVAL_SECONDS: Final = 0.5
"""Shortest time, in seconds, between two states of one job that a subscription takes, unless its stage or its status
has changed: two states a second are enough for a smooth progress bar."""
READ_AT_ONCE: Final = 50
"""Most records that are read in one call to the store. Decoding them takes about 3 ms, and requests wait meanwhile."""
_FINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Snapshot(Struct, frozen=True, kw_only=True):
    """The newest state of one followed job."""

    job_id: JobId
    ticket: Ticket | None
    """None if the job no longer exists, because its retention is over."""
    live: Live


class _Topic:
    """One conversion that at least one subscription follows."""

    __slots__ = ("are_jobs_outdated", "conversion", "followed", "is_outdated", "version")

    def __init__(self, conversion: Conversion) -> None:
        self.conversion = conversion
        """The newest known record."""
        self.followed: set[_Followed] = set()
        self.is_outdated = False
        """Whether the record of the conversion has to be read again."""
        self.are_jobs_outdated = False
        """Whether the records of the followed jobs have to be read again too: one may be cancelled or removed."""
        self.version = 0
        """Counts the changes of `conversion`, so that a slow reply of the store does not replace a newer record."""

    def replace(self, conversion: Conversion) -> None:
        """Set the record, which differs from the last one, and mark the jobs."""
        last = self.conversion
        self.conversion = conversion
        self.version += 1
        is_urgent = (last.state, last.stage, last.error) != (conversion.state, conversion.stage, conversion.error)
        for followed in self.followed:
            followed.mark(is_urgent=is_urgent)


class _Followed:
    """One job in one subscription."""

    __slots__ = ("is_urgent", "job", "job_id", "owner", "taken_at", "taken_stage", "topic")

    def __init__(self, job: Job, topic: _Topic, owner: "Subscription") -> None:
        self.job_id = job.job_id
        self.job: Job | None = job
        """None once the job no longer exists."""
        self.topic = topic
        self.owner = owner
        self.is_urgent = False
        """Whether its next state may be taken without waiting for INTERVAL_SECONDS."""
        self.taken_at = float("-inf")
        self.taken_stage: Stage | None = None

    @property
    def ticket(self) -> Ticket | None:
        return None if self.job is None else Ticket(job=self.job, conversion=self.topic.conversion)

    @property
    def has_ended(self) -> bool:
        ticket = self.ticket
        return ticket is None or ticket.status in _FINAL

    def mark(self, *, is_urgent: bool) -> None:
        """Note that the job's state may differ from the one that was last taken."""
        self.owner.on_change(self, is_new=is_urgent and not self.is_urgent)
        self.is_urgent = self.is_urgent or is_urgent

    def apply(self, ticket: Ticket | None) -> None:
        """Update the job from its record; None: it no longer exists.

        Both changes are urgent, because they end the job for its client: it was cancelled, or its retention is over.
        """
        if ticket is None:
            self.job = None
            self.mark(is_urgent=True)
        elif ticket.job != self.job:
            self.job = ticket.job
            self.mark(is_urgent=True)


class Subscription:
    """The jobs that one client follows. Made by `Subscriptions.open`; jobs can be added while it is open."""

    def __init__(
        self, hub: "Subscriptions", jobs: Jobs, *, clock: Callable[[], float], interval_seconds: float
    ) -> None:
        self._hub = hub
        self._jobs = jobs
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._followed: dict[JobId, _Followed] = {}
        self._changed: dict[JobId, _Followed] = {}
        """The jobs whose state may differ from the one that was last taken."""
        self._is_woken = False
        """Whether `wake` was called since `take` last returned."""
        self._news = asyncio.Event()
        """Set when `take` has to check again for changes."""

    @property
    def has_ended(self) -> bool:
        """Whether all jobs have ended: then nothing changes any more, except that records expire."""
        return all(followed.has_ended for followed in self._followed.values())

    def add(self, tickets: Iterable[Ticket]) -> None:
        """Follow further jobs. `take` returns the present state of each of them at once."""
        for ticket in tickets:
            if ticket.job.job_id not in self._followed:
                followed = self._followed[ticket.job.job_id] = self._hub.follow(ticket, self)
                followed.mark(is_urgent=True)

    def remove(self, job_ids: Iterable[JobId]) -> None:
        """Stop following some jobs, such as those that have ended."""
        for job_id in job_ids:
            followed = self._followed.pop(job_id, None)
            self._changed.pop(job_id, None)
            if followed is not None:
                self._hub.unfollow(followed)

    def wake(self) -> None:
        """Make `take` return at once, even if nothing has changed."""
        self._is_woken = True
        self._news.set()

    def on_change(self, followed: _Followed, *, is_new: bool) -> None:
        """Note that a job has changed. `is_new`: its state may now be taken earlier than before.

        A job that is in `_changed` already wakes nobody, unless it has become urgent: `take` sleeps until the first of
        them is due, and progress reports may arrive many times a second.
        """
        if is_new or followed.job_id not in self._changed:
            self._changed[followed.job_id] = followed
            self._news.set()

    async def take(self, seconds: float) -> list[Snapshot]:
        """Return the newest state of each job that has changed since it was last taken, as soon as there is one.

        Returns an empty list if nothing changes for `seconds`, or after `wake`. The event is cleared before the changes
        are looked at: one that arrives later sets it again, so none is missed.
        """
        deadline = self._clock() + seconds
        while True:
            self._news.clear()
            now = self._clock()
            due = [followed for followed in self._changed.values() if self._due(followed) <= now]
            taken = [self._take(followed, now) for followed in due]
            if taken or self._is_woken or now >= deadline:
                self._is_woken = False
                return taken
            next_at = min((self._due(followed) for followed in self._changed.values()), default=deadline)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(deadline, next_at) - now):
                    await self._news.wait()

    def close(self) -> None:
        """Stop following everything."""
        self.remove(list(self._followed))

    def _due(self, followed: _Followed) -> float:
        """Return from when the state of a changed job may be taken."""
        return float("-inf") if followed.is_urgent else followed.taken_at + self._interval_seconds

    def _take(self, followed: _Followed, now: float) -> Snapshot:
        """Return the present state of a job for its subscribers, and note what they have seen, for the next change."""
        del self._changed[followed.job_id]
        followed.is_urgent = False
        followed.taken_at = now
        ticket = followed.ticket
        if ticket is None:
            return Snapshot(job_id=followed.job_id, ticket=None, live=Live())
        live = self._jobs.live(ticket)
        is_running = ticket.status is Status.PROCESSING and live.report is not None
        followed.taken_stage = live.report.stage if is_running and live.report else ticket.conversion.stage
        return Snapshot(job_id=followed.job_id, ticket=ticket, live=live)


class Subscriptions:
    """The conversions that clients follow at this instance, and the tasks that keep their records up to date."""

    def __init__(
        self,
        *,
        store: JobStore,
        jobs: Jobs,
        runs: Runs,
        events: Events,
        clock: Callable[[], float],
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._runs = runs
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._topics: dict[ConversionId, _Topic] = {}
        self._has_outdated = asyncio.Event()
        self._loops = Loops(events)
        events.listen(self.on_event)

    def start(self) -> None:
        """Start the tasks. They do nothing while no job is followed."""
        self._store.hints.start(self.on_hint)
        self._loops.start({"read-followed": (self._read_outdated, 0.0), "poll-followed": (self._poll, POLL_SECONDS)})

    async def close(self) -> None:
        """End the tasks."""
        await self._loops.close()

    @contextlib.contextmanager
    def open(self, tickets: Iterable[Ticket]) -> Iterator[Subscription]:
        """Follow some jobs. The subscription is closed at the end of the block."""
        subscription = Subscription(self, self._jobs, clock=self._clock, interval_seconds=self._interval_seconds)
        try:
            subscription.add(tickets)
            yield subscription
        finally:
            subscription.close()

    def follow(self, ticket: Ticket, owner: Subscription) -> _Followed:
        """Follow a job for `owner`. Its record is read again, because it may have changed since the caller read it."""
        conversion_id = ticket.conversion.conversion_id
        topic = self._topics.get(conversion_id)
        if topic is None:
            topic = self._topics[conversion_id] = _Topic(ticket.conversion)
            self._store.hints.watch(conversion_id)
        followed = _Followed(ticket.job, topic, owner)
        topic.followed.add(followed)
        if not followed.has_ended:
            self._outdate(topic)
        return followed

    def unfollow(self, followed: _Followed) -> None:
        """Undo `follow`."""
        topic = followed.topic
        topic.followed.discard(followed)
        if not topic.followed:
            del self._topics[topic.conversion.conversion_id]
            self._store.hints.unwatch(topic.conversion.conversion_id)

    def on_hint(self, conversion_id: ConversionId | None, are_jobs_outdated: bool) -> None:  # noqa: FBT001  a callback
        """Read a conversion again; None: all of them. The store calls this."""
        if conversion_id is None:
            for topic in self._topics.values():
                self._outdate(topic, are_jobs_outdated=are_jobs_outdated)
        elif are_jobs_outdated or self._runs.get(conversion_id) is None:
            # For a conversion that runs here, the engine's events arrive earlier and contain more than the record.
            self._outdate(self._topics.get(conversion_id), are_jobs_outdated=are_jobs_outdated)

    def on_event(self, event: events.Event) -> None:
        """Apply an event of this instance's engine. This is a listener."""
        match event:
            case events.Progressed(conversion=conversion, report=report):
                topic = self._topics.get(conversion.conversion_id)
                for followed in () if topic is None else topic.followed:
                    followed.mark(is_urgent=report.stage is not followed.taken_stage)
            case events.Started(conversion=conversion) | events.Finished(conversion=conversion):
                topic = self._topics.get(conversion.conversion_id)
                if topic is not None:
                    topic.replace(conversion)
            case events.JobCancelled(ticket=ticket):
                self._outdate(self._topics.get(ticket.conversion.conversion_id), are_jobs_outdated=True)
            case events.Adopted(conversions=conversions):
                for conversion in conversions:
                    self._outdate(self._topics.get(conversion.conversion_id))
            case (
                events.Retried(conversion=conversion)
                | events.Postponed(conversion=conversion)
                | events.Released(conversion=conversion)
                | events.Failed(conversion=conversion)
                | events.Cancelled(conversion=conversion)
                | events.LeaseLost(conversion=conversion)
            ):
                # These events contain the conversion as it was claimed, so its new record must be read.
                self._outdate(self._topics.get(conversion.conversion_id))
            case _:
                pass

    def _outdate(self, topic: _Topic | None, *, are_jobs_outdated: bool = False) -> None:
        """Note that a topic's records may have changed, and wake the task that reads them again."""
        if topic is not None:
            topic.is_outdated = True
            topic.are_jobs_outdated = topic.are_jobs_outdated or are_jobs_outdated
            self._has_outdated.set()

    async def _poll(self) -> None:
        self.on_hint(None, True)  # noqa: FBT003  a callback

    async def _read_outdated(self) -> None:
        """Wait until records have to be read again, and read them. If the store fails, the next poll repeats it.

        The marks are removed before the call to the store. A hint during the call then sets them again, and the record
        is read once more; to remove them afterwards would lose that hint.
        """
        await self._has_outdated.wait()
        self._has_outdated.clear()
        wanted: list[_Followed] = []
        for topic in self._topics.values():
            if topic.are_jobs_outdated:
                wanted += topic.followed
            elif topic.is_outdated:
                # One job is enough, because a job is read together with the record of its conversion.
                wanted += [followed for followed in topic.followed if followed.job is not None][:1]
            topic.is_outdated = topic.are_jobs_outdated = False
        for start in range(0, len(wanted), READ_AT_ONCE):
            some = wanted[start : start + READ_AT_ONCE]
            versions = {followed.topic: followed.topic.version for followed in some}
            found = await self._store.get_many([followed.job_id for followed in some])
            # Jobs in a part of the store that does not reply stay as they are until the next poll.
            some = [followed for followed in some if followed.job_id not in found.unread]
            for topic, version in versions.items():
                if topic.version == version:
                    self._apply(topic, [followed for followed in some if followed.topic is topic], found.tickets)
                elif topic.followed:
                    # An event of the engine arrived during the call to the store, and is newer than the reply.
                    self._outdate(topic, are_jobs_outdated=True)

    def _apply(self, topic: _Topic, read: Sequence[_Followed], tickets: Mapping[JobId, Ticket]) -> None:
        """Update a topic and the jobs that were read."""
        for followed in topic.followed.intersection(read):
            ticket = tickets.get(followed.job_id)
            if ticket is None and followed.job is not None and len(topic.followed) > len(read):
                # The other jobs of the conversion expire with this one.
                self._outdate(topic, are_jobs_outdated=True)
            followed.apply(ticket)
            if ticket is not None and ticket.conversion != topic.conversion:
                topic.replace(ticket.conversion)
            elif topic.conversion.state is State.QUEUED:
                # The position in this instance's queue is not in the record, so it may have changed without it.
                followed.mark(is_urgent=False)
