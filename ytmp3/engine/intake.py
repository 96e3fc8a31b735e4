"""A link becomes a job: find its key, set a slot aside, join its conversion or create one; or refuse.

The rule: a refusal stores nothing and keeps no slot; an accepted job is durable before the client gets a response.

Which job creates a conversion and which ones join it is decided by the store, in one atomic step, because submissions
for one link may arrive at several instances at once. Intake only says whether it could queue a new conversion. If the
process dies after the store has created one and before it is queued here, its lease runs out and it is adopted.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Final

from ytmp3.core.client import Client
from ytmp3.core.errors import Draining, StoreUnavailable
from ytmp3.core.ids import VideoId, new_conversion_id, new_job_id
from ytmp3.core.job import Ticket
from ytmp3.core.link import parse_video_id
from ytmp3.core.recipe import Recipe, conversion_key
from ytmp3.engine import events
from ytmp3.engine.capacity import Capacity
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.jobs import STORE_RETRY_SECONDS, as_request_errors
from ytmp3.jobstore import JobStore, Outcome, Submission, Submitted
from ytmp3.storage import Shelf

log = logging.getLogger(__name__)

ID_BYTES: Final = 16
"""Random bytes in an id. A job's id gives access to the job, so it must not be guessable."""
DRAIN_RETRY_SECONDS: Final = 5
"""The `Retry-After`, in seconds, of an instance that stops: another one, or its successor, answers by then."""


class Intake:
    """Accepts submissions. Raises RequestErrors only."""

    def __init__(
        self,
        *,
        store: JobStore,
        shelf: Shelf,
        capacity: Capacity,
        health: Health,
        events: Events,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._capacity = capacity
        self._health = health
        self._events = events
        self._random_bytes = random_bytes

    async def submit(self, link: str, recipe: Recipe, client: Client) -> Ticket:
        """Make a job of a link. When it returns, the job is durable.

        Called by `POST /extract`. A finished track whose file has disappeared is not handed out: the conversion is
        forgotten, and the link is converted again.

        Raises:
            UnsupportedUrl, NotAVideo: nothing was looked up or stored.
            Draining, QueueFull, ClientQuota, StorageFull, UpstreamBlocked, StoreUnavailable: nothing was stored, as far
                as is known: after StoreUnavailable the same submission may turn out to be stored, and is then joined.
        """
        video_id = parse_video_id(link)
        if self._health.is_draining:
            raise Draining(retry_after_seconds=DRAIN_RETRY_SECONDS)
        submitted = await self._submit(video_id, recipe, client)
        if submitted.outcome is Outcome.CACHED and not await self._is_whole(submitted.ticket):
            log.warning("a finished track is missing: converting again", extra={"video_id": video_id})
            await as_request_errors(self._store.forget(submitted.ticket.conversion.conversion_id))
            submitted = await self._submit(video_id, recipe, client)
        self._events.emit(events.Accepted(ticket=submitted.ticket, outcome=submitted.outcome))
        return submitted.ticket

    async def _submit(self, video_id: VideoId, recipe: Recipe, client: Client) -> Submitted:
        """Ask the store to attach a job or to create a conversion, and queue a created one."""
        key = conversion_key(video_id, recipe)
        submission = Submission(
            job_id=new_job_id(key, self._random_bytes(ID_BYTES)),
            conversion_id=new_conversion_id(key, self._random_bytes(ID_BYTES)),
            video_id=video_id,
            recipe=recipe,
            client=client.owner,
        )
        with self._capacity.slot(client) as slot:
            submitted = await as_request_errors(self._store.submit(submission, may_create=slot.refusal is None))
            if submitted is None:
                # Nothing to join and no slot. Without a refusal the store would have created the conversion.
                raise slot.refusal or StoreUnavailable(retry_after_seconds=STORE_RETRY_SECONDS)
            if submitted.outcome is Outcome.CREATED:
                slot.fill(submitted.ticket.conversion)
        return submitted

    async def _is_whole(self, ticket: Ticket) -> bool:
        """Return whether the file of a finished conversion is in place, with the recorded size."""
        track = ticket.conversion.track
        return track is not None and await self._shelf.holds(track.file_name, track.size_bytes)
