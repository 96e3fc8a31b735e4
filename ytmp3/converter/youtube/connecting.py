"""One connection to a host that has several addresses, of which some may be dead: "happy eyeballs" (RFC 8305).

IPv6 and IPv4 by turns, each with a quarter of a second's start before the next one; the first that answers is taken.
Tried one after the other, each with the whole time limit, as yt-dlp does it, an IPv6 that leads nowhere cost 20 s of
every connection of a conversion.
"""

import errno
import itertools
import os
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

HEAD_START_SECONDS: Final = 0.25
"""RFC 8305, section 8."""

Answer = tuple[int, int, int, str, Any]
"""As `getaddrinfo` gives it: family, type, protocol, canonical name, address."""


def by_turns(answers: Iterable[Answer]) -> list[Answer]:
    """Return the answers with the families alternating, the first answer's first; within a family the order stays."""
    families: dict[int, list[Answer]] = {}
    for answer in answers:
        families.setdefault(answer[0], []).append(answer)
    rows = itertools.zip_longest(*families.values())
    return [answer for row in rows for answer in row if answer is not None]


def connect_to_first(answers: Iterable[Answer], seconds: float) -> socket.socket:
    """Return a connection to the first of these addresses that takes one; its time limit is `seconds` too.

    Raises:
        OSError: none did. TimeoutError if time was the reason.
    """
    deadline = time.monotonic() + seconds
    untried = by_turns(answers)
    error: OSError = OSError("no address to connect to")
    with selectors.DefaultSelector() as tried:
        try:
            while (untried or tried.get_map()) and (left := deadline - time.monotonic()) > 0:
                if untried:
                    left = min(left, HEAD_START_SECONDS)
                    try:
                        tried.register(_begun(untried.pop(0)), selectors.EVENT_WRITE)
                    except OSError as refused:
                        error = refused
                        continue
                for connection in _decided(tried, left):
                    if not (number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        connection.settimeout(seconds)
                        return connection
                    connection.close()
                    error = OSError(number, os.strerror(number))
            if tried.get_map():
                error = TimeoutError("timed out")
        finally:
            for key in list(tried.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    raise error


def _begun(answer: Answer) -> socket.socket:
    """Return a socket that connects, without waiting for it. Raises OSError where that is known to lead nowhere."""
    family, kind, protocol, _, address = answer
    connection = socket.socket(family, kind, protocol)
    connection.setblocking(False)  # noqa: FBT003  positional only
    if (number := connection.connect_ex(address)) not in {0, errno.EINPROGRESS}:
        connection.close()
        raise OSError(number, os.strerror(number))
    return connection


def _decided(tried: selectors.BaseSelector, seconds: float) -> Iterator[socket.socket]:
    """Wait, and yield the sockets of which the end is known; they are the caller's."""
    for key, _ in tried.select(seconds):
        connection = tried.unregister(key.fileobj).fileobj
        assert isinstance(connection, socket.socket)
        yield connection
