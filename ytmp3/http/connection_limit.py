"""Bounds the number of open connections, so that idle ones cannot take the descriptors that conversions need.

Each connection is a descriptor, and a process has a limited number (RLIMIT_NOFILE). The rule: some of them are
reserved for conversions and downloads, and clients share the rest. A connection beyond the limit is closed at once,
without a response.
"""

import functools
import resource
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ytmp3.core.client import Network
from ytmp3.core.sharing import Places, may_take_more
from ytmp3.http.download import MAX_TRANSFERS
from ytmp3.http.identity import client_address, is_trusted
from ytmp3.metrics import Metrics

MAX_DESCRIPTORS: Final = 65_536
"""The limit of open descriptors that this process sets for itself (RLIMIT_NOFILE), if the hard limit allows it. Each
connection needs one, so this allows far more connections than one process can serve."""
ACCEPTED_AT_ONCE: Final = 64
"""Most connections that the event loop accepts before it processes one of them. So this many descriptors may briefly be
in use beyond the limit."""
OWN_DESCRIPTORS: Final = 128
"""Descriptors that the process itself uses: for the job store, the log, the zygote, and files that threads read."""
DESCRIPTORS_OF_CONVERSION: Final = 16
"""Most descriptors of one conversion: its spool, track and cover, and the pipes to its child processes."""
SMALLEST_SHARE: Final = 4
"""If RLIMIT_NOFILE is very low, connections still get one descriptor in this many. The service then responds, but
conversions may fail."""
REMEMBERED_PEERS: Final = 4096
"""Most peers whose parsed addresses are cached."""


def most_connections(descriptors: int, *, conversions: int, transfers: int) -> int:
    """Return how many connections a process with this many descriptors may have.

    `conversions` and `transfers` are the most that may be in progress at once. A transfer needs a descriptor for its
    file, besides its connection.
    """
    reserved = ACCEPTED_AT_ONCE + OWN_DESCRIPTORS + DESCRIPTORS_OF_CONVERSION * conversions + transfers
    return max(descriptors - reserved, descriptors // SMALLEST_SHARE)


class ConnectionLimit:
    """Counts the open connections, in total and for each address. `may_take_more` is the rule for sharing them.

    A trusted proxy has connections for many clients, so only the limit of all connections applies to it.
    """

    def __init__(self, most: int, trusted_proxies: Sequence[Network] = ()) -> None:
        self._most = most
        self._trusted = trusted_proxies
        self._by_address: Counter[str] = Counter()
        """The open connections of each address. Addresses without one are not in it."""
        self.open = 0
        """The number of open connections."""
        self.refused = Counter(address=0, all=0)
        """The number of connections that were closed at once since the start, by the exceeded limit."""
        self._known_address = functools.lru_cache(maxsize=REMEMBERED_PEERS)(self._address)

    def admit(self, peer: str | None) -> bool:
        """Count a new connection if it is within the limits; return whether it is."""
        address, is_proxy = self._known_address(peer)
        held = 0 if is_proxy else self._by_address[address]
        if not may_take_more(held, self.open, self._most):
            self.refused["address" if self.open < self._most else "all"] += 1
            return False
        self._by_address[address] += 1
        self.open += 1
        return True

    def closed(self, peer: str | None) -> None:
        """Record the end of a connection that was admitted."""
        address, _ = self._known_address(peer)
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _address(self, peer: str | None) -> tuple[str, bool]:
        return client_address(peer, (), ()), is_trusted(peer, self._trusted)


def limit_of_process(trusted_proxies: Sequence[Network], places: Places, metrics: Metrics) -> ConnectionLimit:
    """Return the limit for the descriptors that this process may have now, and register its metrics.

    `places` are those of running conversions.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = most_connections(
        MAX_DESCRIPTORS if descriptors == resource.RLIM_INFINITY else descriptors,
        conversions=places.count + places.spare,
        transfers=MAX_TRANSFERS,
    )
    limit = ConnectionLimit(most, trusted_proxies)
    metrics.gauge("ytmp3_connections", "Open connections.", lambda: limit.open)
    metrics.counts(
        "ytmp3_connections_refused",
        "Connections closed at once, by the limit: of one address, or of all.",
        "limit",
        lambda: limit.refused,
    )
    return limit
