"""Who a job belongs to."""

import ipaddress

from msgspec import Struct

from ytmp3.core.ids import ClientId

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ApiKey(Struct, frozen=True, kw_only=True):
    """One accepted key: the hash of the secret, and limits of its own (None: those of every client)."""

    name: str
    digest: bytes
    requests_per_second: float | None = None
    burst: int | None = None
    max_jobs: int | None = None


class Client(Struct, frozen=True, kw_only=True):
    """Whoever made a request. `owner` is what a job remembers of it."""

    owner: ClientId
    key: ApiKey | None = None
