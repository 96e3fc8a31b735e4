"""How to connect: redis-py's options for the servers that REDIS_ADDR names.

redis-py parses the URLs and makes the connections. Its client, its retries and its timeouts are not used: `link` has
its own, because a request must be answered in a fraction of a second while Redis is down. No text here repeats an
address that could not be parsed, because it may contain a password.
"""

from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ytmp3.core.errors import StoreUnusable
from ytmp3.jobstore.settings import RedisSettings, RedisTimeouts, addresses_of

Options = dict[str, Any]
"""redis-py's options of a connection."""
Address = tuple[str, int]
"""Host and port of a server."""


def servers_of(settings: RedisSettings, timeouts: RedisTimeouts) -> tuple[bool, list[Options]]:
    """Return whether the address names a Redis Cluster, and the options of the servers that it names.

    Raises:
        StoreUnusable: the address is not valid.
    """
    is_cluster, urls = addresses_of(settings.address)
    servers = [_options(url, settings, timeouts) for url in urls]
    if is_cluster and any(options.get("db") for options in servers):
        raise StoreUnusable("REDIS_DB: expected 0, the only database of a Redis Cluster")
    return is_cluster, servers


def address_of(options: Options) -> Address:
    """Return host and port."""
    return str(options.get("host", "localhost")), int(options.get("port", 6379))


def server_name(options: Options) -> str:
    """Return how the server is named in texts."""
    if "path" in options:
        return str(options["path"])
    return "{}:{}".format(*address_of(options))


def _options(url: str, settings: RedisSettings, timeouts: RedisTimeouts) -> Options:
    """Return redis-py's options. Its own retries and timeouts are off, because they add up to seconds."""
    try:
        options: Options = dict(parse_url(url))
    except ValueError:
        # The address may hold a password, so it is not repeated.
        raise StoreUnusable("REDIS_ADDR: expected host:port, or a redis://, rediss:// or unix:// URL") from None
    if settings.password:
        options["password"] = settings.password
    if settings.db:
        options["db"] = settings.db
    options.setdefault("connection_class", Connection)
    return {
        **options,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": timeouts.connect_seconds,
        "driver_info": None,
    }
