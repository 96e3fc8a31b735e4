"""Free TCP ports on loopback, for servers that have to be told their port before they start."""

import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FIRST_PORT: Final = 10_000
PORTS_OF_A_PROCESS: Final = 1_000
"""How many ports one process may try. Workers of one test run have neighbouring process ids, hence other ports."""


def _candidates() -> Iterator[int]:
    """All ports of this process, over and over.

    They lie below the range from which the kernel takes the local ports of outgoing connections. A port from that range
    could be taken by any connection between the check here and the start of the server.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    slices = max(1, (first_ephemeral - FIRST_PORT) // PORTS_OF_A_PROCESS)
    first = FIRST_PORT + os.getpid() % slices * PORTS_OF_A_PROCESS
    return itertools.cycle(range(first, first + PORTS_OF_A_PROCESS))


_CANDIDATES: Final = _candidates()


def free_port() -> int:
    """Return a port on which nothing listens, and which this process has not returned before.

    Raises:
        RuntimeError: all ports of this process are taken.
    """
    for port in itertools.islice(_CANDIDATES, PORTS_OF_A_PROCESS):
        with socket.socket() as probe:
            # As servers do: a port with closed connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
