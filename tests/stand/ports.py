"""Free TCP ports on loopback, for servers that have to be told their port before they start."""

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FIRST_PORT: Final = 10_000
PORTS_OF_A_PROCESS: Final = 1_000
"""How many ports one process may try. Most workers of a test run have neighbouring process ids, hence other ports."""


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


@functools.cache
def _reservations() -> int:
    """Return the descriptor of a file whose byte N is locked by the process that has reserved port N."""
    path = Path(tempfile.gettempdir(), f"ytmp3-test-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _reserve(port: int) -> bool:
    """Reserve a port until the end of this process; return whether no other process had reserved it."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port on which nothing listens, and which neither this process nor another one has returned before.

    Raises:
        RuntimeError: all ports of this process are taken.
    """
    for port in itertools.islice(_CANDIDATES, PORTS_OF_A_PROCESS):
        # Two processes may try the same ports, and each of them starts its server only a while after this call.
        if not _reserve(port):
            continue
        with socket.socket() as probe:
            # As servers do: a port with closed connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
