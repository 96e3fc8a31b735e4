"""The JSON of the response to `GET /stats`, as types. The rules of `wire` apply."""

from msgspec import Struct

from ytmp3.core.breaker import BreakerState
from ytmp3.core.errors import Fault
from ytmp3.core.identities import IdentityState


class WorkersView(Struct, frozen=True, kw_only=True):
    """The workers of this instance; each active one runs one conversion."""

    active: int
    total: int


class QueueView(Struct, frozen=True, kw_only=True):
    """The conversions that wait in this instance, and how many may."""

    length: int
    capacity: int


class JobCountsView(Struct, frozen=True, kw_only=True):
    """How many jobs of the shared store have each status.

    `is_complete` is false while a part of the store does not reply; the jobs in that part are then not counted.
    """

    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    is_complete: bool


class ConversionCountsView(Struct, frozen=True, kw_only=True):
    """Conversions that ended in this instance since it started. `success_rate` is done / (done + failed)."""

    done: int
    failed: int
    cancelled: int
    success_rate: float | None


class SinceStartView(Struct, frozen=True, kw_only=True):
    """What this instance has counted since it started; `jobs`, unlike these, counts the store across restarts."""

    conversions: ConversionCountsView
    joined_jobs: int
    """Jobs that joined an unfinished conversion."""
    cached_jobs: int
    """Jobs for which a finished track was there."""


class DurationsView(Struct, frozen=True, kw_only=True):
    """Seconds from a conversion's start to its end, over the last thousand; null before the first has ended."""

    mean: float | None
    p50: float | None
    p95: float | None


class MemoryView(Struct, frozen=True, kw_only=True):
    """The memory of the server process, without its child processes."""

    resident_bytes: int


class DiskView(Struct, frozen=True, kw_only=True):
    """The disk that holds the tracks."""

    total_bytes: int
    free_bytes: int


class UpstreamView(Struct, frozen=True, kw_only=True):
    """Whether conversions start here. `open_seconds` is for how long they have not; null `cause` while they do.

    `state` is `open` while nothing starts, and `half_open` while a single conversion, the trial, finds out whether the
    cause is gone; `next_trial_seconds` is until then.
    """

    state: BreakerState
    cause: Fault | None
    open_seconds: float
    next_trial_seconds: float


class IdentityView(Struct, frozen=True, kw_only=True):
    """One identity: an egress route to YouTube. `state` is `ok`, `cooling` or `broken`; null `cause` while it is ok.

    `pace` is the part of the budget that is used now, and `tokens` is how many conversions could start at once.
    """

    name: str
    state: IdentityState
    cause: Fault | None
    next_trial_seconds: float
    videos_per_hour: int
    pace: float
    tokens: float


class ExtractorView(Struct, frozen=True, kw_only=True):
    """The releases of yt-dlp: `newest` is used for `share_percent` of new conversions, `release` for the others."""

    release: str
    newest: str
    share_percent: int
    quarantined: list[str]


class StatsView(Struct, frozen=True, kw_only=True):
    """The body of `GET /stats`. `jobs` is null while the store is down; `disk` is null before the first disk check."""

    uptime_seconds: float
    workers: WorkersView
    queue: QueueView
    jobs: JobCountsView | None
    since_start: SinceStartView
    conversions: ConversionCountsView
    processing_seconds: DurationsView
    dedup_hits: int
    cache_hits: int
    upstream_blocked_seconds: int
    upstream: UpstreamView
    identities: list[IdentityView]
    extractor: ExtractorView
    memory: MemoryView
    disk: DiskView | None
    versions: dict[str, str]
