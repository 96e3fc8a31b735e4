"""A server that answers no packet of a new connection, like a host behind a firewall that drops packets."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

FILLERS: Final = 4
"""More connections than a queue of length 0 takes."""


@contextmanager
def silent_address(host: str = "127.0.0.1") -> Iterator[tuple[Any, ...]]:
    """Yield the address (`getsockname`) of a server whose queue of connections is full until the block ends."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, 0))
        listener.listen(0)
        address: tuple[Any, ...] = listener.getsockname()
        for _ in range(FILLERS):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address
