"""Which addresses are somebody else's, out on the Internet: the only ones that a download may connect to. Pure.

Not built on `ipaddress.is_global`: what that says differs between Python versions, and it takes tunnels for global
whose far end may be anywhere. Whatever stands in a list below is refused, and of IPv6 all outside 2000::/3, which holds
every address that has been given out (IANA, "IPv6 Global Unicast Address Assignments").
"""

import ipaddress
from typing import Final

_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to this machine
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT; also clouds' metadata (100.100.100.200)
        "127.0.0.0/8",  # this machine
        "168.63.129.16/32",  # Azure's own services
        "169.254.0.0/16",  # link; clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata
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
_GIVEN_OUT_V6: Final = ipaddress.IPv6Network("2000::/3")
"""So ::/96, ::ffff:0:0/96, 64:ff9b::/32 (NAT64), 100::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10, ff00::/8 are not
in it."""

_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments; Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, given back
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """Whether an address as `getaddrinfo` gives it is out on the Internet. What is no address is not."""
    try:
        literal = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(literal, ipaddress.IPv4Address):
        return not any(literal in network for network in _REFUSED_V4)
    # A scope (fe80::1%eth0) belongs to link addresses only.
    if literal.scope_id is not None or literal not in _GIVEN_OUT_V6:
        return False
    return not any(literal in network for network in _REFUSED_V6)
