"""Decides whether a new conversion may be created in this instance now; a refusal says why and when to retry.

A job that joins a conversion, or finds a finished track, needs no queue slot. It is accepted even if the queue or the
disk is full. A client whose quota of unfinished jobs is used up may join no unfinished conversion either, and one that
has too many jobs in the store gets no job at all.

A queue slot is reserved before the call to the store, and the call says whether there is one. In the opposite order,
the store could create a conversion for which the queue has no slot. The cost: a submission that joins a conversion
holds a slot for some milliseconds without need.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ytmp3.core.client import Client
from ytmp3.core.errors import ClientQuota, QueueFull, RequestError, StorageFull, Unready, UpstreamBlocked
from ytmp3.core.ids import ClientId, ConversionId
from ytmp3.core.job import Conversion
from ytmp3.engine.client_jobs import ClientJobs
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.health import Health
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.engine.upstream import Upstream
from ytmp3.jobstore import Submitted

STORAGE_RETRY_SECONDS: Final = 60
"""The `Retry-After`, in seconds, while the disk is full. Expired tracks are removed every 30 s, which may free
space."""
BATCH_SHARE: Final = 20
"""Most unfinished conversions, in one instance, of one client that its batches add to. It is the default number of
workers: a client that is alone keeps all of them busy, and the queue stays free for others."""
TOO_MANY_KEPT: Final = "This client has as many jobs as the job store keeps for one client, ended ones included."
UNREADY_RETRY_SECONDS: Final = 5
"""The `Retry-After`, in seconds, of an instance that is not ready. The store is checked every second, the disk every
3 s, and a failing tool every 15 s."""

FindClient = Callable[[ClientId], Client]


class QueueSlot:
    """A queue slot that is reserved for one submission, or the refusal if none could be reserved."""

    def __init__(self, queue: FairQueue, refusal: RequestError | None) -> None:
        self._queue = queue
        self.refusal = refusal
        self.may_join = not isinstance(refusal, ClientQuota)
        """Whether the submission may join an unfinished conversion all the same."""
        self._is_reserved = refusal is None
        self.submitted: Submitted | None = None
        """What the store has accepted: set by the caller. None before, and after a failure."""

    def fill(self, conversion: Conversion) -> None:
        """Put the new conversion into the queue."""
        self._is_reserved = False
        self._queue.fill_reservation(conversion)

    def give_up(self) -> None:
        """Free the slot, unless it was filled."""
        if self._is_reserved:
            self._is_reserved = False
            self._queue.cancel_reservation()


class Capacity:
    """Checks the instance, the client's jobs, the disk and the queue, in this order."""

    def __init__(
        self,
        clients: ClientJobs,
        *,
        queue: FairQueue,
        runs: Runs,
        upstream: Upstream,
        health: Health,
        estimates: Estimates,
        find_client: FindClient = lambda owner: Client(owner=owner),
    ) -> None:
        self._clients = clients
        self.find_client = find_client
        """Returns a client with its limits, by the owner of a batch."""
        self._queue = queue
        self._runs = runs
        self._upstream = upstream
        self._health = health
        self._estimates = estimates
        self._arriving: Counter[ClientId] = Counter()
        """Number of each client's submissions that wait for the store. They count against the client's quota."""

    # A submission that waits for the store is neither queued nor running. It is counted all the same: by its reserved
    # slot, and in `_arriving`. Otherwise a burst of submissions would exceed the queue's bound and the client's quota.

    @contextmanager
    def slot(self, client: Client) -> Iterator[QueueSlot]:
        """Reserve a queue slot for the duration of a submission. It is freed at the end unless it was filled.

        Raises:
            ClientQuota: the client has too many jobs in the store.
        """
        if wait_seconds := math.ceil(self._clients.begin(client.owner)):
            raise ClientQuota(TOO_MANY_KEPT, retry_after_seconds=self._estimates.spread_seconds(wait_seconds))
        refusal = self._refusal(client)
        if refusal is None and not self._queue.reserve():
            refusal = self._full()
        slot = QueueSlot(self._queue, refusal)
        self._arriving[client.owner] += 1
        try:
            yield slot
        finally:
            self._arriving -= Counter((client.owner,))
            self._clients.end(client, slot.submitted)
            slot.give_up()

    def holds(self, conversion_id: ConversionId) -> bool:
        """Return whether a conversion waits or runs here already."""
        return self._runs.holds(conversion_id) or self._queue.holds(conversion_id)

    @property
    def may_list(self) -> bool:
        """Whether a playlist may be read now: not while YouTube refuses or cannot be reached."""
        return not self._upstream.is_blocked

    def batch_room(self, client: Client) -> int:
        """Return how many more items the batches of a client may open now.

        Batches use at most half of the queue, so that single requests always find a slot. All batches of one client
        together get BATCH_SHARE conversions at once, and no more than the client's quota. Items that wait for a retry
        count against the quota only, so that a few of them do not stop a batch. None opens while no conversion can
        start.
        """
        if self._health.is_storage_low or self._upstream.is_blocked:
            return 0
        arriving = self._arriving[client.owner]
        room = BATCH_SHARE - self._clients.active_of(client.owner) - arriving
        if max_jobs := self._clients.max_jobs(client):
            room = min(room, max_jobs - self._clients.unfinished_of(client.owner) - arriving)
        return max(0, min(room, self._queue.free_slots - self._queue.maxsize // 2))

    def _refusal(self, client: Client) -> RequestError | None:
        """Return the refusal of a faulty instance, for an exhausted quota or a full disk, or None.

        The queue is not checked here.
        """
        if self._health.fault is not None:
            return Unready(retry_after_seconds=UNREADY_RETRY_SECONDS)
        max_jobs, arriving = self._clients.max_jobs(client), self._arriving[client.owner]
        if max_jobs and self._clients.unfinished_of(client.owner) + arriving >= max_jobs:
            return ClientQuota(retry_after_seconds=self._own_end_seconds(client.owner))
        if self._health.is_storage_low:
            return StorageFull(retry_after_seconds=STORAGE_RETRY_SECONDS)
        return None

    def _own_end_seconds(self, client: ClientId) -> int:
        """Return the seconds until one of the client's conversions is likely to end, which frees its quota.

        If the client has none, but has joined others, that is the time of a running conversion.

        The result is randomised, so that the refused requests of one client do not all return at the same moment.
        """
        is_running = self._clients.conversions_of(client) > self._queue.length_of(client)
        places = (place for place, waiting in enumerate(self._queue.in_order(), start=1) if waiting.client == client)
        position = None if is_running else next(places, None)
        return self._estimates.spread_seconds(self._estimates.eta_seconds(client, position=position, progress=0.0))

    def _full(self) -> RequestError:
        """Return the refusal of a full queue, which names the pause if that is why nothing leaves the queue.

        While a trial runs, no pause is left; a slot takes its usual time to become free then, if the trial succeeds.
        """
        slot_seconds = self._estimates.slot_wait_seconds()
        blocked_seconds = self._upstream.blocked_seconds()
        if blocked_seconds:
            return UpstreamBlocked(retry_after_seconds=max(blocked_seconds, slot_seconds))
        return QueueFull(retry_after_seconds=slot_seconds)
