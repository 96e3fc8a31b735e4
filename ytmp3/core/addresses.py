"""Tells public Internet addresses, to which downloads and webhooks may connect, from all others. Pure.

Not built on `ipaddress.is_global`, whose result differs between Python versions and which accepts tunnel addresses,
whose far end may be anywhere. Refused are all networks in the lists below, and all IPv6 addresses outside 2000::/3, the
block from which public addresses are assigned (IANA, "IPv6 Global Unicast Address Assignments").
"""

import ipaddress
from typing import Final

_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to this machine
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also a cloud's metadata service (100.100.100.200)
        "127.0.0.0/8",  # this machine
        "168.63.129.16/32",  # Azure's internal services
        "169.254.0.0/16",  # link-local; clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_ASSIGNED_V6: Final = ipaddress.IPv6Network("2000::/3")
"""Does not contain ::/96, ::ffff:0:0/96, 64:ff9b::/32 (NAT64), 100::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10 and
ff00::/8, so these need no entry below."""

_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, returned
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """Whether a numeric address, as `getaddrinfo` returns it, is a public one. False for any other text."""
    try:
        literal = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(literal, ipaddress.IPv4Address):
        return not any(literal in network for network in _REFUSED_V4)
    # Only link-local addresses have a scope (fe80::1%eth0).
    if literal.scope_id is not None or literal not in _ASSIGNED_V6:
        return False
    return not any(literal in network for network in _REFUSED_V6)
