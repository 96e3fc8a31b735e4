"""Whose bucket a request is taken from, whatever it claims, and what remembering it may cost (goals S10, L13)."""

import gc
import ipaddress
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from ytmp3.http.admission import REMEMBERED_PEERS, Admission, RateLimits
from ytmp3.http.keys import Keys
from ytmp3.http.settings import RateLimitSettings

STRANGER, PROXY = "198.51.100.7", "10.0.0.1"
# A plain protocol: aiohttp's stand-in remembers each look at it.
PLAIN = make_mocked_request(
    "GET", "/stats", protocol=SimpleNamespace(ssl_context=None, peername=None, sockname=None), transport=None
)
MIB = 2**20


def gate() -> Admission:
    limits = RateLimits(
        RateLimitSettings(
            requests_per_second=1e6, burst_size=1_000_000, client_requests_per_second=1, client_burst_size=1
        )
    )
    proxies = (ipaddress.ip_network("10.0.0.0/8"),)
    return Admission(keys=Keys(None), limits=limits, trusted_proxies=proxies, chance=random.Random(1).random)


def asked(peer: str, *forwarded_for: str) -> web.Request:
    headers = CIMultiDict(("X-Forwarded-For", field) for field in forwarded_for)
    return PLAIN.clone(remote=peer, headers=headers)


def owners(gate: Admission, requests: Iterable[web.Request]) -> set[str]:
    return {gate.identify(request).owner for request in requests}


@contextmanager
def memory_kept() -> Iterator[Callable[[], int]]:
    """What the block has left behind, in bytes: known when it is over."""
    tracemalloc.start()
    try:
        kept = 0
        yield lambda: kept
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def test_ten_thousand_headers_do_not_change_the_bucket_of_who_comes_directly() -> None:
    chance = random.Random(10)

    def hop() -> str:
        return chance.choice((str(ipaddress.ip_address(chance.getrandbits(32))), PROXY, "unknown", "", "::1"))

    requests = (asked(STRANGER, *(", ".join(hop() for _ in range(3)) for _ in range(2))) for _ in range(10_000))
    assert owners(gate(), requests) == {f"addr:{STRANGER}"}


def test_long_headers_are_not_remembered() -> None:
    """Half a megabyte of header passes the parser: 64 fields of 8 kB."""
    asking = gate()
    with memory_kept() as kept:
        for peer, owner in ((STRANGER, f"addr:{STRANGER}"), (PROXY, "addr:192.0.2.1")):
            invented = (asked(peer, f"{number}" + ", 192.0.2.1" * 700) for number in range(2000))
            assert owners(asking, invented) == {owner}
    assert kept() < MIB


def test_what_is_remembered_of_many_clients_behind_a_proxy_is_little() -> None:
    asking = gate()
    with memory_kept() as kept:
        for number in range(2 * REMEMBERED_PEERS):
            asking.identify(asked(PROXY, "1" * 200 + f", 192.0.{number // 256}.{number % 256}"))
    assert kept() < 4 * MIB
