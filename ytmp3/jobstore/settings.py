"""The settings of the job stores. `config` makes them from the environment, so nothing here imports an adapter."""

from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from ytmp3.core.batch import LONGEST_SECONDS

_CLUSTER_SCHEMES: Final = {"cluster": "redis", "clusters": "rediss"}
"""The schemes that name a Redis Cluster, and how its nodes are reached: without and with TLS."""


class Policy(Struct, frozen=True, kw_only=True):
    """The limits that both adapters apply."""

    lease_seconds: float
    """Length of a lease. If the holder does not renew it for this long, any instance may adopt the conversion."""
    retention_seconds: float
    """How long an ended conversion, its jobs and its file are kept, and how long a finished conversion takes new jobs.
    A job waits at most this long for its first attempt."""
    crash_limit: int
    """Number of crashes, each with the conversion running, after which it fails with `poison`
    (`states.CRASH_LIMIT`)."""
    jobs_of_conversion: int = 10_000
    """Most jobs of one conversion; the next job of its key creates a new conversion. They take about 3.5 MB in the
    store. They are so many that one conversion more costs next to nothing for each of them."""
    jobs_at_once: int = 2000
    """Most jobs that one step of `expire` removes. A step delays all other calls: by 12 ms in SQLite and 20 ms in
    Valkey on 2 cores. Removing a conversion with 100,000 jobs in a single step took 260 and 410 ms."""

    @property
    def longest_life_seconds(self) -> float:
        """Upper bound of the time for which a job exists, in seconds.

        It waits for at most two retentions, its attempt takes an hour at most, and then it is kept for one retention,
        which a job that joins later may extend to two.
        """
        return 4 * self.retention_seconds + 3600

    @property
    def longest_life_of_batch_seconds(self) -> float:
        """Upper bound of the time for which a batch exists, in seconds: its last job may begin at LONGEST_SECONDS."""
        return LONGEST_SECONDS + self.longest_life_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The address and the password of Redis."""

    address: str = field(repr=False)
    """`host:port`, or a redis://, rediss:// or unix:// URL; of a Redis Cluster, also a list (`addresses_of`). A URL may
    hold the password, so it is not shown."""
    password: str = field(default="", repr=False)
    """The password; if it is empty, the one in the URL is used."""
    db: int = 0
    """The number of the database; if it is 0, the one in the URL is used."""
    prefix: str = ""
    """The beginning of the names of all keys and channels; if it is empty, they begin with `ytmp3:`."""
    reads_replicas: bool = False
    """Whether the status of jobs is read from replicas of a Redis Cluster."""


def addresses_of(text: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether an address names a Redis Cluster, and the URLs of the servers that it names.

    Several hosts, separated by commas, are nodes of one cluster. With one host, only the scheme tells a cluster from a
    single server. User, password and options apply to every node.
    """
    scheme, _, rest = text.partition("://") if "://" in text else ("redis", "", text)
    if scheme == "unix":
        return False, (text,)
    end = min((place for sign in "/?#" if (place := rest.find(sign)) >= 0), default=len(rest))
    login, at, hosts = rest[:end].rpartition("@")
    nodes = [node.strip() for node in hosts.split(",")]
    start = f"{_CLUSTER_SCHEMES.get(scheme, scheme)}://{login}{at}"
    return len(nodes) > 1 or scheme in _CLUSTER_SCHEMES, tuple(f"{start}{node}{rest[end:]}" for node in nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTimeouts:
    """The timeouts of calls. Only tests use other values than the defaults."""

    handler_seconds: float = 0.22
    """Longest time from sending a command to its complete reply, for calls that an HTTP request waits for. The deadline
    may be 30 ms late (`link.DEADLINE_STEP_SECONDS`), so a call ends within 250 ms, and the response within 300 ms."""
    worker_seconds: float = 2.0
    """The same for calls that only a worker or a housekeeping loop waits for."""
    connect_seconds: float = 2.0
    """Longest time to open a connection. If a call opens one, the call's own timeout applies too."""
    pool_seconds: float = 5.0
    """Longest wait for a free connection while the server replies to other calls. Measured on 2 cores, with the clients
    on the same machine: the last of 1,000 simultaneous POSTs waits 0.5 s, the last of 3,000 waits 1.6 s."""
    rest_seconds: float = 0.15
    """After a failure, how long every call fails at once, before one call tries the server again."""
