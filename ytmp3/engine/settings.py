"""The settings of the engine: first those of the configuration, then those that only tests change.

Lease and retention lengths are in the job store (`JobStore.policy`), which applies them. A second copy here could
differ.
"""

from typing import Final

from msgspec import Struct

PROGRESS_SECONDS: Final = 1.0
"""Interval, in seconds, at which changed progress is written to the store, for all running conversions in one call.

The result of the same call names the conversions that were cancelled at another instance. So this is also how long a
cancelled conversion may continue to run.
"""
STORE_PAUSE_SECONDS: Final = 0.5
"""Pause, in seconds, before a write that must not be lost is repeated."""
UPSTREAM_POLL_SECONDS: Final = 0.5
"""Interval, in seconds, at which a waiting worker checks whether conversions may start again."""
NO_PROCESS_PAUSE_SECONDS: Final = 5.0
"""Pause of all new starts, in seconds, after the operating system could not start a process.

Without the pause, the other waiting conversions would fail for the same reason at once, and lose an attempt each.
"""
DISK_SECONDS: Final = 3.0
"""Interval, in seconds, of the check of the disk, which writes and renames a small file."""
DISK_LIMIT_SECONDS: Final = 6.0
"""Time, in seconds, after which a check of the disk counts as hanging. With the interval, a disk that hangs is noticed
within 10 s. A disk that needs 6 s for 4 kB cannot serve conversions."""
STRAY_FILE_SECONDS: Final = 3600.0
"""Age, in seconds, from which a track file without a record is deleted.

A younger file may belong to a conversion whose `finish` is still being retried.
"""


class EngineSettings(Struct, frozen=True, kw_only=True):
    """The settings of one instance's engine."""

    workers: int
    """Conversions that run at the same time (WORKER_POOL_SIZE)."""
    queue_capacity: int
    """Conversions that may wait here before new ones are refused (JOB_QUEUE_CAPACITY)."""
    max_retries: int
    """Further attempts after a retryable error (MAX_JOB_RETRIES)."""
    client_max_jobs: int
    """Unfinished conversions and joined jobs that one client may have in this instance; 0: no limit
    (CLIENT_MAX_JOBS)."""
    client_max_kept_jobs: int = 0
    """Jobs that one client may make in one retention at this instance; 0: no limit (CLIENT_MAX_KEPT_JOBS)."""
    batch_max_items: int = 1000
    """Most items of one batch (BATCH_MAX_ITEMS)."""
    progress_seconds: float = PROGRESS_SECONDS
    store_pause_seconds: float = STORE_PAUSE_SECONDS
    upstream_poll_seconds: float = UPSTREAM_POLL_SECONDS
    no_process_pause_seconds: float = NO_PROCESS_PAUSE_SECONDS
    disk_seconds: float = DISK_SECONDS
    disk_limit_seconds: float = DISK_LIMIT_SECONDS
    stray_file_seconds: float = STRAY_FILE_SECONDS
