"""The numbers of the engine: those of the configuration, then those that only tests change.

The lengths of leases and of retention are not here: they belong to the job store (`JobStore.policy`), which judges by
them, and a second copy could differ.
"""

from typing import Final

from msgspec import Struct

PROGRESS_SECONDS: Final = 1.0
"""Interval, in seconds, at which changed progress is written to the store, for all running conversions in one call.

The answer to the same call names the conversions that were cancelled at another instance, so this is also how long such
a conversion may go on running.
"""
STORE_PAUSE_SECONDS: Final = 0.5
"""Pause, in seconds, before a write that must not be lost is repeated."""
UPSTREAM_POLL_SECONDS: Final = 0.5
"""Interval, in seconds, at which a worker asks whether YouTube may be asked again."""
NO_PROCESS_PAUSE_SECONDS: Final = 5.0
"""Pause of all new starts, in seconds, after the system refused a process.

Without it the other waiting conversions would meet the same shortage at once and lose an attempt each.
"""
STRAY_FILE_SECONDS: Final = 3600.0
"""Age, in seconds, from which a track file without a record is deleted.

A younger one may belong to a conversion whose `finish` is still being repeated.
"""


class EngineSettings(Struct, frozen=True, kw_only=True):
    """The numbers of one instance's engine."""

    workers: int
    """Conversions that run at the same time (WORKER_POOL_SIZE)."""
    queue_capacity: int
    """Conversions that may wait here before new ones are refused (JOB_QUEUE_CAPACITY)."""
    max_retries: int
    """Attempts after the first one, for errors that another attempt may cure (MAX_JOB_RETRIES)."""
    client_max_jobs: int
    """Conversions that one client may have unfinished here; 0 for any number (CLIENT_MAX_JOBS)."""
    progress_seconds: float = PROGRESS_SECONDS
    store_pause_seconds: float = STORE_PAUSE_SECONDS
    upstream_poll_seconds: float = UPSTREAM_POLL_SECONDS
    no_process_pause_seconds: float = NO_PROCESS_PAUSE_SECONDS
    stray_file_seconds: float = STRAY_FILE_SECONDS
