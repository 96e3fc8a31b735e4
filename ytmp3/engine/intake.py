"""A link becomes a job: find its key, ask for a slot, attach to what is there or create it; or refuse, storing nothing.

Also the ways back: a job's ticket for its owner, and its cancellation.
"""

import logging
import math
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ytmp3.core.client import Client
from ytmp3.core.errors import (
    ClientQuota,
    Draining,
    JobUnknown,
    QueueFull,
    RequestError,
    StorageFull,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UpstreamBlocked,
)
from ytmp3.core.estimates import LONGEST_WAIT_SECONDS, eta_seconds
from ytmp3.core.ids import ClientId, VideoId, new_conversion_id, new_job_id, parse_job_id
from ytmp3.core.job import State, Ticket
from ytmp3.core.link import parse_video_id
from ytmp3.core.recipe import Recipe, conversion_key
from ytmp3.engine.health import Health
from ytmp3.engine.workers import Pool
from ytmp3.jobstore import JobStore, Outcome, Submission, Submitted
from ytmp3.metrics import Metrics
from ytmp3.storage import Storage

log = logging.getLogger(__name__)
T = TypeVar("T")

ID_BYTES: Final = 16
DRAIN_RETRY_SECONDS: Final = 5
"""Another instance, or this one's successor, answers by then."""
STORE_RETRY_SECONDS: Final = 2
STORAGE_RETRY_SECONDS: Final = 60


class Intake:
    """Where jobs come in. Raises RequestErrors only."""

    def __init__(
        self,
        *,
        store: JobStore,
        storage: Storage,
        pool: Pool,
        health: Health,
        metrics: Metrics,
        chance: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._storage = storage
        self._pool = pool
        self._health = health
        self._metrics = metrics
        self._chance = chance
        self._arriving: Counter[str] = Counter()
        """Submissions of each client that the store has not answered yet: they count against its quota."""

    async def submit(self, link: str, recipe: Recipe, client: Client) -> Ticket:
        """Make a job of a link. When it returns, the job is durable.

        Raises:
            UnsupportedUrl, NotAVideo: nothing was looked up or stored.
            Draining, QueueFull, ClientQuota, StorageFull, UpstreamBlocked, StoreUnavailable: nothing was stored.
        """
        video_id = parse_video_id(link)
        if self._health.is_draining:
            raise Draining(retry_after_seconds=DRAIN_RETRY_SECONDS)
        submitted = await self._submit(video_id, recipe, client)
        if submitted.outcome is Outcome.CACHED and not self._is_whole(submitted.ticket):
            log.warning("a finished track is missing: converting again", extra={"video_id": video_id})
            await _translated(self._store.forget(submitted.ticket.conversion.conversion_id))
            submitted = await self._submit(video_id, recipe, client)
        self._metrics.jobs.labels(submitted.outcome).inc()
        log.info(
            "job accepted",
            extra={
                "job_id": submitted.ticket.job.job_id,
                "conversion_id": submitted.ticket.conversion.conversion_id,
                "video_id": video_id,
                "quality": recipe.quality,
                "outcome": submitted.outcome,
            },
        )
        return submitted.ticket

    async def ticket(self, job_id: str, client: ClientId | None) -> Ticket:
        """Return a job. `client` is its owner, or None where jobs are open to whoever knows the id.

        Raises:
            JobUnknown: also for another client's job.
            StoreUnavailable
        """
        known_form = parse_job_id(job_id)
        if known_form is None:
            raise JobUnknown
        ticket = await _translated(self._store.get(known_form))
        if ticket is None or (client is not None and ticket.job.client != client):
            raise JobUnknown
        return ticket

    async def cancel(self, job_id: str, client: ClientId | None) -> Ticket:
        """Cancel a job; the work stops when no other job rides on it.

        Raises:
            JobUnknown, StoreUnavailable
        """
        known = await self.ticket(job_id, client)
        ticket = await _translated(self._store.cancel(known.job.job_id))
        if ticket is None:
            raise JobUnknown
        log.info("job cancelled", extra={"job_id": job_id, "conversion_id": ticket.conversion.conversion_id})
        if ticket.conversion.state is State.CANCELLED:
            self._pool.take_back(ticket.conversion.conversion_id)
        return ticket

    async def _submit(self, video_id: VideoId, recipe: Recipe, client: Client) -> Submitted:
        refusal = self._refusal(client)
        queue = self._pool.queue
        if refusal is None and not queue.reserve():
            refusal = self._full()
        key = conversion_key(video_id, recipe)
        submission = Submission(
            job_id=new_job_id(key, self._chance(ID_BYTES)),
            conversion_id=new_conversion_id(key, self._chance(ID_BYTES)),
            video_id=video_id,
            recipe=recipe,
            client=client.owner,
        )
        submitted: Submitted | None = None
        self._arriving[client.owner] += 1
        try:
            submitted = await _translated(self._store.submit(submission, may_create=refusal is None))
        finally:
            self._arriving -= Counter((client.owner,))
            if refusal is None:
                if submitted is not None and submitted.outcome is Outcome.CREATED:
                    queue.fill_reservation(submitted.ticket.conversion)
                else:
                    queue.cancel_reservation()
        if submitted is None:
            raise refusal if refusal is not None else StoreUnavailable(retry_after_seconds=STORE_RETRY_SECONDS)
        return submitted

    def _refusal(self, client: Client) -> RequestError | None:
        """Why a new conversion may not be created now, whatever the queue. Attaching is never refused for these."""
        if self._health.is_storage_low:
            return StorageFull(retry_after_seconds=STORAGE_RETRY_SECONDS)
        max_jobs = self._pool.settings.client_max_jobs
        if client.key is not None and client.key.max_jobs is not None:
            max_jobs = client.key.max_jobs
        unfinished = self._pool.unfinished_of(client.owner) + self._arriving[client.owner]
        if max_jobs and unfinished >= max_jobs:
            return ClientQuota(retry_after_seconds=self._own_end_seconds(client.owner))
        return None

    def _own_end_seconds(self, client: ClientId) -> int:
        """Return when one of the client's own conversions may have ended; what the others have says nothing of that."""
        pool = self._pool
        is_running = pool.unfinished_of(client) > pool.queue.clients()[client]
        places = (place for place, waiting in enumerate(pool.queue.in_order(), start=1) if waiting.client == client)
        seconds = eta_seconds(
            position=None if is_running else next(places, None),
            seconds_per_conversion=pool.pace.seconds_per_conversion,
            workers=pool.settings.workers,
            progress=0.0,
        )
        # Chance, so that one client's many requests do not come back as one.
        spread = self._chance(1)[0] / 256
        return min(LONGEST_WAIT_SECONDS, math.ceil(seconds * (1.0 + spread)))

    def _full(self) -> RequestError:
        blocked_seconds = self._pool.blocked_seconds()
        if blocked_seconds:
            return UpstreamBlocked(retry_after_seconds=blocked_seconds)
        return QueueFull(retry_after_seconds=self._pool.slot_wait_seconds())

    def _is_whole(self, ticket: Ticket) -> bool:
        track = ticket.conversion.track
        return track is not None and self._storage.exists(track.file_name, track.size_bytes)


async def _translated(operation: Awaitable[T]) -> T:
    """Await a store operation; what goes wrong becomes an answer to the client."""
    try:
        return await operation
    except StoreFull as error:
        raise StorageFull(retry_after_seconds=STORAGE_RETRY_SECONDS) from error
    except StoreError as error:
        raise StoreUnavailable(retry_after_seconds=STORE_RETRY_SECONDS) from error
