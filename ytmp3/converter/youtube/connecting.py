"""Connects to a host that has several addresses, some of which may be dead ("happy eyeballs", RFC 8305).

IPv6 and IPv4 addresses alternate. Each attempt gets a quarter of a second before the next one starts beside it, and the
first that succeeds is taken. yt-dlp tries addresses one after the other, each with the whole time limit: an IPv6
address that leads nowhere costs 20 s for every connection of a conversion.
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
"""How long an attempt runs before the next one starts: RFC 8305, section 8."""

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

AddressInfo = tuple[int, int, int, str, Any]
"""One result of `getaddrinfo`: family, type, protocol, canonical name, address."""


def alternated(addresses: Iterable[AddressInfo]) -> list[AddressInfo]:
    """Return the addresses with alternating families, the first one's family first. Within a family the order stays."""
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rows = itertools.zip_longest(*families.values())
    return [address for row in rows for address in row if address is not None]


class Route:
    """The IP version and the own address of all connections of one conversion.

    YouTube's links are valid for the address that asked for them. A conversion that asked over IPv6 and fetches over
    IPv4 gets status 403. So the version of the first connection is kept, until a fresh extraction begins.
    """

    def __init__(self, family: str = "auto", source: str | None = None) -> None:
        if source is not None:
            family = "6" if ":" in source else "4"
        self._fixed = _FAMILIES.get(int(family)) if family.isdecimal() else None
        self._family: int | None = self._fixed
        self._source = source

    @property
    def version(self) -> int | None:
        """IP version of the connections since the last extraction began: 4 or 6; None: there was none."""
        return next((version for version, family in _FAMILIES.items() if family == self._family), None)

    def forget(self) -> None:
        """Allow another IP version again: links that come now are for the address that asks now."""
        self._family = self._fixed

    def connect(self, addresses: Iterable[AddressInfo], seconds: float) -> socket.socket:
        """Connect to one of the addresses; see `connect_to_first`.

        A host that has no address of the kept version is reached by the other one, unless the operator has fixed it.
        """
        known = list(addresses)
        allowed = [address for address in known if self._family in {None, address[0]}]
        if not allowed and self._fixed is None:
            allowed = known
        connection = connect_to_first(allowed, seconds, self._source)
        if self._family is None:
            self._family = connection.family
        return connection


def connect_to_first(addresses: Iterable[AddressInfo], seconds: float, source: str | None = None) -> socket.socket:
    """Return a connection to the first address that accepts one. `seconds` bounds this call, and each read later.

    `source` is the numeric address of this machine to connect from.

    Raises:
        TimeoutError: none accepted one in time.
        OSError: all failed.
    """
    deadline = time.monotonic() + seconds
    untried = alternated(addresses)
    error: OSError = OSError("no address to connect to")
    with selectors.DefaultSelector() as tried:
        try:
            while (untried or tried.get_map()) and (left := deadline - time.monotonic()) > 0:
                if untried:
                    left = min(left, HEAD_START_SECONDS)
                    try:
                        tried.register(_begin(untried.pop(0), source), selectors.EVENT_WRITE)
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


def _begin(address: AddressInfo, source: str | None) -> socket.socket:
    """Return a socket that is connecting, without waiting for it. Raises OSError where that fails at once."""
    family, kind, protocol, _, target = address
    connection = socket.socket(family, kind, protocol)
    if source is not None:
        try:
            connection.bind((source, 0))
        except OSError:
            connection.close()
            raise
    connection.setblocking(False)  # noqa: FBT003  positional only
    if (number := connection.connect_ex(target)) not in {0, errno.EINPROGRESS}:
        connection.close()
        raise OSError(number, os.strerror(number))
    return connection


def _decided(tried: selectors.BaseSelector, seconds: float) -> Iterator[socket.socket]:
    """Wait, and yield the sockets that have connected or failed. They belong to the caller then."""
    for key, _ in tried.select(seconds):
        connection = tried.unregister(key.fileobj).fileobj
        assert isinstance(connection, socket.socket)
        yield connection
