"""Whether a new conversion may be created here now, and if not, why and when to come back.

Only creating is refused. A job that joins a conversion, or finds a finished track, needs no slot and is always
accepted, also on a full disk and beyond the client's quota.

A slot is set aside before the store is asked, and the store is told if there is none. The other order would create
conversions that have no place in the queue. The price is that a submission which turns out to need no slot keeps one
for the few milliseconds that it takes.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ytmp3.core.client import Client
from ytmp3.core.errors import ClientQuota, QueueFull, RequestError, StorageFull, UpstreamBlocked
from ytmp3.core.ids import ClientId
from ytmp3.core.job import Conversion
from ytmp3.engine.estimates import Estimates
from ytmp3.engine.health import Health
from ytmp3.engine.queue import FairQueue
from ytmp3.engine.runs import Runs
from ytmp3.engine.upstream import Upstream

STORAGE_RETRY_SECONDS: Final = 60
"""The `Retry-After`, in seconds, of a full disk: expired tracks are removed every 30 s."""


class QueueSlot:
    """A place in the queue, set aside for one submission; or the reason why there is none."""

    def __init__(self, queue: FairQueue, refusal: RequestError | None) -> None:
        self._queue = queue
        self.refusal = refusal
        self._is_reserved = refusal is None

    def fill(self, conversion: Conversion) -> None:
        """Put the conversion that was created into the queue."""
        self._is_reserved = False
        self._queue.fill_reservation(conversion)

    def give_up(self) -> None:
        """Free the place, unless it was filled."""
        if self._is_reserved:
            self._is_reserved = False
            self._queue.cancel_reservation()


class Capacity:
    """Judges by the disk, the client's quota and the queue, in this order."""

    def __init__(
        self,
        client_max_jobs: int,
        *,
        queue: FairQueue,
        runs: Runs,
        upstream: Upstream,
        health: Health,
        estimates: Estimates,
    ) -> None:
        self._client_max_jobs = client_max_jobs
        self._queue = queue
        self._runs = runs
        self._upstream = upstream
        self._health = health
        self._estimates = estimates
        self._arriving: Counter[ClientId] = Counter()
        """Submissions of each client that the store has not answered yet: they count against its quota."""

    # While a submission waits for the store, it is neither queued nor running, but it counts as both: as a reserved
    # slot, and in `_arriving`. Otherwise a burst of submissions would pass the queue's bound and the client's quota.

    @contextmanager
    def slot(self, client: Client) -> Iterator[QueueSlot]:
        """Set a slot aside while a submission is under way; it is freed at the end unless it was filled."""
        refusal = self._refusal(client)
        if refusal is None and not self._queue.reserve():
            refusal = self._full()
        slot = QueueSlot(self._queue, refusal)
        self._arriving[client.owner] += 1
        try:
            yield slot
        finally:
            self._arriving -= Counter((client.owner,))
            slot.give_up()

    def unfinished_of(self, client: ClientId) -> int:
        """Count the conversions that a client has waiting or running here."""
        return self._queue.clients()[client] + self._runs.by_client()[client]

    def _refusal(self, client: Client) -> RequestError | None:
        """Return why this client may not create a conversion now; the queue is not looked at here."""
        if self._health.is_storage_low:
            return StorageFull(retry_after_seconds=STORAGE_RETRY_SECONDS)
        max_jobs = self._client_max_jobs if client.key is None or client.key.max_jobs is None else client.key.max_jobs
        unfinished = self.unfinished_of(client.owner) + self._arriving[client.owner]
        if max_jobs and unfinished >= max_jobs:
            return ClientQuota(retry_after_seconds=self._own_end_seconds(client.owner))
        return None

    def _own_end_seconds(self, client: ClientId) -> int:
        """Return when one of the client's own conversions may have ended: only that frees its quota.

        It is spread, so that the refused requests of one client do not all come back at the same moment.
        """
        is_running = self.unfinished_of(client) > self._queue.clients()[client]
        places = (place for place, waiting in enumerate(self._queue.in_order(), start=1) if waiting.client == client)
        position = None if is_running else next(places, None)
        return self._estimates.spread_seconds(self._estimates.eta_seconds(position=position, progress=0.0))

    def _full(self) -> RequestError:
        """Return the refusal of a full queue, which names YouTube if that is why nothing leaves the queue."""
        blocked_seconds = self._upstream.blocked_seconds()
        if blocked_seconds:
            return UpstreamBlocked(retry_after_seconds=blocked_seconds)
        return QueueFull(retry_after_seconds=self._estimates.slot_wait_seconds())
