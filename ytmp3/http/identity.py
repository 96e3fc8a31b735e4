"""Extracts the API key and the client's address from a request. Pure."""

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from ytmp3.core.client import Network

IPV6_PREFIX: Final = 64
"""Number of leading bits of an IPv6 address that identify a client. A subscriber usually has a whole /64, and could
evade a limit by single addresses."""
MAX_HOPS: Final = 8
"""Most entries of `X-Forwarded-For` that are read, from the right. Chains of proxies are shorter, but a client may send
a hundred thousand entries."""


def presented_secret(api_key: Sequence[str], authorization: Sequence[str]) -> str | None:
    """Return the secret in `X-API-Key` or `Authorization: Bearer`; None if there is none, or more than one."""
    secrets = list(api_key)
    for field in authorization:
        scheme, _, token = field.partition(" ")
        secrets.append(token.strip() if scheme.lower() == "bearer" else "")
    return secrets[0] if len(secrets) == 1 and secrets[0] else None


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the address that identifies a client: the right-most hop that is not a trusted proxy.

    `X-Forwarded-For` is read only if the peer itself is trusted, because any client can send that header. An IPv6
    address is returned as its /64 network.
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
    """Return whether the peer is a trusted proxy, so that its `X-Forwarded-For` is read."""
    address = _parse(peer)
    return address is not None and _is_in(address, trusted)


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _from_the_right(fields: Sequence[str]) -> Iterator[str]:
    """Yield the hops, the last one first. The fields are split only as far as the caller reads."""
    for field in reversed(fields):
        rest, comma = field, ","
        while comma:
            rest, comma, hop = rest.rpartition(",")
            yield hop.strip()


def _parse(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address, without its zone. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is returned as IPv4."""
    try:
        address = ipaddress.ip_address((text or "").split("%", 1)[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
