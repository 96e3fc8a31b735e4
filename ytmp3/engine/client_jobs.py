"""Counts the jobs of each client, so that one client can neither occupy this instance alone nor fill the job store.

There are three counts. *Joined* jobs share the unfinished conversion of another job. *Retrying* conversions have failed
and wait in the store for their next attempt. Both count against CLIENT_MAX_JOBS, like the client's conversions that
wait or run here. Otherwise a client whose videos fail could fill the job store: in an incident at YouTube, all videos
fail.
*Kept* jobs are all jobs in the store, including those of finished tracks: each is a record that is kept for the
retention. They count against CLIENT_MAX_KEPT_JOBS.

All counts are local to this instance and start at zero when it starts. They limit clients, but are not exact. Exact
counts would need a call to the store for each submission, also for those that are refused, which is the moment when the
store must be spared.

Where a count is uncertain, it errs in favour of the client in the end: a job whose end this instance cannot see stops
counting after ELSEWHERE_SECONDS. A count that could stay too high forever would lock the client out.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ytmp3.core.buckets import TokenBuckets
from ytmp3.core.client import Client
from ytmp3.core.ids import ClientId, ConversionId, JobId
from ytmp3.core.job import Conversion, Ticket
from ytmp3.core.states import LIVE
from ytmp3.engine import events
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.engine.settings import EngineSettings
from ytmp3.jobstore import Outcome, Submitted

ELSEWHERE_SECONDS: Final = 120.0
"""How long, in seconds, a job counts that has joined a conversion of another instance, because this instance does not
see the end of that conversion. Most conversions take less time. A conversion whose retry is due counts for as long, if
another instance has adopted it."""


class _Joined(Struct, frozen=True):
    conversion_id: ConversionId
    at: float


class JoinedJobs:
    """The jobs that have joined an unfinished conversion, by client."""

    def __init__(self, *, queue: FairQueue, runs: Runs, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._runs = runs
        self._clock = clock
        self._by_client: OrderedDict[ClientId, dict[JobId, _Joined]] = OrderedDict()
        """No dict is empty. The client whose count was updated longest ago is first."""
        self._by_conversion: defaultdict[ConversionId, set[tuple[ClientId, JobId]]] = defaultdict(set)
        """The same jobs by conversion. No set is empty."""

    def add(self, ticket: Ticket) -> None:
        """Count a job that has joined an unfinished conversion."""
        client, job_id, conversion_id = ticket.job.client, ticket.job.job_id, ticket.conversion.conversion_id
        self._by_client.setdefault(client, {})[job_id] = _Joined(conversion_id, self._clock())
        self._by_conversion[conversion_id].add((client, job_id))
        # Each new job also updates the count of one client, so that clients which never return are removed too.
        oldest = next(iter(self._by_client))
        if self.count(oldest):
            self._by_client.move_to_end(oldest)

    def count(self, client: ClientId) -> int:
        """Return the number of a client's jobs that have joined a conversion which, as far as known, is unfinished."""
        for job_id, joined in list(self._by_client.get(client, {}).items()):
            if not self._may_be_unfinished(joined):
                self._remove(client, job_id, joined.conversion_id)
        return len(self._by_client.get(client, ()))

    def on_event(self, event: events.Event) -> None:
        """Forget the jobs whose conversion has ended, and cancelled jobs. This is a listener."""
        match event:
            case events.Finished() | events.Failed() | events.Cancelled():
                conversion_id = event.conversion.conversion_id
                for client, job_id in list(self._by_conversion.get(conversion_id, ())):
                    self._remove(client, job_id, conversion_id)
            case events.JobCancelled(ticket=ticket):
                self._remove(ticket.job.client, ticket.job.job_id, ticket.conversion.conversion_id)
            case _:
                pass

    def _may_be_unfinished(self, joined: _Joined) -> bool:
        """Return whether a job may still count against its client's limit, without asking the store.

        A job that joined a conversion of another instance is counted for ELSEWHERE_SECONDS, because this instance does
        not learn of its end.
        """
        now = self._clock()
        return (
            now - joined.at < ELSEWHERE_SECONDS
            or self._runs.holds(joined.conversion_id)
            or joined.conversion_id in self._queue.positions(now)
        )

    def _remove(self, client: ClientId, job_id: JobId, conversion_id: ConversionId) -> None:
        jobs, sharing = self._by_client.get(client, {}), self._by_conversion.get(conversion_id, set())
        if jobs.pop(job_id, None) is not None and not jobs:
            del self._by_client[client]
        sharing.discard((client, job_id))
        if not sharing:
            self._by_conversion.pop(conversion_id, None)


class RetryingConversions:
    """The conversions that have failed at this instance and wait for another attempt, by client."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_client: dict[ClientId, dict[ConversionId, float]] = {}
        """Until when each of them counts, by the engine's clock. No dict is empty."""
        self._clients: OrderedDict[ConversionId, ClientId] = OrderedDict()
        """The client of each of them, in the order of their last failures."""

    def count(self, client: ClientId) -> int:
        """Return the number of a client's conversions that, as far as known, wait for another attempt."""
        now = self._clock()
        for conversion_id, until in list(self._by_client.get(client, {}).items()):
            if until <= now:
                self._remove(conversion_id)
        return len(self._by_client.get(client, ()))

    def on_event(self, event: events.Event) -> None:
        """Start or stop counting a conversion. This is a listener."""
        match event:
            case events.Retried(conversion=conversion) | events.Postponed(conversion=conversion):
                self._add(conversion, event.delay_seconds)
            case events.Adopted(conversions=conversions):
                # From now on, the queue counts them.
                for conversion in conversions:
                    self._remove(conversion.conversion_id)
            case events.JobCancelled(ticket=ticket) if ticket.conversion.state not in LIVE:
                self._remove(ticket.conversion.conversion_id)
            case _:
                pass

    def _add(self, conversion: Conversion, delay_seconds: float) -> None:
        self._remove(conversion.conversion_id)
        until = self._clock() + delay_seconds + ELSEWHERE_SECONDS
        self._by_client.setdefault(conversion.client, {})[conversion.conversion_id] = until
        self._clients[conversion.conversion_id] = conversion.client
        # Each addition also removes outdated entries of the client with the oldest one. Otherwise the entries of
        # clients that never return would stay.
        oldest = next(iter(self._clients))
        self.count(self._clients[oldest])
        if oldest in self._clients:
            self._clients.move_to_end(oldest)

    def _remove(self, conversion_id: ConversionId) -> None:
        client = self._clients.pop(conversion_id, None)
        if client is not None:
            del self._by_client[client][conversion_id]
            if not self._by_client[client]:
                del self._by_client[client]


class ClientJobs:
    """The number of jobs of each client at this instance, and its limits. `retention_seconds` is that of the job store.

    The kept jobs are bounded by token buckets that hold half of the limit, and gain the other half in one retention. So
    in any retention, the time after which the store forgets a job, no client makes more jobs than the limit.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        retention_seconds: float,
        queue: FairQueue,
        runs: Runs,
        clock: Callable[[], float],
    ) -> None:
        self._max_jobs = settings.client_max_jobs
        self._queue = queue
        self._runs = runs
        self._clock = clock
        self.joined = JoinedJobs(queue=queue, runs=runs, clock=clock)
        self.retrying = RetryingConversions(clock)
        most = settings.client_max_kept_jobs
        self._kept = (
            TokenBuckets(rate_per_second=most / 2 / retention_seconds, burst=max(1, most // 2)) if most else None
        )

    def max_jobs(self, client: Client) -> int:
        """Return how many unfinished jobs a client may have; 0: any number."""
        of_key = None if client.key is None else client.key.max_jobs
        return self._max_jobs if of_key is None else of_key

    def conversions_of(self, client: ClientId) -> int:
        """Count the conversions that a client has waiting or running here."""
        return self._queue.length_of(client) + self._runs.by_client()[client]

    def active_of(self, client: ClientId) -> int:
        """Count these conversions, plus the client's jobs that have joined other conversions."""
        return self.conversions_of(client) + self.joined.count(client)

    def unfinished_of(self, client: ClientId) -> int:
        """Count the same, plus the client's conversions that wait for a retry."""
        return self.active_of(client) + self.retrying.count(client)

    def on_event(self, event: events.Event) -> None:
        """Update the counts. This is a listener."""
        self.joined.on_event(event)
        self.retrying.on_event(event)

    def begin(self, client: ClientId) -> float:
        """Count a job that is about to be stored. `end` must follow.

        It is counted before the call to the store, not after it: otherwise a client that sends many requests at once
        would pass the check with all of them before the first one is counted.

        Returns:
            0; or, if the client may not have another job in the store, the seconds until it may. Then nothing is
            counted, and no `end` follows.
        """
        if self._kept is None or self._kept.take(client, self._clock()):
            return 0.0
        return self._kept.state(client, self._clock()).wait_seconds

    def end(self, client: Client, submitted: Submitted | None) -> None:
        """Record the result of a submission; None: no job was stored.

        Only a job that has joined another conversion is added to a count here. A new conversion is counted where it is:
        in the queue, or among the runs.
        """
        if submitted is None:
            if self._kept is not None:
                self._kept.put_back(client.owner, self._clock())
        elif submitted.outcome is Outcome.JOINED and self.max_jobs(client):
            self.joined.add(submitted.ticket)
