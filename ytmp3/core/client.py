"""Clients and API keys: the owners of jobs."""

import ipaddress

from msgspec import Struct

from ytmp3.core.ids import ClientId

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ApiKey(Struct, frozen=True, kw_only=True):
    """One accepted API key. A limit of None means that the service's limits for every client apply."""

    name: str
    digest: bytes
    """SHA-256 of the secret; the secret itself is not stored."""
    requests_per_second: float | None = None
    burst: int | None = None
    max_jobs: int | None = None


class Client(Struct, frozen=True, kw_only=True):
    """The sender of a request."""

    owner: ClientId
    """The owner that is stored with each of its jobs: `key:NAME` or `addr:ADDRESS`."""
    key: ApiKey | None = None
    """The API key that the request presented; None if the service does not use API keys."""
