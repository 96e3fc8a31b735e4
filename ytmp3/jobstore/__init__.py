"""Where jobs and conversions are kept: one Protocol, two adapters (`sqlite`, `redis`), one contract suite for both.

The store is the truth; the queues of the instances are only hints of it. What that means:

* Each operation is atomic, and durable when it returns. So a crash at any moment leaves every conversion in exactly one
  state, and loses nothing that a client was told.
* All times are the store's own clock: the lease of one instance is judged by the clock by which another would take
  over.
* The holder of a conversion shows its lease with every write. A write with an old token, or by another instance, is
  refused (LeaseLost), so an instance that was frozen and wakes up after its lease ran out changes nothing; nor does one
  that holds a token of a store that has gone back in time since (`core.job.Lease`).
* Every operation may be repeated. A caller whose reply was lost (StoreDown) cannot know whether the operation took
  effect; it calls again with the same arguments, and gets the result of the first call if there was one.

The store does no work, keeps no files, and decides nothing but what `core/states` says.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ClientId, ConversionId, ConversionKey, JobId, VideoId
from ytmp3.core.job import Conversion, Lease, Metadata, Stage, Ticket, Track
from ytmp3.core.recipe import Recipe, conversion_key
from ytmp3.jobstore.settings import Policy


class Submission(Struct, frozen=True, kw_only=True):
    """What `submit` needs to attach a job to a conversion, or to create both. The caller draws both ids."""

    job_id: JobId
    """Names the submission too: to repeat it, use the same id."""
    conversion_id: ConversionId
    """Used only if a conversion is created."""
    video_id: VideoId
    recipe: Recipe
    client: ClientId
    """Becomes the owner of the job, and of the conversion if one is created."""

    @property
    def key(self) -> ConversionKey:
        """The deduplication key."""
        return conversion_key(self.video_id, self.recipe)


class Outcome(StrEnum):
    """What `submit` did with a job."""

    CREATED = "created"
    """It made a new conversion, which this instance holds: the caller must put it into its queue."""
    JOINED = "joined"
    """The job shares a conversion that is queued or running, at this instance or another."""
    CACHED = "cached"
    """The job shares a finished conversion: the track can be downloaded at once."""


class Submitted(Struct, frozen=True, kw_only=True):
    """The result of `submit`."""

    ticket: Ticket
    outcome: Outcome


class Renewal(Struct, frozen=True, kw_only=True):
    """What a holder sends to extend one lease, with the progress to record. None leaves the recorded value as it is."""

    lease: Lease
    stage: Stage | None = None
    progress: float | None = None
    queue_position: int | None = None
    metadata: Metadata | None = None


class Counts(Struct, frozen=True, kw_only=True):
    """How many jobs have each status, over all instances that share the store."""

    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int


class JobStore(Protocol):
    """The contract. Any method may raise StoreDown (no answer; the effect is unknown) or StoreUnusable."""

    @property
    def policy(self) -> Policy:
        """The lengths of leases and of retention by which this store judges. Callers ask here, and keep no copy."""

    async def open(self) -> None:
        """Connect, and check that the store can be used.

        Raises:
            StoreUnusable: it is corrupt, newer than this program, locked by another process, or would delete records by
                itself. The text is for the operator.
            StoreDown: no answer. `open` may be called again, and all other methods work once the store is back.
        """

    async def close(self) -> None:
        """Release every resource. Leases stay as they are, and run out."""

    async def ping(self) -> None:
        """Return if the store can take new work now.

        Raises:
            StoreDown, StoreFull, StoreUnusable: it cannot.
        """

    async def now(self) -> float:
        """Return the time by the store's clock, which all times in records are compared with (seconds since 1970)."""

    async def submit(self, submission: Submission, *, may_create: bool) -> Submitted | None:
        """Attach a job to the current conversion of its key, or create both.

        The current conversion of a key is the live one, or the finished one while its age (from `completed_at`) is
        below the retention. A job that joins a finished conversion moves its `expires_at` to a full retention from now.
        A failed, cancelled or forgotten conversion is never current.

        Returns:
            None, with nothing stored, if a conversion would have to be created and `may_create` is false.

        Raises:
            StoreFull: nothing was stored.
        """

    async def get(self, job_id: JobId) -> Ticket | None:
        """Return a job with its conversion; None for an unknown id. Neither blocks nor waits for a writer."""

    async def claim(self, lease: Lease) -> Conversion:
        """Start an attempt (queued -> running). The returned conversion carries the new token.

        Raises:
            LeaseLost: another instance has adopted it, it was cancelled, or it has been claimed already.
        """

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """Extend leases of queued and running conversions, and record their progress, in one round trip.

        Returns:
            The ids of those that are no longer held under the given lease (cancelled, adopted or ended). The holder
            must stop its work on them. The other leases have been extended.
        """

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """End with a published track (running -> done). Works in a full store too.

        Raises:
            LeaseLost: the caller must delete the file that it published.
        """

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        """End without a track (running -> failed), for every job on it. Works in a full store too.

        Raises:
            LeaseLost
        """

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float, costs_attempt: bool = True) -> None:
        """Give the conversion back after an error (running -> queued). Works in a full store too.

        Nobody holds it afterwards. Once the delay is over any instance may adopt it, this one included.

        Raises:
            LeaseLost
        """

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give conversions back at no cost (queued or running -> queued). Any instance may adopt them at once.

        A stale lease is passed over without an error.
        """

    async def cancel(self, job_id: JobId) -> Ticket | None:
        """Cancel a job, and its conversion too if that is live and all jobs on it are cancelled now.

        Returns:
            The ticket as it is afterwards; None for an unknown id.
        """

    async def adopt(self, limit: int) -> list[Conversion]:
        """Take over up to `limit` live conversions that are due, the longest due first.

        Due are those that were given back (`release`, `retry` after its delay) and those whose holder has not renewed
        the lease in time. Of the latter, a running one counts a crash; at the crash limit it fails with POISON and is
        not returned. Each that is returned is queued, and held by this instance under a new token.
        """

    async def forget(self, conversion_id: ConversionId) -> None:
        """Make a finished conversion take no more jobs, because its file is missing or wrong.

        The next submission of its key creates a new conversion. The jobs that it has stay.
        """

    async def expire(self, limit: int) -> list[str | None]:
        """Remove up to `limit` ended conversions whose `expires_at` has passed, with all their jobs.

        A conversion with many jobs is removed in several steps, itself with the last one, so that no step keeps other
        calls waiting for long. After a crash between two steps the next call goes on where the last step ended.

        Returns:
            One element for each conversion removed: the file name of its track, which the caller must delete, or None
            if it had none. A crash before that leaves a file without a record, which the sweep finds.
        """

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        """Return those of the names that are the track of a recorded done conversion. The sweep deletes the others."""

    async def counts(self) -> Counts:
        """Count the jobs by status."""
