"""The part of the table of environment variables (`variables`) that is about Redis."""

import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

from ytmp3.jobstore.settings import addresses_of
from ytmp3.setting_forms import Variable, any_text, integer_within, one_of

REDIS_OPTIONS: Final = frozenset(
    {"db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)
"""The options that may follow the address in its query. redis-py takes more, but some of them break the service."""


def redis_prefix(text: str) -> str:
    """Return a prefix of Redis keys: no braces, which would change the hash tags, and no characters of patterns."""
    if re.fullmatch(r"[A-Za-z0-9._-]{0,64}", text) is None:
        raise ValueError
    return text


def redis_address(text: str) -> str:
    """Return the address of a Redis, or the addresses of nodes of a Redis Cluster; empty for none."""
    if not text:
        return ""
    is_cluster, urls = addresses_of(text)
    for url in urls:
        # A bare name is more often a mistake than a host, so only a URL may leave the port out.
        if _database_of(url, may_omit_port="://" in text) and is_cluster:
            # A cluster has only database 0.
            raise ValueError
    return text


def _database_of(url: str, *, may_omit_port: bool) -> int:
    """Check the URL of one server. Returns the number of its database."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss", "unix"} or (parts.scheme != "unix" and not parts.hostname):
        raise ValueError
    if parts.scheme != "unix" and parts.port is None and not may_omit_port:
        raise ValueError
    options = parse_qs(parts.query, keep_blank_values=True)
    if not REDIS_OPTIONS.issuperset(options):
        raise ValueError
    if parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*", parts.path, re.ASCII):
        # The path is the number of the database. redis-py takes any other text for 0.
        raise ValueError
    number = options.get("db", [parts.path.lstrip("/")])[0] if parts.scheme != "unix" else "0"
    return int(number or 0)


REDIS_VARIABLES: Final[tuple[Variable, ...]] = (
    Variable(
        name="REDIS_ADDR",
        default="",
        form="host:port, or a redis://, rediss:// or unix:// URL; of a Redis Cluster host:port,host:port, or a "
        "cluster:// or clusters:// (TLS) URL, without a database",
        meaning="Redis as job store of several instances, or some nodes of a Redis Cluster. Empty: an embedded SQLite "
        "store, for one instance.",
        parse=redis_address,
    ),
    Variable(name="REDIS_PASSWORD", default="", form="text", meaning="Password of Redis.", parse=any_text),
    Variable(
        name="REDIS_DB",
        default="0",
        form="an integer from 0 to 1023",
        meaning="Number of the Redis database. A Redis Cluster has only database 0.",
        parse=integer_within(0, 1023),
    ),
    Variable(
        name="REDIS_PREFIX",
        default="",
        form="at most 64 letters, digits, dots, dashes and underscores",
        meaning="Beginning of all keys in Redis, so that several installations can use one database. Each installation "
        "needs its own `DATA_DIR`. With another prefix, earlier jobs are unknown.",
        parse=redis_prefix,
    ),
    Variable(
        name="REDIS_REPLICA_READS",
        default="off",
        form="on or off",
        meaning="`on`: the status of jobs is read from replicas of a Redis Cluster, which relieves the primaries. It "
        "may be up to 3 s old, but never older than what the same instance has written.",
        parse=one_of("on", "off"),
    ),
)
"""In the order of the documentation."""
