"""The numbers of a job store."""

from dataclasses import dataclass, field

from msgspec import Struct


class Policy(Struct, frozen=True, kw_only=True):
    """The store's numbers. All in seconds but `crash_limit`."""

    lease_seconds: float
    retention_seconds: float
    """How long an ended conversion, its jobs and its file are kept."""
    crash_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Where Redis is. `address`: `host:port`, or a redis://, rediss:// or unix:// URL (which may hold the password)."""

    address: str = field(repr=False)
    password: str = field(default="", repr=False)
    db: int = 0
    """Wins over the URL's unless it is 0."""
