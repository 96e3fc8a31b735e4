"""The job store: one Protocol for the records of jobs and conversions, two adapters, one contract suite for both.

The records of the store are authoritative; the queues of the instances can be rebuilt from them. The contract:

* Each operation is atomic, and durable when it returns. So a crash at any moment leaves every conversion in exactly one
  state, and loses nothing that a client has received a response for.
* All times come from the store's clock. So the same clock decides whether a lease is valid for its holder, and whether
  another instance may adopt the conversion.
* The holder of a conversion shows its lease with every write. A write with an old token, or by another instance, is
  refused (LeaseLost), so an instance that was frozen and wakes up after its lease ran out changes nothing; nor does one
  that holds a token of a store that has gone back in time since (`core.job.Lease`).
* Every operation may be repeated. A caller whose reply was lost (StoreDown) cannot know whether the operation took
  effect; it calls again with the same arguments, and gets the result of the first call if there was one.

The store runs no conversions and keeps no files. Its only decisions are the rules of `core/states`.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import BatchId, ClientId, ConversionId, ConversionKey, JobId, VideoId
from ytmp3.core.job import Conversion, Lease, Metadata, Stage, Ticket, Track
from ytmp3.core.recipe import Recipe, conversion_key
from ytmp3.core.tag_edits import TagEdits
from ytmp3.core.webhook import WebhookTarget
from ytmp3.jobstore.batches import BatchStore
from ytmp3.jobstore.found import Found, Page, Place
from ytmp3.jobstore.outbox import Outbox
from ytmp3.jobstore.settings import Policy

SHELF_SECONDS: Final = 60.0
"""How long, in seconds, a shelf counts as in use after the last call of `JobStore.agrees_on_shelf`."""
SHARED_VALUE_SECONDS: Final = 7 * 86400.0
"""How long, in seconds, a shared value is kept after it was written. The states of identities matter for an hour."""


class Submission(Struct, frozen=True, kw_only=True):
    """The arguments of `submit`, which adds a job to a conversion or creates both. The caller draws both ids."""

    job_id: JobId
    """The id of the new job. It identifies the submission: to repeat a submission, use the same id."""
    conversion_id: ConversionId
    """The id of the conversion, if one is created."""
    video_id: VideoId
    recipe: Recipe
    client: ClientId
    """The owner of the job, and of the conversion if one is created."""
    is_listed: bool = False
    """Whether the client's list (`ClientRecords.jobs_of`) has the job: only an API key has a list."""
    webhooks: tuple[WebhookTarget, ...] = ()
    """The targets that get a message when the job has ended."""
    batch_id: BatchId | None = None
    """The batch that the job is an item of, if it is one."""
    edits: TagEdits | None = None
    """The tags that the client has chosen for its track."""

    @property
    def key(self) -> ConversionKey:
        """The deduplication key."""
        return conversion_key(self.video_id, self.recipe)


class Outcome(StrEnum):
    """The kind of conversion that `submit` has added a job to."""

    CREATED = "created"
    """The job has a new conversion."""
    JOINED = "joined"
    """The job shares a conversion that is queued or running, at this instance or another."""
    CACHED = "cached"
    """The job shares a finished conversion: the track can be downloaded at once."""


class Submitted(Struct, frozen=True, kw_only=True):
    """The result of `submit`."""

    ticket: Ticket
    outcome: Outcome
    is_to_be_queued: bool
    """Whether this instance holds the job's own conversion, and nobody has claimed it: the caller puts it into its
    queue, unless it is there. With a repeated submission, another instance may hold it, or it may have started."""


class Renewal(Struct, frozen=True, kw_only=True):
    """An extension of one lease, with the progress to record. None leaves the recorded value unchanged."""

    lease: Lease
    stage: Stage | None = None
    progress: float | None = None
    queue_position: int | None = None
    metadata: Metadata | None = None


class Counts(Struct, frozen=True, kw_only=True):
    """The number of jobs with each status, over all instances that share the store."""

    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    is_complete: bool = True
    """Whether all parts of the store have replied. The jobs of the others are not counted."""


class Reservation(Struct, frozen=True, kw_only=True):
    """An id that is reserved for the resource of a request with an idempotency key."""

    resource_id: str
    fingerprint: str
    """Hash of the request that reserved it."""
    age_seconds: float
    """Time since it was reserved."""


class ClientRecords(Protocol):
    """What the store keeps for clients besides the records of their jobs. Any method may raise a StoreError."""

    async def reserve(
        self, name: str, fingerprint: str, resource_id: str, *, life_seconds: float, instead_of: str | None = None
    ) -> Reservation:
        """Reserve an id under a name, which is the same for all requests with one idempotency key.

        `name` is a hash in hexadecimal digits, and so is `fingerprint`. With `instead_of`, a reservation of that id is
        replaced. A reservation is kept for `life_seconds`.

        Returns:
            The reservation of the name: this one, or an earlier one, which is unchanged.
        """

    async def jobs_of(self, client: ClientId, *, before: Place | None, limit: int) -> Page:
        """Return up to `limit` listed jobs of a client, the newest first, beginning after the place `before`.

        A job is in the list from the end of its `submit`, but it may be missing if that was interrupted.
        """

    async def set_feed(self, client: ClientId, digest: str | None) -> None:
        """Set the digest of a client's feed token, in place of the last one; None: it has no feed any more.

        The digest begins with the client's shard (`core.ids.shard_of`).
        """

    async def feed_owner(self, digest: str) -> ClientId | None:
        """Return the client whose feed token has this digest; None if there is none."""


OnHint = Callable[[ConversionId | None, bool], None]
"""Called with a conversion that may have changed; None: any of them, because hints may have been missed. The second
argument tells whether jobs of the conversion may have changed too."""


class Hints(Protocol):
    """Tells an instance early which records another one may have written.

    A hint may be lost, and it carries no data. Whoever gets one reads the record, and whoever must not miss a change
    reads the record from time to time anyway.
    """

    def start(self, on_hint: OnHint) -> None:
        """Set the receiver of the hints, which is called on the event loop. Called once, before `watch`."""

    def watch(self, conversion_id: ConversionId) -> None:
        """Give hints about a conversion from now on.

        There is also one hint when the store has begun to do so, because the conversion may have changed until then.
        """

    def unwatch(self, conversion_id: ConversionId) -> None:
        """Give no more hints about a conversion."""


class SharedValue(Struct, frozen=True, kw_only=True):
    """A shared value as it was read."""

    data: bytes | None
    """None: it was never written, or is forgotten."""
    now: float
    """The time of the store's clock when it was read."""


class SharedValues(Protocol):
    """Small values that all instances share, such as the budgets of identities. Any method may raise a StoreError.

    A value is changed by compare and set: whoever reads it computes the next one and replaces the value that was read.
    So the rules of a value are in Python alone, and two instances that change it at the same moment lose nothing. A
    value that is not written for SHARED_VALUE_SECONDS may be forgotten.
    """

    async def read(self, name: str) -> SharedValue:
        """Return the value of a name, and the time."""

    async def replace(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Write the value, if it still is `old`. Returns whether it was written.

        After a StoreDown it may have been written: the caller reads it again.
        """


class JobStore(Protocol):
    """The contract. Any method may raise StoreDown (no reply; the effect is unknown) or StoreUnusable."""

    @property
    def policy(self) -> Policy:
        """The lengths of leases and of retention that this store applies. Callers read them here, and keep no copy."""

    @property
    def batches(self) -> BatchStore:
        """The records of batches."""

    async def open(self) -> None:
        """Connect, and check that the store can be used.

        Raises:
            StoreUnusable: the store is corrupt, of a newer version, locked by another process, or configured to delete
                records by itself. The text is for the operator.
            StoreDown: no reply. `open` may be called again, and all other methods work once the store is back.
        """

    async def close(self) -> None:
        """Release all resources. Leases are not released; they run out."""

    async def ping(self) -> str | None:
        """Check that the store can accept new jobs now.

        Returns:
            Why a part of the records cannot be used, and what to do, for the operator; None if all can. Jobs in the
            other parts are not affected.

        Raises:
            StoreDown, StoreFull, StoreUnusable: it cannot.
        """

    @property
    def outbox(self) -> Outbox:
        """The webhook messages to send. The store adds to them in the steps that end a conversion."""

    @property
    def is_shared(self) -> bool:
        """Whether several instances may use the store at the same time."""

    @property
    def hints(self) -> Hints:
        """Tells this instance that another one may have changed a record."""

    @property
    def values(self) -> SharedValues:
        """Small values that all instances share."""

    @property
    def clients(self) -> ClientRecords:
        """What is kept for clients besides their jobs."""

    async def agrees_on_shelf(self, mark: str) -> bool:
        """Tell the store the mark of this instance's shelf, and return whether the other instances have the same one.

        Each instance calls it every few seconds. The first one decides; if no instance of its shelf has called for
        SHELF_SECONDS, the next caller does.
        """

    async def now(self) -> float:
        """Return the time of the store's clock, in seconds since 1970. All times in records are of this clock."""

    async def retention_time(self) -> float:
        """Return the time that decides whether a retention period is over, for `expires_at` of ended conversions.

        It is `now`, less what the store's clock was set forward while this instance watched.
        """

    async def submit(self, submission: Submission, *, may_create: bool, may_join: bool = True) -> Submitted | None:
        """Add a job to the current conversion of its key, or create both.

        The current conversion of a key is the live one, or the finished one while its age (from `completed_at`) is
        below the retention. A job that joins a finished conversion moves its `expires_at` to a full retention from now.
        A failed, cancelled or forgotten conversion is never current, nor is one that has `Policy.jobs_of_conversion`
        jobs.

        Returns:
            None, with nothing stored, if a conversion would have to be created and `may_create` is false, or if the job
            would share an unfinished conversion and `may_join` is false.

        Raises:
            StoreFull: nothing was stored.
        """

    async def get(self, job_id: JobId, *, may_lag: bool = False) -> Ticket | None:
        """Return a job with its conversion, or None for an unknown id. Does not wait for writers.

        `may_lag`: a copy of the records will do, if this instance has not written to it since. It may be some seconds
        older than what another instance has written, so nothing may be decided by it. A job is never unknown for that.
        """

    async def get_many(self, job_ids: Sequence[JobId]) -> Found:
        """Return several jobs in few round trips. Raises a StoreError only if none of them could be read.

        The records are not read at the same moment, so two of them may belong to different moments.
        """

    async def claim(self, lease: Lease) -> Conversion:
        """Start an attempt (queued -> running). The returned conversion carries the new token.

        Raises:
            LeaseLost: the conversion was adopted by another instance, cancelled, or claimed already.
        """

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """Extend leases of queued and running conversions, and record their progress, in one round trip.

        Returns:
            The ids of the conversions whose lease is lost (cancelled, adopted or ended). The caller must stop its work
            on them. The other leases have been extended.

        Raises:
            RenewalsMissed: some were not extended.
        """

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """End with a published track (running -> done). Works in a full store too.

        Raises:
            LeaseLost: the caller must delete the file that it published.
        """

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        """End without a track (running -> failed), for all jobs of the conversion. Works in a full store too.

        Raises:
            LeaseLost
        """

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool = True) -> None:
        """Requeue the conversion after an error (running -> queued). Works in a full store too.

        The conversion has no holder afterwards. After the delay any instance may adopt it. In a shared store, this one
        must wait `core.states.HEAD_START_SECONDS` longer than the others.

        Raises:
            LeaseLost
        """

    async def release(self, leases: Sequence[Lease]) -> None:
        """Requeue conversions without counting an attempt (queued or running -> queued). They are due at once.

        A lease that is lost is ignored.
        """

    async def cancel(self, job_id: JobId) -> Ticket | None:
        """Cancel a job. If it was the last active job of a live conversion, cancel the conversion too.

        If it was the last active job of a done conversion, that expires now and takes no more jobs: the next `expire`
        removes the track.

        Returns:
            The ticket after the change, or None for an unknown id.
        """

    async def adopt(self, limit: int) -> list[Conversion]:
        """Take over up to `limit` live conversions that are due, the longest due first.

        A conversion is due if it was released, if its retry delay is over, or if its holder has not renewed the lease
        in time. In the last case, if it was running, a crash is counted; at the crash limit the conversion fails with
        POISON and is not returned. The returned conversions are queued, and this instance holds them with new tokens.
        """

    async def forget(self, conversion_id: ConversionId) -> None:
        """Prevent further jobs from joining a finished conversion, because its file is missing or wrong.

        The next submission of its key creates a new conversion. The existing jobs are not changed.
        """

    async def expire(self, limit: int) -> list[str | None]:
        """Remove up to `limit` ended conversions whose `expires_at` has passed, with all their jobs.

        A conversion with many jobs is removed in several steps, and its own record in the last one, so that no step
        delays other calls for long. After a crash between two steps, the next call continues.

        Returns:
            One element for each removed conversion: the file name of its track, which the caller must delete, or None
            if it had no track. After a crash before the deletion, the janitor's sweep finds the file.
        """

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        """Return the given names that are tracks of recorded done conversions. The sweep deletes the others."""

    async def tracks(self, file_names: Sequence[str]) -> Mapping[str, Track]:
        """Return the tracks of recorded done conversions that have these file names, by name."""

    async def counts(self) -> Counts:
        """Count the jobs by status."""
