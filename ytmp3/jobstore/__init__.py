"""Where records live: one Protocol, two adapters (`sqlite`, `redis`), one contract suite for both.

The job store is the truth; every queue is a hint. Each operation is atomic and durable when it returns, and judges
leases and times by one clock: the store's. A write by a holder carries its lease and is refused when stale.
This room does no work and keeps no files.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import ClientId, ConversionId, ConversionKey, JobId, VideoId
from ytmp3.core.job import Conversion, Lease, Metadata, Stage, Ticket, Track
from ytmp3.core.recipe import Recipe, conversion_key
from ytmp3.jobstore.settings import Policy

JOBS_AT_ONCE: Final = 2000
"""Removed in one step of `expire`, in which no other call is answered. Measured on 2 cores: 12 ms in SQLite, 20 ms in a
Valkey; a link asked for 100,000 times took 260 and 410 ms when it went in one step."""


class Submission(Struct, frozen=True, kw_only=True):
    """What `submit` needs to attach a job, or to create its conversion. The caller draws the ids."""

    job_id: JobId
    conversion_id: ConversionId
    """Used only if the conversion is created."""
    video_id: VideoId
    recipe: Recipe
    client: ClientId

    @property
    def key(self) -> ConversionKey:
        """The deduplication key."""
        return conversion_key(self.video_id, self.recipe)


class Outcome(StrEnum):
    """What became of a submission."""

    CREATED = "created"
    """A new conversion, held by this instance: it must be queued here."""
    JOINED = "joined"
    """The job rides on a conversion that is queued or running somewhere."""
    CACHED = "cached"
    """The track is there already."""


class Submitted(Struct, frozen=True, kw_only=True):
    ticket: Ticket
    outcome: Outcome


class Renewal(Struct, frozen=True, kw_only=True):
    """One holder's renewal, with its news. None leaves the recorded value as it is."""

    lease: Lease
    stage: Stage | None = None
    progress: float | None = None
    queue_position: int | None = None
    metadata: Metadata | None = None


class Counts(Struct, frozen=True, kw_only=True):
    """How many jobs have each status. Of all instances that share the store."""

    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int


class JobStore(Protocol):
    """The contract. Any method may raise StoreDown (no answer: effect unknown) or StoreUnusable."""

    @property
    def policy(self) -> Policy:
        """The lengths of leases and of retention by which this store judges: callers ask here, and keep no copy."""

    async def open(self) -> None:
        """Connect and check.

        Raises:
            StoreUnusable: corrupt, newer schema, locked by another process, evicting: the text is for the operator.
            StoreDown: no answer; `open` may be called again, and other methods work once the store is back.
        """

    async def close(self) -> None:
        """Let go of every resource. Leases stay as they are."""

    async def ping(self) -> None:
        """Return if the store is usable for new work right now; raise StoreDown, StoreFull or StoreUnusable if not."""

    async def now(self) -> float:
        """Return the time by the store's clock, which all times in records are compared with (seconds since 1970)."""

    async def submit(self, submission: Submission, *, may_create: bool) -> Submitted | None:
        """Attach a job to the live or finished conversion of its key, or create both.

        A finished conversion serves while its age (from `completed_at`) is below the retention; attaching to it moves
        its `expires_at` to a full retention from now. A failed or cancelled one never serves.
        Calling again with the same `job_id` (after a lost reply) returns the first result and changes nothing.

        Returns:
            None, with nothing stored, if a conversion would have to be created and `may_create` is false.

        Raises:
            StoreFull: nothing was stored.
        """

    async def get(self, job_id: JobId) -> Ticket | None:
        """Return a job with its conversion. Never blocks the event loop, never waits for a writer."""

    async def claim(self, lease: Lease) -> Conversion:
        """queued -> running, for the holder. The returned conversion carries the new token.

        Raises:
            LeaseLost: adopted by another instance, cancelled, or already claimed.
        """

    async def renew(self, renewals: Sequence[Renewal]) -> frozenset[ConversionId]:
        """Extend leases, in one round trip, and record the news. Works for queued and running conversions.

        Returns:
            The ids of those no longer held under the given token (cancelled, adopted, ended).
        """

    async def finish(self, lease: Lease, track: Track, metadata: Metadata) -> Conversion:
        """running -> done. Succeeds in a full store. Repeating it with the same lease and track is harmless.

        Raises:
            LeaseLost: the caller must delete what it published.
        """

    async def fail(self, lease: Lease, code: FailureCode) -> None:
        """running -> failed, for every job on it. Succeeds in a full store.

        Raises:
            LeaseLost
        """

    async def retry(self, lease: Lease, code: FailureCode, *, delay_seconds: float) -> None:
        """running -> queued, held by nobody, adoptable after the delay. Costs an attempt. Succeeds in a full store.

        Raises:
            LeaseLost
        """

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give back conversions, queued or running, at no cost, adoptable at once. Stale leases are passed over."""

    async def cancel(self, job_id: JobId) -> Ticket | None:
        """Mark the job cancelled; cancel its conversion if it is live and no uncancelled job rides on it.

        Returns:
            The ticket as it is now; None for an unknown id. Repeating it is harmless.
        """

    async def adopt(self, limit: int) -> list[Conversion]:
        """Take over up to `limit` live conversions that are due: given back, or no longer renewed. Oldest first.

        A running one costs a crash, and at the crash limit it ends `failed` with POISON instead (not returned).
        What is returned is queued and held by this instance under a new token.
        """

    async def forget(self, conversion_id: ConversionId) -> None:
        """Make the next submission of a done conversion's key create a new one (its file is gone or wrong)."""

    async def expire(self, limit: int) -> list[str | None]:
        """Remove up to `limit` ended conversions whose `expires_at` has passed, with all their jobs.

        Many jobs go in several steps, and their conversion with the last: no step keeps others waiting.

        Returns:
            For each that was removed the file name of its track, to be deleted by the caller, or None without one.
        """

    async def known_files(self, file_names: Sequence[str]) -> frozenset[str]:
        """Return which of the track files (named by `job.track_file_name`) belong to a recorded done conversion."""

    async def counts(self) -> Counts:
        """Count jobs by status."""
