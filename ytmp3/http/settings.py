"""What an operator may choose about the HTTP side. Imports nothing heavy: `ytmp3 health` builds these values too."""

from msgspec import Struct

from ytmp3.core.client import Network


class RateLimitSettings(Struct, frozen=True, kw_only=True):
    """The sizes of the token buckets: one for all requests together, and one for each client."""

    requests_per_second: float
    burst_size: int
    client_requests_per_second: float = 0.0
    """0: a client is limited only together with all others."""
    client_burst_size: int = 0
    """0: twice the client's rate."""


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Rate limits, proxies, downloads and CORS."""

    rate_limits: RateLimitSettings
    trusted_proxies: tuple[Network, ...] = ()
    """Peers whose X-Forwarded-For names the client."""
    client_max_downloads: int = 0
    """Tracks sent to one client at once by this instance itself; 0: no limit for each client."""
    accel_redirect_prefix: str = ""
    """The internal nginx location that maps to the tracks; empty: this process sends the files."""
    access_log: bool = False
    """Whether each request is logged at level info, instead of debug."""
    cors_origins: frozenset[str] = frozenset()
    """Web origins whose pages may call the API from a browser."""
    public_path: str = ""
    """The path below which a proxy serves the service, without a slash at its end; empty: the root of a host."""
