"""The numbers of the engine: how much it does at once, how often it tries, and how often it looks.

The lengths of leases and of retention are not here: the job store judges by them, so the engine asks
`JobStore.policy` for them.
"""

from typing import Final

from msgspec import Struct

PROGRESS_SECONDS: Final = 1.0
"""Interval in which changed progress is written to the job store, in one call for all running conversions. The same
call reports conversions that were cancelled through other instances, so this also bounds how late that is noticed."""
STORE_PAUSE_SECONDS: Final = 0.5
"""Pause between two attempts at a write that is retried until it is stored."""
BREAKER_SECONDS: Final = 0.5
"""Interval in which an idle worker asks whether it may start a conversion."""
REST_SECONDS: Final = 5.0
"""After the machine refused a conversion a process, no other starts for this long: each would lose an attempt."""
LEASE_RENEWALS: Final = 3
"""Renewals in the time of one lease: two may fail before the lease runs out."""


class EngineSettings(Struct, frozen=True, kw_only=True):
    """What an operator may choose, then the intervals that tests shorten."""

    workers: int
    """Conversions carried at once by this instance."""
    queue_capacity: int
    """Conversions that may wait in this instance."""
    max_retries: int
    """Further attempts after retryable errors of one conversion."""
    client_max_jobs: int
    """Unfinished conversions that one client may have in this instance; 0: no limit for each client."""
    progress_seconds: float = PROGRESS_SECONDS
    store_pause_seconds: float = STORE_PAUSE_SECONDS
    breaker_seconds: float = BREAKER_SECONDS
    rest_seconds: float = REST_SECONDS
