"""The settings of the HTTP layer. Imports only light modules, because the command `ytmp3 health` loads this one too."""

from msgspec import Struct

from ytmp3.core.client import Network


class RateLimitSettings(Struct, frozen=True, kw_only=True):
    """The sizes of the token buckets: one for all requests together, and one for each client."""

    requests_per_second: float
    burst_size: int
    client_requests_per_second: float = 0.0
    """0: no limit for each client; only the limit for all requests together applies."""
    client_burst_size: int = 0
    """0: twice `client_requests_per_second`."""


class HttpSettings(Struct, frozen=True, kw_only=True):
    """Rate limits, proxies, downloads and CORS."""

    rate_limits: RateLimitSettings
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of reverse proxies. Only from them, `X-Forwarded-For` is used to find the client's address."""
    client_max_downloads: int = 0
    """Most tracks that this process sends to one client at once; 0: as many as it leaves free for others."""
    max_streams: int = 0
    """Most event streams that this process has open at once; 0: no limit."""
    client_max_streams: int = 0
    """Most event streams of one client at once; 0: no limit for each client."""
    accel_redirect_prefix: str = ""
    """nginx's internal location for the tracks folder; empty: this process sends the files."""
    access_log: bool = False
    """Whether each request is logged at level info, instead of debug."""
    cors_origins: frozenset[str] = frozenset()
    """Web origins whose pages may call the API from a browser."""
    download_link_seconds: int = 0
    """How long a signed link to a track lasts, where API keys are in use; 0: downloads need the key."""
    public_url: str = ""
    """Where clients reach the service, without a slash at its end (PUBLIC_URL); empty: unknown."""
    public_path: str = ""
    """The path below which a proxy serves the service, without a slash at its end; empty: the root of a host."""
    page: bool = True
    """Whether the web page is served at `/`."""
