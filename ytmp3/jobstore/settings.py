"""The settings of the job stores. `config` makes them from the environment, so nothing here imports an adapter."""

from dataclasses import dataclass, field

from msgspec import Struct


class Policy(Struct, frozen=True, kw_only=True):
    """The numbers that both adapters obey."""

    lease_seconds: float
    """How long a conversion belongs to its holder without a renewal. After it any instance may adopt the conversion."""
    retention_seconds: float
    """How long an ended conversion, its jobs and its file are kept, and how long a finished one takes new jobs.
    A job waits no longer than this for its first attempt."""
    crash_limit: int
    """How many times a conversion may be running when its lease runs out. At this number it fails with `poison`."""
    jobs_at_once: int = 2000
    """How many jobs one step of `expire` removes at most. No other call is answered during a step: 12 ms in SQLite and
    20 ms in Valkey on 2 cores. A link that had been asked for 100,000 times took 260 and 410 ms in a single step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Where Redis is."""

    address: str = field(repr=False)
    """`host:port`, or a redis://, rediss:// or unix:// URL. A URL may hold the password, so it is not shown."""
    password: str = field(default="", repr=False)
    """Used instead of the URL's unless it is empty."""
    db: int = 0
    """Used instead of the URL's unless it is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTimeouts:
    """How long a call may take. Only tests use other values than these."""

    handler_seconds: float = 0.22
    """From sending a command to its complete reply, for calls that an HTTP request waits for. With the 30 ms that the
    deadline may be late (`link.DEADLINE_STEP_SECONDS`) a call ends within 250 ms, and the response within 300 ms."""
    worker_seconds: float = 2.0
    """The same for calls that only a worker or a housekeeping loop waits for."""
    connect_seconds: float = 2.0
    """To open a connection. It counts within the two above when a call needs a new connection."""
    pool_seconds: float = 5.0
    """The wait for a free connection while the server answers others. Measured on 2 cores, with the clients on the same
    machine: the last of 1,000 POSTs at one moment waits 0.5 s, the last of 3,000 waits 1.6 s."""
    rest_seconds: float = 0.15
    """After a failure, how long every call fails at once, before one call tries the server again."""
