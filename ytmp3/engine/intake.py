"""Creates a job from a link: derives the key, reserves a queue slot, and joins or creates a conversion; or refuses.

The rule: a refusal stores nothing and keeps no slot. An accepted job is durable before the client gets a response.

The store decides in one atomic step which job creates a conversion and which jobs join it, because submissions of one
link may arrive at several instances at once. Intake only says whether this instance could queue a new conversion. If
the process dies after the store has created a conversion and before it is queued here, its lease runs out and another
instance adopts it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from ytmp3.core.batch import Batch, Item
from ytmp3.core.client import Client
from ytmp3.core.errors import Draining, StorageUnavailable, StoreUnavailable
from ytmp3.core.ids import ConversionKey, JobId, VideoId, new_conversion_id, new_job_id
from ytmp3.core.job import Ticket
from ytmp3.core.link import parse_video_id
from ytmp3.core.recipe import Recipe, conversion_key
from ytmp3.core.tag_edits import TagEdits
from ytmp3.core.webhook import WebhookTarget
from ytmp3.engine import events
from ytmp3.engine.capacity import Capacity
from ytmp3.engine.events import Events
from ytmp3.engine.health import Health
from ytmp3.engine.idempotency import Idempotency, IdempotencyKeys
from ytmp3.engine.jobs import STORE_RETRY_SECONDS, as_request_errors
from ytmp3.jobstore import JobStore, Outcome, Submission, Submitted
from ytmp3.storage import Shelf, ShelfDown

log = logging.getLogger(__name__)

ID_BYTES: Final = 16
"""Random bytes in an id. A job's id gives access to the job, so it must not be guessable."""
DRAIN_RETRY_SECONDS: Final = 5
"""The `Retry-After`, in seconds, of an instance that drains. By then the load balancer has usually removed it, or its
successor has started."""
DISK_SECONDS: Final = 10.0
"""Longest wait, in seconds, for the look at a finished track. A disk that answers takes milliseconds."""
DISK_RETRY_SECONDS: Final = 5
"""The `Retry-After`, in seconds, while the disk does not answer."""


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
        self._idempotency_keys = IdempotencyKeys(
            store, kind="job", life_seconds=store.policy.longest_life_seconds, find=self._find
        )

    @property
    def is_draining(self) -> bool:
        """Whether this instance shuts down, so that it accepts nothing more."""
        return self._health.is_draining

    async def submit(
        self,
        link: str,
        recipe: Recipe,
        client: Client,
        *,
        webhooks: tuple[WebhookTarget, ...] = (),
        edits: TagEdits | None = None,
        idempotency: Idempotency | None = None,
    ) -> Ticket:
        """Create a job for a link. When this returns, the job is durable. `webhooks` get a message at its end.

        `edits` are the tags of the job's track; they do not decide which conversion the job joins.

        Called by `POST /extract`. If the file of a finished track has disappeared, the conversion is forgotten and the
        link is converted again. A request that is repeated with the same idempotency key gets the job of the first one.

        Raises:
            UnsupportedUrl, NotAVideo: nothing was looked up or stored.
            IdempotencyKeyReused: nothing was stored.
            Draining, Unready, QueueFull, ClientQuota, StorageFull, UpstreamBlocked: nothing was stored.
            StorageUnavailable: the link's track exists, but the disk with it does not answer.
            StoreUnavailable: whether the job was stored is unknown. A repeated submission joins the same conversion.
        """
        video_id = parse_video_id(link)
        if self._health.is_draining:
            raise Draining(retry_after_seconds=DRAIN_RETRY_SECONDS)
        key = conversion_key(video_id, recipe)
        submission = replace(self._new(video_id, recipe, client, webhooks), edits=edits)
        if idempotency is not None:
            first_id, ticket = await self._first(idempotency, submission)
            if ticket is not None:
                return ticket
            # If the first request has not reached the store yet, this one creates its job, or finds it then.
            submission = replace(submission, job_id=first_id)
        submitted = await self._submit(submission, client)
        if submitted.outcome is Outcome.CACHED and not await self._is_whole(submitted.ticket):
            log.warning("a finished track is missing: converting again", extra={"video_id": video_id})
            await as_request_errors(self._store.forget(submitted.ticket.conversion.conversion_id))
            # The client never learns the id of this job, so no webhook must report it.
            await as_request_errors(self._store.cancel(submitted.ticket.job.job_id))
            submitted = await self._submit(replace(submission, job_id=self._new_job_id(key)), client)
        self._events.emit(events.Accepted(ticket=submitted.ticket, outcome=submitted.outcome))
        return submitted.ticket

    def _new_job_id(self, key: ConversionKey) -> JobId:
        return new_job_id(key, self._random_bytes(ID_BYTES))

    async def _first(self, idempotency: Idempotency, submission: Submission) -> tuple[JobId, Ticket | None]:
        """Return the job id of the first request with this idempotency key (see `IdempotencyKeys`), and its job.

        The key of the conversion is part of what is compared, because a job's id begins with its shard.
        """
        whole = replace(idempotency, request=submission.key.encode() + b"\n" + idempotency.request)
        first_id, ticket = await self._idempotency_keys.first(whole, submission.client, submission.job_id)
        return JobId(first_id), ticket

    async def _find(self, job_id: str) -> Ticket | None:
        return await as_request_errors(self._store.get(JobId(job_id)))

    async def submit_item(self, batch: Batch, item: Item, client: Client) -> Ticket:
        """Create the job of an item of a batch, or return it if it exists already. `client` is the batch's owner.

        No idempotency key is needed: the id follows from the batch and the item, so a repeated call, also by another
        instance, names the same job. Unlike `submit`, it does not check whether the file of a finished track is there.
        If it is missing, the download gets `410 expired`.

        Raises:
            Draining, QueueFull, ClientQuota, StorageFull, UpstreamBlocked: nothing was stored.
            StoreUnavailable: whether the job was stored is unknown. A repeated call finds it.
        """
        if self._health.is_draining:
            raise Draining(retry_after_seconds=DRAIN_RETRY_SECONDS)
        assert item.video_id is not None
        submission = replace(
            self._new(item.video_id, batch.recipe_of(item), client),
            job_id=batch.job_id(item),
            batch_id=batch.batch_id,
            edits=item.edits,
        )
        submitted = await self._submit(submission, client)
        self._events.emit(events.Accepted(ticket=submitted.ticket, outcome=submitted.outcome))
        return submitted.ticket

    def _new(
        self, video_id: VideoId, recipe: Recipe, client: Client, webhooks: tuple[WebhookTarget, ...] = ()
    ) -> Submission:
        """Return a submission with new ids."""
        key = conversion_key(video_id, recipe)
        return Submission(
            job_id=self._new_job_id(key),
            conversion_id=new_conversion_id(key, self._random_bytes(ID_BYTES)),
            video_id=video_id,
            recipe=recipe,
            client=client.owner,
            is_listed=client.key is not None,
            webhooks=webhooks,
        )

    async def _submit(self, submission: Submission, client: Client) -> Submitted:
        """Let the store add the job to a conversion or create one, and queue a new conversion.

        The slot is reserved before the call and freed at the end of the block in every case, also if the request is
        cancelled during the call. A conversion that the store has created then, and that is queued nowhere, is adopted
        when its lease has run out.
        """
        with self._capacity.slot(client) as slot:
            call = self._store.submit(submission, may_create=slot.refusal is None, may_join=slot.may_join)
            submitted = await as_request_errors(call)
            if submitted is None:
                # There is no conversion that this job may join, and no slot for a new one. `refusal` is set in this
                # case: without it, the store would have created the conversion.
                raise slot.refusal or StoreUnavailable(retry_after_seconds=STORE_RETRY_SECONDS)
            slot.submitted = submitted
            if submitted.is_to_be_queued and not self._capacity.holds(submitted.ticket.conversion.conversion_id):
                slot.fill(submitted.ticket.conversion)
        return submitted

    async def _is_whole(self, ticket: Ticket) -> bool:
        """Return whether the file of a finished conversion is in place, with the content that was published.

        Raises:
            StorageUnavailable: the disk does not answer.
        """
        track = ticket.conversion.track
        if track is None:
            return False
        try:
            async with asyncio.timeout(DISK_SECONDS):
                return await self._shelf.holds(track)
        except (TimeoutError, ShelfDown):
            raise StorageUnavailable(retry_after_seconds=DISK_RETRY_SECONDS) from None
