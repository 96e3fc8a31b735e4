"""What a request says about its sender: the API key it presents, and the address it comes from. Pure."""

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from ytmp3.core.client import Network

IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that identify a client. One subscriber has a whole /64, so a limit by single address would be
no limit at all."""
MAX_HOPS: Final = 8
"""How many entries of `X-Forwarded-For` are read, from the right. No chain of proxies is longer, but a header may hold
a hundred thousand entries."""


def presented_secret(api_key: Sequence[str], authorization: Sequence[str]) -> str | None:
    """Return the secret in `X-API-Key` or `Authorization: Bearer`; None if there is none, or more than one."""
    secrets = list(api_key)
    for field in authorization:
        scheme, _, token = field.partition(" ")
        secrets.append(token.strip() if scheme.lower() == "bearer" else "")
    return secrets[0] if len(secrets) == 1 and secrets[0] else None


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the address that a client's limits apply to.

    It is the right-most hop that is not a trusted proxy. `X-Forwarded-For` is read only if the peer itself is trusted,
    because any client can send that header. An IPv6 address is returned as its /64 network.
    """
    address = _parse(peer)
    if address is None:
        return "unknown"
    for hop in islice(_from_the_right(forwarded_for), MAX_HOPS):
        previous = _parse(hop) if _is_in(address, trusted) else None
        if previous is None:
            break
        address = previous
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def is_trusted(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Tell whether the `X-Forwarded-For` of this peer is read."""
    address = _parse(peer)
    return address is not None and _is_in(address, trusted)


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _from_the_right(fields: Sequence[str]) -> Iterator[str]:
    """Yield the hops, last one first, without splitting more of the fields than is consumed."""
    for field in reversed(fields):
        rest, comma = field, ","
        while comma:
            rest, comma, hop = rest.rpartition(",")
            yield hop.strip()


def _parse(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, without its zone; one of IPv4 written as IPv6 (`::ffff:192.0.2.1`) as IPv4."""
    try:
        address = ipaddress.ip_address((text or "").split("%", 1)[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
